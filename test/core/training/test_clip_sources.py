# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What `--data` means, what is held out of it, and its batches made ahead by other processes."""

from __future__ import annotations

import functools
import itertools
import logging
from fractions import Fraction

import pytest
import torch

from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.synthetic.clips import ClipBatch, SyntheticClips
from dvmvs_core.training import clip_sources as data
from dvmvs_core.training import training_run as runs
from dvmvs_core.training.clip_sources import HeldOutWorlds, held_out_clips, parse_data, training_sources
from dvmvs_core.training.streams import ClipStream, StreamPart, mix
from dvmvs_core.training.training_scenes import SceneClips

SIZE = (32, 32)


@pytest.fixture(autouse=True)
def quick_worlds(monkeypatch) -> None:
    monkeypatch.setattr(data, "SyntheticClips", functools.partial(SyntheticClips, textures=8))


def opened(parts, frames=3):
    return training_sources(parts, SIZE, frames, seed=0)


def test_parts_with_and_without_weights(tmp_path) -> None:
    odd = tmp_path / "a:b"
    odd.mkdir()
    parts = parse_data(("synthetic:0.7", f"{tmp_path}:0.3", str(odd)))
    assert [part.name for part in parts] == ["synthetic", str(tmp_path), str(odd)]
    assert [part.weight for part in parts] == [Fraction(7, 10), Fraction(3, 10), 1]
    assert [part.synthetic for part in parts] == [True, False, False]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (("synthetic:0",), "must be positive"),
        (("synthetic:-1",), "must be positive"),
        (("/no/such/folder:0.5",), "is no folder"),
        (("synthetc",), "is no folder"),
        ((), "at least one"),
    ],
)
def test_parts_that_cannot_be(entries, message) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_data(entries)


def test_worlds_are_not_offered_where_they_cannot_be_rendered() -> None:
    with pytest.raises(ConfigError, match=r"must be a folder that holds train\.txt; 'x' .* as in FOLDER:0\.7"):
        parse_data(("x",), rendered=False)


def test_worlds_are_validated_on_other_worlds() -> None:
    parts = parse_data(("synthetic",))
    held = held_out_clips(parts, opened(parts), SIZE, 3, batch_size=1, batches=2)
    assert (len(held.calibration), len(held.validation)) == (2, 2)
    trained = opened(parts)[0].batch(1, 0)
    assert all(not (batch.image == trained.image).all() for batch in (*held.calibration, *held.validation))


def test_held_out_worlds_look_the_same_at_any_size() -> None:
    worlds = HeldOutWorlds((64, 64), 5)
    large, small = worlds.batches((64, 64), 5, 2, 1)[0], worlds.batches((32, 32), 3, 1, 2)
    assert [batch.depth.shape for batch in small] == 2 * [(1, 3, 32, 32)]
    drawn = SyntheticClips(64, 64, 5, seed=data.HELD_OUT_SEED, textures=8).batch(2, 0)
    assert all(torch.allclose(one.float(), other.float(), atol=1e-5) for one, other in zip(large, drawn, strict=True))
    for number, batch in enumerate(small):
        assert torch.allclose(batch.K[0, :2, 2] + 0.5, (large.K[number, :2, 2] + 0.5) / 2, atol=1e-4)
        depth = torch.nn.functional.avg_pool2d(large.depth[number, :3], 2)
        # Between pixels with an edge in them, depth is that of either side.
        assert ((batch.depth[0] / depth - 1).abs() < 0.05).float().mean() > 0.8
        image = torch.nn.functional.avg_pool2d(large.image[number, :3].float(), 2)
        assert (batch.image[0].float() - image).abs().mean() < 0.3 * image.std()


def test_folder_is_validated_on_its_validation_scenes(training_folder) -> None:
    parts = parse_data((str(training_folder),))
    held = held_out_clips(parts, opened(parts), SIZE, 3, batch_size=2, batches=2)
    assert {batch.image.shape[1:] for batch in held.validation} == {(3, 3, *SIZE)}
    # The two scenes of the fixture have walls at different distances.
    assert {float(batch.depth.max()) for batch in held.calibration} == {2.0}
    assert {float(batch.depth.max()) for batch in held.validation} == {3.0}


def test_nothing_to_validate_with_is_refused_and_worlds_will_do(training_folder, caplog) -> None:
    (training_folder / "validation.txt").write_text("")
    parts = parse_data((str(training_folder),))
    with pytest.raises(ConfigError, match="nothing to validate with"):
        held_out_clips(parts, opened(parts), SIZE, 3, 1, 1)
    parts = parse_data((str(training_folder), "synthetic"))
    with caplog.at_level(logging.WARNING):
        held = held_out_clips(parts, opened(parts), SIZE, 3, 1, 1)
    assert len(held.validation) == 1
    assert "it is not validated on" in caplog.text


def test_folder_without_scenes_to_train_on_is_refused(training_folder) -> None:
    (training_folder / "train.txt").write_text("")
    with pytest.raises(DataError, match="at least one scene to train on"):
        opened(parse_data((str(training_folder),)))


def test_what_a_folder_leaves_out_is_told(training_folder, caplog) -> None:
    (training_folder / "train.txt").write_text("s0\n" + "".join(f"missing{number}\n" for number in range(5)))
    opened(parse_data((str(training_folder),)))
    assert "left out 5: missing0" in caplog.text
    assert "and 2 more" in caplog.text


class Numbered:
    """A source whose batches are the numbers of their clips."""

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset

    def batch(self, batch_size: int, index: int) -> ClipBatch:
        numbers = torch.arange(batch_size) + index * batch_size + self.offset
        return ClipBatch(numbers, numbers, numbers, numbers)


def numbers(stream, step, count):
    return [batch.image.tolist() for batch in itertools.islice(stream(step), count)]


def test_two_processes_take_turns_with_the_batches_of_one() -> None:
    part = StreamPart(Numbered(), Fraction(1), workers=0)
    together = numbers(ClipStream([part], 4), 5, 3)
    ranks = [numbers(ClipStream([part], 2, rank, 2), 5, 3) for rank in range(2)]
    assert [first + second for first, second in zip(*ranks, strict=True)] == together


def test_stream_of_a_mix_goes_on_from_any_step() -> None:
    stream = ClipStream([StreamPart(Numbered(), Fraction(2), 0), StreamPart(Numbered(1000), Fraction(1), 0)], 2)
    assert numbers(stream, 4, 5) == numbers(stream, 0, 9)[4:]
    assert {number >= 1000 for batch in numbers(stream, 0, 9) for number in batch} == {False, True}


def test_several_workers_keep_the_order_and_tell_once_what_they_left_out(training_folder, caplog) -> None:
    (training_folder / "s0" / "000007.npz").write_bytes(b"PK")
    here, there = (SceneClips(training_folder, "train", 32, 32, 3) for _ in range(2))
    stream = ClipStream([StreamPart(there, Fraction(1), workers=2)], 2)
    for index, batch in enumerate(itertools.islice(stream(1), 5), start=1):
        for ours, theirs in zip(batch, here.batch(2, index), strict=True):
            assert torch.equal(ours, theirs)
    assert stream.skipped == here.skipped
    assert stream.skipped
    assert len(caplog.records) == len(stream.skipped)
    assert "000007.npz cannot be read" in caplog.text


def test_another_process_renders_the_same_worlds() -> None:
    source = SyntheticClips(32, 32, 2, seed=5, textures=8)
    batches = ClipStream([StreamPart(source, Fraction(1))], 1)(3)
    for index, batch in zip((3, 4), itertools.islice(batches, 2), strict=True):
        expected = source.batch(1, index)
        torch.testing.assert_close(batch.image, expected.image, atol=1, rtol=0.0)
        torch.testing.assert_close(batch.depth, expected.depth, atol=1e-3, rtol=1e-4)
        assert torch.equal(batch.world_T_cam, expected.world_T_cam)
        assert torch.equal(batch.K, expected.K)


def test_worlds_drawn_elsewhere_are_rendered_here() -> None:
    """As for a GPU: another process draws worlds and paths, and the batches are those of the source."""
    source = SyntheticClips(32, 32, 2, seed=5, textures=8)
    stream = ClipStream([StreamPart(source, Fraction(1), rendered_here=True)], 1)
    for index, batch in zip((3, 4, 5), itertools.islice(stream(3), 3), strict=True):
        expected = source.batch(1, index)
        for ours, theirs in zip(batch, expected, strict=True):
            assert torch.equal(ours, theirs)


def test_for_a_gpu_all_cores_but_one_draw(monkeypatch) -> None:
    monkeypatch.setattr(runs, "usable_cores", lambda: 8)
    assert runs._usual_workers(on_gpu=True) == 7 and runs._usual_workers(on_gpu=False) == 1
    monkeypatch.setattr(runs, "usable_cores", lambda: 1)
    assert runs._usual_workers(on_gpu=True) == 1


@pytest.mark.parametrize("weights", [(1,), (7, 3), (1, 1, 1), (5, 1, 4), ("0.7", "0.3")])
def test_parts_have_their_shares_and_their_own_numbers(weights) -> None:
    weights = [Fraction(weight) for weight in weights]
    seen: list[list[int]] = [[] for _ in weights]
    for index in range(1000):
        part, before = mix(index, weights)
        seen[part].append(before)
        for weight, own in zip(weights, seen, strict=True):
            assert abs(len(own) - (index + 1) * weight / sum(weights)) < 2
    assert all(own == list(range(len(own))) for own in seen)
