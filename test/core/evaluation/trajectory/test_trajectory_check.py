# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The check of poses: on bags of a textured wall seen by a moving camera, and on the real sequence."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dvmvs_core.config import KeyframeConfig
from dvmvs_core.data.bags.bag_writer import write_bag
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.sequence import FrameSequence, PoseItem, SequenceItem
from dvmvs_core.evaluation.trajectory.image_tracks import follow_points
from dvmvs_core.evaluation.trajectory.pose_track import PoseTrack
from dvmvs_core.evaluation.trajectory.trajectory_check import check_trajectory, judge
from dvmvs_core.types import Frame

DEPTH_RANGE_M = (0.25, 20.0)
FRAMES, HEIGHT, WIDTH = 60, 120, 160
K = np.array(((140.0, 0.0, 79.5), (0.0, 140.0, 59.5), (0.0, 0.0, 1.0)))
PIXELS_PER_METRE, WALL_M = 100.0, 2.0


def pose_at(seconds: float, moves: float = 1.0) -> np.ndarray:
    """A hand-held camera in front of the wall z = 2 m, which shakes at 1 to 2 Hz."""
    pose = np.eye(4)
    swing = np.sin(2 * np.pi * np.array((1.1, 1.7, 0.6)) * seconds + (0.3, 1.0, 2.0))
    pose[:3, :3] = Rotation.from_euler("yxz", swing * (0.12, 0.08, 0.05)).as_matrix()
    steps = np.array((np.sin(3.1 * seconds), np.cos(2.3 * seconds), 0.5 * np.sin(1.7 * seconds)))
    pose[:3, 3] = moves * 0.35 * steps
    return pose


class Wall(FrameSequence):
    """Images of a wall; the pose that is recorded may be another than that of the camera."""

    def __init__(self, recorded, moves: float = 1.0, depth: bool = True) -> None:
        super().__init__(Path("wall"), has_depth=depth)
        noise = np.random.default_rng(1).integers(0, 256, (120, 160, 3), dtype=np.uint8)
        self._texture = cv2.GaussianBlur(cv2.resize(noise, (960, 720), interpolation=cv2.INTER_CUBIC), (0, 0), 2)
        self._recorded, self._moves = recorded, moves

    def __len__(self) -> int:
        return FRAMES

    def poses(self):
        for i in range(FRAMES):
            yield PoseItem(i, f"{i}.png", 10**9 + i * 10**9 // 30, self._recorded(i / 30, self._moves))

    def items(self, depth=True):
        texture_T_wall = np.array(((PIXELS_PER_METRE, 0, 480), (0, PIXELS_PER_METRE, 360), (0, 0, 1.0)))
        for pose in self.poses():
            cam_T_world = np.linalg.inv(pose_at(pose.index / 30, self._moves))
            R, t = cam_T_world[:3, :3], cam_T_world[:3, 3]
            pixel_T_wall = K @ np.column_stack((R[:, 0], R[:, 1], R[:, 2] * WALL_M + t))
            image = cv2.warpPerspective(
                self._texture, pixel_T_wall @ np.linalg.inv(texture_T_wall), (WIDTH, HEIGHT), borderMode=cv2.BORDER_WRAP
            )
            wall_T_pixel = np.linalg.inv(pixel_T_wall)
            x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
            sensor = (1 / (wall_T_pixel[2, 0] * x + wall_T_pixel[2, 1] * y + wall_T_pixel[2, 2])).astype(np.float32)
            frame = Frame(image, K, pose.world_T_cam, pose.stamp_ns, pose.index)
            yield SequenceItem(frame, pose.name, sensor if self.has_depth else None)

    def sensor_depths(self, indices):
        raise AssertionError("the check reads depth with the images")


def checked(tmp_path, recorded=pose_at, **wall):
    """The check of a bag of the wall."""
    write_bag(Wall(recorded, **wall), tmp_path / "bag")
    return check_trajectory(open_sequence(tmp_path / "bag"), KeyframeConfig(), DEPTH_RANGE_M)


def test_nothing_is_found_where_nothing_is_wrong(tmp_path):
    check = checked(tmp_path)
    assert check.findings == ()
    assert check.images.scale.scale == pytest.approx(1.0, abs=0.03)
    assert abs(check.images.fit.offset_s) < 0.003
    assert check.images.fit.residual_px < 0.5
    assert (check.frames, check.jumps) == (FRAMES, ())
    assert check.duration_s == pytest.approx(59 / 30)
    assert check.keyframe_rate_hz == pytest.approx(check.keyframes / check.duration_s)
    assert 0.05 < check.baseline_m < 0.3


def test_the_summary_says_what_was_found(tmp_path):
    check = checked(tmp_path)
    summary = check.summary()
    assert summary.startswith(f"{check.keyframes} of {FRAMES} frames become keyframes, {check.baseline_m:.3f} m apart")
    assert "their scale is 1.0" in summary
    assert summary.endswith("nothing is wrong with the poses in what could be checked")
    (sentence,) = check.not_checked
    assert sentence.startswith(
        "mounting and principal point of the camera: only 10 stretches of the recording have points"
    )


def test_images_whose_pose_was_stamped_wrongly_are_named(tmp_path):
    """Two poses come late; all others fit, so that there is no offset as a whole."""
    late = (28, 40)

    def recorded(seconds, moves):
        return pose_at(seconds - 0.07 * (round(seconds * 30) in late), moves)

    check = checked(tmp_path, recorded)
    (finding,) = (finding for finding in check.findings if "does not explain how the image moved" in finding)
    assert set(check.images.unexplained) == {28, 29, 40, 41}
    assert f"at 4 of {check.images.followed} images" in finding
    assert not check.summary().endswith("nothing is wrong with the poses")


@pytest.mark.parametrize("offset_s", (0.04, -0.04, 0.1))
def test_an_offset_between_images_and_poses_is_flagged_and_measured(tmp_path, offset_s):
    check = checked(tmp_path, lambda seconds, moves: pose_at(seconds - offset_s, moves))
    assert check.images.fit.offset_s == pytest.approx(offset_s, abs=0.005)
    (finding,) = check.findings
    milliseconds, direction = finding.split("best ")[1].split(" than")[0].split(" ms ")
    assert abs(int(milliseconds) - abs(offset_s) * 1000) <= 5
    assert direction == ("later" if offset_s > 0 else "earlier")


def scaled(factor):
    def recorded(seconds, moves):
        pose = pose_at(seconds, moves)
        pose[:3, 3] *= factor
        return pose

    return recorded


@pytest.mark.parametrize("factor", (0.3, 4.0))
def test_poses_without_scale_are_flagged_by_the_sensor(tmp_path, factor):
    check = checked(tmp_path, scaled(factor))
    assert check.images.scale.scale == pytest.approx(factor, rel=0.03)
    assert [f"they are {check.images.scale.scale:.2f} times as large" in finding for finding in check.findings] == [
        True
    ]


def test_depth_in_other_units_is_named_by_them(tmp_path):
    (finding,) = checked(tmp_path, scaled(0.2)).findings
    assert "as if depth had 5000 units a metre. Write 5000 into depth_scale.txt" in finding


def test_poses_without_scale_are_flagged_without_a_sensor_where_the_scene_would_be_too_far(tmp_path):
    check = checked(tmp_path, scaled(40.0), depth=False)
    assert check.images.scale is None
    assert check.images.scene_depth_m == pytest.approx(80.0, rel=0.1)
    assert any("scale of the poses is not plausible" in finding for finding in check.findings)


def test_pure_rotation_is_flagged(tmp_path):
    check = checked(tmp_path, moves=0.0)
    assert check.rotation_only_share == 1.0
    assert check.images.scene_depth_m is None
    assert "100% of the keyframes only turn" in check.findings[0]
    assert len(check.findings) == 1
    assert abs(check.images.fit.offset_s) < 0.005


def test_pure_rotation_with_an_offset_is_flagged_for_both(tmp_path):
    check = checked(tmp_path, lambda seconds, moves: pose_at(seconds - 0.04, moves), moves=0.0)
    assert check.images.fit.offset_s == pytest.approx(0.04, abs=0.01)
    assert len(check.findings) == 2


def test_poses_that_have_nothing_to_do_with_the_images_are_flagged(tmp_path):
    check = checked(tmp_path, lambda seconds, moves: pose_at(1.7 * seconds + 5, moves))
    assert any("do not explain how the images move" in f or "fit the images best" in f for f in check.findings)


def test_a_jump_is_found_where_it_is():
    items = list(Wall(pose_at).poses())
    for item in items[30:]:
        item.world_T_cam[0, 3] += 1.0
    check = judge(items, None, KeyframeConfig(), DEPTH_RANGE_M)
    assert check.jumps == (30,)
    assert "the pose jumps at 1 of 60 images (30)" in check.findings[0]


def test_a_camera_that_stands_still_is_said():
    items = list(Wall(lambda seconds, moves: np.eye(4)).poses())
    check = judge(items, None, KeyframeConfig(), DEPTH_RANGE_M)
    assert "only 1 of 60 frames become keyframes" in check.findings[0]
    assert check.images is None


def test_lost_tracking_leaves_no_trace_in_the_figures():
    items = list(Wall(pose_at).poses())
    for item in items[20:25]:
        item.world_T_cam[:] = np.nan
    check = judge(items, None, KeyframeConfig(), DEPTH_RANGE_M)
    assert (check.frames, check.findings) == (55, ())


@pytest.mark.slow
def test_the_offset_of_the_real_sequence_is_found_within_10_ms(hololens):
    sequence = open_sequence(hololens)
    tracks, true = follow_points(sequence), PoseTrack(sequence.poses())
    found = []
    for offset_s in (0.0, 0.04):
        poses = true.at(true.stamps_s - offset_s)
        items = [
            PoseItem(int(index), "", round(stamp_s * 1e9), pose)
            for index, stamp_s, pose in zip(true.index, true.stamps_s, poses, strict=True)
            if np.isfinite(pose).all()
        ]
        check = judge(items, tracks, KeyframeConfig(), DEPTH_RANGE_M)
        found.append(check.images.fit.offset_s)
        assert [finding.startswith("the poses fit the images best") for finding in check.findings] == [True] * bool(
            offset_s
        )
        assert check.images.scale.scale == pytest.approx(1.0, abs=0.1)
    assert found == pytest.approx([0.0, 0.04], abs=0.01)
