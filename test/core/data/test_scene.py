# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.scene import SceneSequence, read_poses
from dvmvs_core.errors import DataError
from dvmvs_core.keyframes import KeyframeBuffer, KeyframeConfig, KeyframeDecision


def rewrite_poses(scene, change) -> None:
    poses = np.loadtxt(scene / "poses.txt")
    np.savetxt(scene / "poses.txt", change(poses))


def read_all(scene) -> list:
    return list(open_sequence(scene).items())


def test_frames_come_in_order_with_everything(make_scene):
    scene = make_scene(frames=4)
    sequence = open_sequence(scene)
    items = list(sequence.items())
    assert isinstance(sequence, SceneSequence)
    assert (len(sequence), sequence.name, sequence.has_depth) == (4, "scene", True)
    assert [item.name for item in items] == ["00003.png", "00004.png", "00005.png", "00006.png"]
    assert [item.frame.index for item in items] == [0, 1, 2, 3]
    bgr = cv2.imread(str(scene / "images" / "00004.png"))
    assert np.array_equal(items[1].frame.image, bgr[..., ::-1])
    millimetres = cv2.imread(str(scene / "depth" / "00004.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(items[1].sensor_depth, (millimetres / 1000.0).astype(np.float32))
    assert items[1].frame.world_T_cam == pytest.approx(np.loadtxt(scene / "poses.txt")[1].reshape(4, 4))


def test_without_stamps_the_frames_come_at_30_hz_from_1_s(make_scene):
    stamps = [pose.stamp_ns for pose in open_sequence(make_scene(frames=4)).poses()]
    assert stamps == [1_000_000_000, 1_033_333_333, 1_066_666_667, 1_100_000_000]


def test_stamps_are_read_where_there_are_any(make_scene):
    scene = make_scene(frames=3)
    (scene / "stamps.txt").write_text("1.5\n1.6\n1700000000.250000001\n")
    stamps = [pose.stamp_ns for pose in open_sequence(scene).poses()]
    assert stamps == [1_500_000_000, 1_600_000_000, 1_700_000_000_250_000_001]


def test_depth_is_optional_for_the_scene_and_for_a_frame(make_scene):
    assert not open_sequence(make_scene("without", depth=False)).has_depth
    scene = make_scene("holey", frames=3)
    (scene / "depth" / "00004.png").unlink()
    assert [item.sensor_depth is not None for item in read_all(scene)] == [True, False, True]
    assert [item.index for item in open_sequence(scene).sensor_depths({0, 1, 2})] == [0, 2]
    assert all(item.sensor_depth is None for item in open_sequence(scene).items(depth=False))


def test_depth_pairs_by_order_where_no_name_agrees(make_scene):
    scene = make_scene(frames=3)
    first = cv2.imread(str(scene / "depth" / "00003.png"), cv2.IMREAD_UNCHANGED)
    for file in sorted((scene / "depth").iterdir()):
        file.rename(file.with_name(f"depth_{file.name}"))
    assert np.array_equal(read_all(scene)[0].sensor_depth, (first / 1000.0).astype(np.float32))


def test_rotations_of_few_digits_become_exact(make_scene):
    scene = make_scene(frames=3)
    rewrite_poses(scene, lambda poses: np.round(poses, 5))
    for pose in read_poses(scene / "poses.txt"):
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-15)
    assert np.abs(read_poses(scene / "poses.txt").reshape(3, 16) - np.loadtxt(scene / "poses.txt")).max() < 1e-5


def test_lost_tracking_is_no_error(make_scene):
    scene = make_scene(frames=3)

    def lose(poses):
        poses[1] = np.nan
        poses[2, 3] = np.inf
        return poses

    rewrite_poses(scene, lose)
    buffer = KeyframeBuffer(KeyframeConfig())
    decisions = [buffer.add(item.frame.world_T_cam, None) for item in read_all(scene)]
    assert decisions[1:] == [KeyframeDecision.INVALID_POSE] * 2


def edit(path, change) -> None:
    path.write_bytes(change(path.read_bytes()))


BROKEN = {
    "an image is missing": (lambda s: (s / "images/00004.png").unlink(), "6 lines for 5 images: images are missing"),
    "there is no image": (
        lambda s: [file.unlink() for file in (s / "images").iterdir()],
        "images must hold the images as png or jpg; found none",
    ),
    "every image is cut off": (
        lambda s: [edit(file, lambda data: data[:-300]) for file in (s / "images").iterdir()],
        "none of 6 images can be read; the first: .*00003.png.*ends early",
    ),
    "depth has another size": (
        lambda s: cv2.imwrite(str(s / "depth/00005.png"), np.zeros((30, 40), np.uint16)),
        "depth/00005.png must have the size of its image, 48×36; got 40×30",
    ),
    "poses are too few": (lambda s: rewrite_poses(s, lambda p: p[:4]), "4 lines for 6 images: lines are missing"),
    "every pose has 12 numbers": (
        lambda s: rewrite_poses(s, lambda p: p[:, :12]),
        "line 1 must hold 16 numbers; got 12",
    ),
    "every pose is mirrored": (
        lambda s: rewrite_poses(s, lambda p: p * np.where(np.arange(16) % 4 == 0, -1.0, 1.0)),
        "poses.txt, line 1: world_T_cam must hold a rotation",
    ),
    "the only pose is words": (lambda s: (s / "poses.txt").write_text("one two three\n"), "line 1: could not convert"),
    "there are no poses": (lambda s: (s / "poses.txt").unlink(), "poses.txt"),
    "K has another shape": (lambda s: np.savetxt(s / "K.txt", np.eye(3, 4)), "3 lines of 3 numbers"),
    "K has no focal length": (lambda s: np.savetxt(s / "K.txt", np.diag((0.0, 40, 1))), "K.txt.*positive focal"),
    "K has a negative focal length": (lambda s: np.savetxt(s / "K.txt", np.diag((40, -40.0, 1))), "positive focal"),
    "K is not a number": (lambda s: np.savetxt(s / "K.txt", np.diag((np.nan, 40, 1))), "K must be finite"),
    "stamps are too few": (lambda s: (s / "stamps.txt").write_text("1\n2\n"), "2 lines for 6 images"),
    "a stamp is no time": (lambda s: (s / "stamps.txt").write_text("1\n2\nnan\n4\n5\n6\n"), "line 3 must be a time"),
    "stamps go back": (lambda s: (s / "stamps.txt").write_text("1\n2\n3\n2.5\n4\n5\n"), "line 4: stamps must increase"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_scene_is_one_clear_error(make_scene, case):
    scene = make_scene()
    change, said = BROKEN[case]
    change(scene)
    with pytest.raises(DataError, match=said):
        read_all(scene)


def test_what_cannot_be_read_is_left_out_and_named_and_the_rest_is_used(make_scene):
    scene = make_scene(frames=9)
    edit(scene / "images/00004.png", lambda data: data[:-300])
    edit(scene / "images/00005.png", lambda data: b"")
    edit(scene / "images/00006.png", lambda data: data[:60] + b"damaged" + data[67:])
    edit(scene / "depth/00007.png", lambda data: data[:-300])
    cv2.imwrite(str(scene / "depth/00008.png"), np.zeros((36, 48), np.uint8))
    (scene / "depth/00009.png").unlink()
    lines = (scene / "poses.txt").read_text().splitlines()
    lines[7], lines[8] = "one two three", " ".join(["nan"] * 16)
    (scene / "poses.txt").write_text("\n".join(lines))
    sequence = open_sequence(scene)
    for _ in range(2):  # a second pass counts nothing twice
        items = list(sequence.items())
        assert [item.name for item in items] == [f"{i:05d}.png" for i in (3, 7, 8, 9, 10, 11)]
        assert [item.frame.index for item in items] == [0, 4, 5, 6, 7, 8]
        assert [item.sensor_depth is not None for item in items] == [True, False, False, False, True, True]
        assert [bool(np.isfinite(item.frame.world_T_cam).all()) for item in items] == [True] * 4 + [False] * 2
        assert sequence.dropped == {"cannot be read": 3}
        assert sequence.unreadable == {1, 2, 3}
    said = {
        "images/00004.png": "ends early",
        "images/00005.png": "ends early",
        "images/00006.png": "is damaged",
        "depth/00007.png": "ends early",
        "depth/00008.png": "one-channel uint16 image of millimetres; got uint8",
        "depth/00009.png": "there is no sensor depth of images/00009.png",
        "poses.txt, line 8": "could not convert",
        "poses.txt, line 9": "tracking was lost",
    }
    assert sequence.faults.keys() == said.keys()
    for what, why in said.items():
        assert why in sequence.faults[what]
    assert [item.index for item in sequence.sensor_depths(range(9))] == [0, 1, 2, 3, 7, 8]


def test_depth_alone_is_read_though_the_first_image_cannot_be(make_scene):
    scene = make_scene(frames=3)
    edit(scene / "images/00003.png", lambda data: data[:-300])
    sequence = open_sequence(scene)
    assert [item.index for item in sequence.sensor_depths([1])] == [1]
    assert list(sequence.faults) == ["images/00003.png"]


def test_one_pose_that_is_scaled_is_left_out(make_scene):
    scene = make_scene()
    rewrite_poses(scene, lambda p: p * np.where(np.arange(6)[:, None] == 2, 1.1, 1.0))
    sequence = open_sequence(scene)
    assert [bool(np.isfinite(pose.world_T_cam).all()) for pose in sequence.poses()] == [True, True, False] + [True] * 3
    assert "world_T_cam must hold a rotation" in sequence.faults["poses.txt, line 3"]
    with pytest.raises(DataError, match="line 3: world_T_cam must hold a rotation"):
        read_poses(scene / "poses.txt")


def test_depth_of_another_size_is_refused_without_its_image_too(make_scene):
    scene = make_scene(frames=3)
    cv2.imwrite(str(scene / "depth/00004.png"), np.zeros((30, 40), np.uint16))
    depths = open_sequence(scene).sensor_depths([0, 1])
    assert next(depths).sensor_depth.shape == (36, 48)
    with pytest.raises(DataError, match="depth/00004.png must have the size of its image, 48×36; got 40×30"):
        next(depths)


def test_a_cut_off_jpeg_is_left_out_although_opencv_fills_it_with_grey(make_scene):
    scene = make_scene(frames=2)
    image = cv2.imread(str(scene / "images" / "00004.png"))
    (scene / "images" / "00004.png").unlink()
    jpeg = scene / "images" / "00004.jpg"
    cv2.imwrite(str(jpeg), image)
    assert len(read_all(scene)) == 2
    edit(jpeg, lambda data: data[: len(data) // 2])
    assert cv2.imread(str(jpeg)) is not None
    assert [item.name for item in read_all(scene)] == ["00003.png"]


@pytest.mark.parametrize(
    ("name", "said"),
    (("nothing", "does not exist"), ("empty", "neither a scene folder"), ("old.bag", "cannot be read as a ROS 1 bag")),
)
def test_what_is_no_sequence_is_told_what_would_be_one(tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(DataError, match=said):
        open_sequence(tmp_path / name)
