# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which frames make a sample: a camera on a rail, whose steps can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.training.subsequences import subsequences


def rail(positions) -> np.ndarray:
    """Poses of a camera that moves to the right without turning."""
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    poses[:, 0, 3] = positions
    return poses


def test_steps_of_a_sample_have_a_keyframe_s_length() -> None:
    # 0.1 m from frame to frame: too little for a step at factor 1 (0.125 to 0.325), 0.2 m fits.
    poses = rail(0.1 * np.arange(20))
    first = subsequences(poses, 4)[0]
    assert first == (0, 2, 4, 6)
    steps = {poses[b, 0, 3] - poses[a, 0, 3] for s in subsequences(poses, 4) for a, b in zip(s, s[1:], strict=False)}
    assert all(0.666 * 0.125 <= abs(step) <= 1.5 * 0.325 for step in steps)


@pytest.mark.parametrize("length", [2, 3, 8])
def test_no_pair_of_frames_is_a_step_twice(length) -> None:
    rng = np.random.default_rng(0)
    samples = subsequences(rail(np.cumsum(rng.uniform(0.0, 0.15, 120))), length)
    steps = [frozenset(step) for sample in samples for step in zip(sample, sample[1:], strict=False)]
    assert samples
    assert len(steps) == len(set(steps))
    assert all(len(sample) == len(set(sample)) == length for sample in samples)


@pytest.mark.parametrize("length", [3, 8])
def test_no_frame_is_in_more_than_two_longer_samples(length) -> None:
    rng = np.random.default_rng(1)
    samples = subsequences(rail(np.cumsum(rng.uniform(0.0, 0.15, 120))), length)
    assert max(np.bincount(np.concatenate(samples))) == 2


@pytest.mark.parametrize("length", [2, 3])
def test_standing_camera_and_short_recording_give_nothing(length) -> None:
    assert subsequences(rail(np.zeros(30)), length) == []
    assert subsequences(rail([0.0]), length) == []
    assert subsequences(rail([]), length) == []
