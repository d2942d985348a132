# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import numpy as np

from dvmvs_core.config import KeyframeConfig
from dvmvs_core.data.sequence import PoseItem
from dvmvs_core.evaluation.prediction.timeline import indexed_timeline, online_timeline


def test_decisions_of_the_buffer_are_run_lengths():
    poses = [np.eye(4) for _ in range(9)]
    for i, x in enumerate((0.0, 0.0, 0.2, 0.4)):
        poses[i][0, 3] = x
    for pose in poses[4:8]:
        pose[:] = np.nan
    items = [PoseItem(i, str(i), i, pose) for i, pose in enumerate(poses)]
    assert online_timeline(items, KeyframeConfig(max_lost_frames=2)) == [
        ("first", 1), ("too_close", 1), ("keyframe", 2), ("invalid_pose", 2), ("tracking_lost", 1), ("still_lost", 1),
        ("first", 1),
    ]  # fmt: skip


def test_frames_that_cannot_be_read_never_reach_the_buffer():
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, 0, 3] = (0.0, 0.2, 0.25, 0.45)
    items = [PoseItem(i, str(i), i, pose) for i, pose in enumerate(poses)]
    assert online_timeline(items, KeyframeConfig(), unreadable={1}) == [
        ("first", 1), ("unreadable", 1), ("keyframe", 2),
    ]  # fmt: skip


def test_an_index_uses_frames_as_keyframes_as_measurement_frames_or_not():
    timeline = indexed_timeline(6, np.array((2, 4)), np.array(((0, -1), (2, 0))))
    assert [name for name, _ in timeline] == ["measurement", "unused", "keyframe", "unused", "keyframe", "unused"]
