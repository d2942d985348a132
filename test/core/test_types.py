# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a frame refuses."""

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.errors import FrameError
from dvmvs_core.types import Frame

K = np.array(((100.0, 0, 32), (0, 100.0, 24), (0, 0, 1)))


def make_frame(image=None, K=K, world_T_cam=None):
    image = np.zeros((48, 64, 3), np.uint8) if image is None else image
    return Frame(image, K, np.eye(4) if world_T_cam is None else world_T_cam, stamp_ns=1)


def test_frame_takes_lists_and_makes_float64():
    frame = make_frame(K=K.tolist(), world_T_cam=np.eye(4, dtype=np.float32))
    assert frame.K.dtype == frame.world_T_cam.dtype == np.float64


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((48, 64), np.uint8), r"\(H, W, 3\); got \(48, 64\)"),
        (np.zeros((48, 64, 4), np.uint8), r"got \(48, 64, 4\)"),
        (np.zeros((0, 64, 3), np.uint8), r"got \(0, 64, 3\)"),
        (np.zeros((48, 64, 3), np.float32), "uint8 RGB; got float32"),
        ([[[0, 0, 0]]], "must be an array .* got list"),
        ("x", "must be an array .* got str"),
    ],
)
def test_bad_image_is_refused(image, message):
    with pytest.raises(FrameError, match=message):
        make_frame(image=image)


@pytest.mark.parametrize(
    ("bad_K", "message"),
    [
        (np.zeros((3, 4)), r"K must have shape \(3, 3\); got \(3, 4\)"),
        (np.diag((0.0, 100.0, 1.0)), "fx=0"),
        (np.diag((100.0, -5.0, 1.0)), "fy=-5"),
        (np.diag((np.nan, 100.0, 1.0)), "finite"),
        ("x", "must be numbers"),
        ([[1.0, 2.0], [3.0]], "must be numbers"),
        (np.diag((1e-300, 1e-300, 1.0)), "focal lengths of at least"),
        (np.diag((1e300, 1e300, 1.0)), "nothing beyond 1e"),
        (((100.0, 0.0, 1e200), (0.0, 100.0, 24.0), (0.0, 0.0, 1.0)), "nothing beyond 1e"),
        (((100.0, 100.0, 0.0), (100.0, 100.0, 0.0), (0.0, 0.0, 1.0)), "must have the rows"),
    ],
)
def test_bad_intrinsics_are_refused(bad_K, message):
    with pytest.raises(FrameError, match=message):
        make_frame(K=bad_K)


@pytest.mark.parametrize("stamp", ["1", 1.0, float("nan"), None])
def test_a_stamp_is_whole_nanoseconds(stamp):
    with pytest.raises(FrameError, match="must be integers"):
        Frame(np.zeros((48, 64, 3), np.uint8), K, np.eye(4), stamp)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_lost_pose_is_a_frame(bad):
    assert make_frame(world_T_cam=np.full((4, 4), bad)).world_T_cam.shape == (4, 4)


@pytest.mark.parametrize(
    ("pose", "message"),
    [
        (np.eye(3), r"\(4, 4\); got \(3, 3\)"),
        (np.diag((2.0, 2.0, 2.0, 1.0)), "rotation"),
        (np.diag((1.0, 1.0, -1.0, 1.0)), "rotation"),
        (np.diag((1.0, 1.0, 1.0, 2.0)), "row 0 0 0 1"),
        ("x", "must be numbers"),
        ([[1.0], [2.0, 3.0]], "must be numbers"),
        (((1.0, 0.0, 0.0, 1e300), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0)), "of the origin"),
    ],
)
def test_a_pose_that_is_not_rigid_is_refused(pose, message):
    with pytest.raises(FrameError, match=message):
        make_frame(world_T_cam=pose)
