# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What `--data` means, and what is held out of it."""

from __future__ import annotations

import functools
import logging
from fractions import Fraction

import pytest
import torch

from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.synthetic.clips import SyntheticClips
from dvmvs_core.training import clip_sources as data
from dvmvs_core.training.clip_sources import HeldOutWorlds, held_out_clips, parse_data, training_sources

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
