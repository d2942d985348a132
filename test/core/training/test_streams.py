# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Batches made ahead by other processes: the same ones in the same order, however many make them."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
import torch

from dvmvs_core.synthetic.clips import ClipBatch, SyntheticClips
from dvmvs_core.training import training_run as runs
from dvmvs_core.training.streams import ClipStream, StreamPart, mix
from dvmvs_core.training.training_scenes import SceneClips


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
    """As for a GPU: other processes draw worlds and paths, and the batches are those of the source."""
    source = SyntheticClips(32, 32, 2, seed=5, textures=8)
    stream = ClipStream([StreamPart(source, Fraction(1), workers=2, rendered_here=True)], 1)
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
