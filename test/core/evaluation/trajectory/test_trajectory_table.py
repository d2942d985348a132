# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""The check of poses on rendered walks, each spoilt in one known way: it names that one, and no other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dvmvs_core.config import KeyframeConfig
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.sequence import FrameSequence, PoseItem, SequenceItem
from dvmvs_core.evaluation.trajectory.image_tracks import Tracks, follow_points
from dvmvs_core.evaluation.trajectory.pose_track import PoseTrack
from dvmvs_core.evaluation.trajectory.trajectory_check import TrajectoryCheck, judge
from dvmvs_core.evaluation.trajectory.view_pairs import wide_pairs
from dvmvs_core.synthetic.clips import SyntheticClips, render_sequence
from dvmvs_core.synthetic.paths import CameraPath
from dvmvs_core.types import Frame

DEPTH_RANGE_M = (0.25, 20.0)
HEIGHT, WIDTH = 240, 320
WALKS = (2, pytest.param(3, marks=pytest.mark.slow))
"""Seeds of rendered walks; what one shows, the other shows again."""


class Rendered(FrameSequence):
    """Rendered frames, 30 a second."""

    def __init__(self, frames, K: np.ndarray) -> None:
        super().__init__(Path("rendered"), has_depth=True)
        self._frames, self._K = list(frames), K

    def __len__(self) -> int:
        return len(self._frames)

    def poses(self):
        for i, (_, _, world_T_cam) in enumerate(self._frames):
            yield PoseItem(i, f"{i}.png", 10**9 + i * 10**9 // 30, world_T_cam)

    def items(self, depth=True):
        for (image, sensor_depth, _), pose in zip(self._frames, self.poses(), strict=True):
            frame = Frame(image, self._K, pose.world_T_cam, pose.stamp_ns, pose.index)
            yield SequenceItem(frame, pose.name, sensor_depth if depth else None)

    def sensor_depths(self, indices):
        raise AssertionError("the check reads depth with the images")


Recording = tuple[list[PoseItem], Tracks]


@pytest.fixture(scope="module", params=WALKS)
def walk(request) -> Recording:
    sequence = Rendered(*render_sequence(request.param, 75, HEIGHT, WIDTH))
    return list(sequence.poses()), follow_points(sequence)


class OwnPath(SyntheticClips):
    """Clips whose cameras are on the way that they would go, at this share of it."""

    def __init__(self, moves: float, turns: float, length: int) -> None:
        super().__init__(HEIGHT // 2, WIDTH // 2, length, seed=5, textures=32, pose_noise=0.0, motion_blur=0.0)
        self._moves, self._turns = moves, turns

    def draw_path(self, rng, world, K):
        path = super().draw_path(rng, world, K)
        if path is None:
            return None
        start = path.world_T_cam[0]
        seconds = np.arange(len(path.world_T_cam)) / 30
        swing = self._turns * np.sin(2 * np.pi * np.outer(seconds, (0.7, 1.1, 0.4)) + (0.0, 1.0, 2.0))
        poses = np.tile(start, (len(seconds), 1, 1))
        poses[:, :3, :3] = start[:3, :3] @ Rotation.from_euler("yxz", swing).as_matrix()
        poses[:, :3, 3] += self._moves * np.stack((seconds, np.sin(seconds), 0 * seconds), -1)
        return CameraPath(poses, np.zeros_like(path.velocity))


def own_path(moves: float, turns: float) -> Recording:
    clip = OwnPath(moves, turns, 36).batch(1, 0)
    sequence = Rendered(
        zip(
            clip.image[0].permute(0, 2, 3, 1).numpy(),
            clip.depth[0].numpy(),
            clip.world_T_cam[0].double().numpy(),
            strict=True,
        ),
        clip.K[0].double().numpy(),
    )
    return list(sequence.poses()), follow_points(sequence)


def with_poses(change):
    """The recording with other poses."""

    def spoil(recording: Recording) -> Recording:
        items, tracks = recording
        return [dataclasses.replace(item, world_T_cam=change(item.world_T_cam)) for item in items], tracks

    return spoil


def scaled(factor: float):
    def change(world_T_cam):
        other = world_T_cam.copy()
        other[:3, 3] *= factor
        return other

    return with_poses(change)


def with_tracks(change):
    """The recording with other tracks: `change` gives the parts that differ."""
    return lambda recording: (recording[0], dataclasses.replace(recording[1], **change(recording[1])))


def focal(factor: float):
    """K with its focal lengths so many times the true ones."""
    return with_tracks(lambda tracks: {"rays": tracks.rays / factor, "focal_px": tracks.focal_px * factor})


def late(offset_s: float):
    """Poses that are stamped too late."""

    def spoil(recording: Recording) -> Recording:
        items, tracks = recording
        track = PoseTrack(items)
        poses = track.at(track.stamps_s - offset_s)
        return [dataclasses.replace(item, world_T_cam=pose) for item, pose in zip(items, poses, strict=True)], tracks

    return spoil


without_depth = with_tracks(lambda tracks: {"sensor_depth": np.full_like(tracks.sensor_depth, np.nan)})


def transform(rows) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3] = rows
    return result


def turned(*degrees: float):
    """A camera that is mounted otherwise than the poses say."""
    mounting = transform(Rotation.from_rotvec(degrees, degrees=True).as_matrix())
    return with_poses(lambda pose: pose @ mounting)


def centre(x: float, y: float):
    """K whose principal point is so many focal lengths off."""
    return with_tracks(lambda tracks: {"rays": tracks.rays - np.array((x, y))})


OPENGL = transform(np.diag((1.0, -1.0, -1.0)))
LINK = transform(((0, -1, 0), (0, 0, -1), (1, 0, 0)))  # cam_T_link
UNITY = transform(np.diag((1.0, -1.0, 1.0)))

CLEAN = ()
TABLE = {
    "clean": (lambda recording: recording, CLEAN),
    "K 5 % too large": (focal(1.05), ("the focal length is wrong: 0.95",)),
    "K 11 % too large": (focal(1.11), ("the focal length is wrong: 0.90",)),
    "K 11 % too small": (focal(0.89), ("the focal length is wrong: 1.12",)),
    "scale 0.8": (scaled(0.8), ("they are 0.80 times as large",)),
    "scale 1.3": (scaled(1.3), ("they are 1.30 times as large",)),
    "inverse": (with_poses(np.linalg.inv), ("as world-to-camera transforms",)),
    "OpenGL": (with_poses(lambda pose: pose @ OPENGL), ("OpenGL axes",)),
    "camera_link": (with_poses(lambda pose: pose @ LINK), ("camera_link",)),
    "inverse OpenGL": (with_poses(lambda pose: np.linalg.inv(pose @ OPENGL)), ("world-to-camera transforms",)),
    "left-handed": (with_poses(lambda pose: UNITY @ pose @ UNITY), ("left-handed axes",)),
    "40 ms late": (late(0.04), ("ms later",)),
    "30 ms early": (late(-0.03), ("ms earlier",)),
    "turned by 2° down": (turned(2, 0, 0), ("the camera is not mounted as the poses say",)),
    "turned by 3° to the left": (turned(0, -3, 0), ("the camera is not mounted as the poses say",)),
    "turned by 3° about its axis": (turned(0, 0, 3), ("the camera is not mounted as the poses say",)),
    "turned by 15°": (turned(9, -8, 9), ("the camera is not mounted as the poses say",)),
    "cx 5 % off": (centre(0.06, 0), ("the principal point is wrong: -0.0",)),
    "cy 5 % off": (centre(0, -0.045), ("the principal point is wrong: ",)),
    "turned by 3°, K 5 % too large": (
        lambda recording: focal(1.05)(turned(0, 3, 0)(recording)),
        ("the camera is not mounted as the poses say", "the focal length is wrong: 0.95"),
    ),
    "OpenGL, turned by 3°": (
        with_poses(lambda pose: pose @ OPENGL @ transform(Rotation.from_euler("y", 3, degrees=True).as_matrix())),
        ("OpenGL axes", "the camera is not mounted as the poses say"),
    ),
    "OpenGL, K 5 % too large": (
        lambda recording: focal(1.05)(with_poses(lambda pose: pose @ OPENGL)(recording)),
        ("OpenGL axes", "the focal length is wrong: 0.95"),
    ),
}


def check(recording: Recording) -> TrajectoryCheck:
    return judge(*recording, KeyframeConfig(), DEPTH_RANGE_M)


@pytest.mark.parametrize("name", TABLE)
def test_each_fault_is_named_and_no_other(walk, name):
    spoil, said = TABLE[name]
    found = check(spoil(walk))
    assert len(found.findings) == len(said), found.findings
    for finding in found.findings:
        assert any(words in finding for words in said), finding
    if "ms" in name:
        offset_s = {"40 ms late": 0.04, "30 ms early": -0.03}[name]
        assert found.images.fit.offset_s == pytest.approx(offset_s, abs=0.003)
    assert found.not_checked == ()
    assert found.summary().endswith("nothing is wrong with the poses") == (not said)


def test_without_depth_the_scale_is_said_not_to_be_checked(walk):
    found = check(without_depth(scaled(0.8)(walk)))
    assert found.findings == ()
    (sentence,) = found.not_checked
    assert sentence.startswith("the scale of the poses: there is no depth image")
    assert found.summary().endswith("nothing is wrong with the poses in what could be checked")


def test_a_camera_that_only_turns_has_no_scale_but_a_focal_length():
    recording = own_path(moves=0.002, turns=0.2)
    found = check(scaled(1.3)(recording))
    (finding,) = found.findings
    assert "only turn" in finding
    assert any(sentence.startswith("direction and scale of movement") for sentence in found.not_checked)
    wrong = check(focal(1.11)(recording))
    assert any("the focal length is wrong: 0.90" in finding for finding in wrong.findings)


def test_a_camera_that_is_too_slow_is_said_and_not_called_right():
    found = check(own_path(moves=0.004, turns=0.002))
    assert "the camera hardly moves" in found.findings[0]
    assert len(found.findings) == 1 and found.not_checked


def test_sensor_depth_belongs_to_the_first_images_of_stretches_alone(walk):
    items, tracks = walk
    pairs = wide_pairs(tracks, PoseTrack(items))
    is_first = pairs.frame_index[:, 0] == tracks.frame_index[pairs.stretch, 0]
    assert np.isfinite(pairs.sensor_depth[is_first]).any(axis=1).all() and 0 < is_first.mean() < 1
    assert np.isnan(pairs.sensor_depth[~is_first]).all()


def test_images_far_apart_in_time_keep_all_figures(walk):
    """Poses more than half a second apart: no shift of time can be tried, and everything else can."""
    items, tracks = walk
    slow = [dataclasses.replace(item, stamp_ns=item.stamp_ns * 21) for item in items]
    found = check((slow, tracks))
    assert found.findings == ()
    assert [sentence for sentence in found.not_checked if "more than 0.5 s apart" in sentence]
    assert found.images.fit.focal_factor == pytest.approx(1.0, abs=0.01)
    assert np.isfinite(found.to_dict()["images"]["recorded_px"])


def test_figures_that_are_not_finite_are_null_in_json(walk):
    found = check(walk)
    broken = dataclasses.replace(found, images=dataclasses.replace(found.images, parallax_px=float("nan")))
    assert broken.to_dict()["images"]["parallax_px"] is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ("hololens-000", "tum-cabinet", "tum-turning", "apc-shelf"))
def test_no_false_alarm_on_real_recordings(hololens, name):
    folder = hololens.parent / name
    if not folder.exists():
        pytest.skip(f"there is no {folder}")
    sequence = open_sequence(folder)
    found = check((list(sequence.poses()), follow_points(sequence)))
    assert [finding for finding in found.findings if "only turn" not in finding] == []
    assert ("only turn" in " ".join(found.findings)) == (name == "tum-turning")
