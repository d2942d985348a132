# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


from __future__ import annotations

import numpy as np
import pytest
import small_inputs as small

from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.importers.formats import SevenScenesOptions
from dvmvs_core.importers.registration import DepthRegistration, check_transform
from dvmvs_core.importers.seven_scenes import COLOUR_T_DEPTH, PUBLISHED_SCENES, SevenScenes

HEIGHT, WIDTH = 480, 640
K_DEPTH = np.array(((585.0, 0, 320), (0, 585.0, 240), (0, 0, 1)))
K_COLOUR = np.array(((525.0, 0, 320), (0, 525.0, 240), (0, 0, 1)))


def sensor_depth(seed):
    """A slanted wall with a box before it, holes, and the mark of an invalid pixel."""
    depth = np.tile(np.linspace(1800, 2600, WIDTH), (HEIGHT, 1)).astype(np.uint16)
    depth[150:300, 200:330] = 900 + seed
    depth[::7, ::11] = 65535
    depth[:130], depth[160:] = 0, 0  # a band is enough
    return depth


@pytest.fixture
def write_sequence(tmp_path):
    def write(scene="chess", sequence="seq-01", count=2, lost=()):
        folder = tmp_path / "in" / scene / sequence
        for i in range(count):
            small.write(folder / f"frame-{i:06d}.color.png", small.image(i, HEIGHT, WIDTH))
            small.write(folder / f"frame-{i:06d}.depth.png", sensor_depth(i))
            pose = np.full((4, 4), -np.inf) if i in lost else small.pose(i)
            np.savetxt(folder / f"frame-{i:06d}.pose.txt", pose, "%.7e", "\t ", "\t \n")
        return tmp_path / "in"

    return write


def test_correct_export_moves_depth_and_pose_to_the_colour_camera(write_sequence, run_import):
    out, summary = run_import(SevenScenes, write_sequence(lost=(1,)), SevenScenesOptions())
    scene = out / "chess-seq-01"
    np.testing.assert_array_equal(np.loadtxt(scene / "K.txt"), K_COLOUR)
    raw = sensor_depth(0)
    expected = small.register_slowly(np.where(raw == 65535, 0, raw), K_DEPTH, COLOUR_T_DEPTH, K_COLOUR, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(small.read(scene / "depth/000000.png"), expected)
    # The wall shrinks about the centre by 525 / 585, and moves left by 525 · 0.0256 / depth and by the rotation.
    assert not expected[:, :18].any() and not expected[:, 602:].any()
    assert (expected[145:160, 40:580] > 0).mean() > 0.9
    np.testing.assert_array_equal(small.read(scene / "images/000000.png"), small.image(0, HEIGHT, WIDTH))
    poses = np.loadtxt(scene / "poses.txt").reshape(-1, 4, 4)
    np.testing.assert_allclose(poses[0] @ COLOUR_T_DEPTH, small.pose(0), atol=1e-6)
    assert np.isneginf(poses[1]).all()
    assert (summary.scenes[0].frames, summary.scenes[0].lost_poses) == (2, 1)
    assert not (scene / "stamps.txt").exists()


def test_a_folder_of_frames_may_have_any_name(write_sequence, run_import):
    root = write_sequence("walk", "data", count=1)
    out, _ = run_import(SevenScenes, root / "walk/data", SevenScenesOptions())
    assert (out / "walk-data/images/000000.png").exists()


def test_the_cameras_are_as_far_apart_as_the_calibration_says():
    assert np.linalg.norm(COLOUR_T_DEPTH[:3, 3]) == pytest.approx(0.0256, abs=1e-4)
    np.testing.assert_allclose(COLOUR_T_DEPTH[:3, :3] @ COLOUR_T_DEPTH[:3, :3].T, np.eye(3), atol=1e-9)


def test_focal_lengths_and_transform_are_options(write_sequence, run_import, tmp_path):
    file = tmp_path / "identity.txt"
    np.savetxt(file, np.eye(4))
    same = SevenScenesOptions(colour_focal_px=585.0, depth_focal_px=585.0, colour_from_depth=file)
    out, _ = run_import(SevenScenes, write_sequence(count=1), same)
    raw = sensor_depth(0)
    np.testing.assert_array_equal(small.read(out / "chess-seq-01/depth/000000.png"), np.where(raw == 65535, 0, raw))
    np.testing.assert_array_equal(np.loadtxt(out / "chess-seq-01/K.txt"), K_DEPTH)
    np.testing.assert_allclose(np.loadtxt(out / "chess-seq-01/poses.txt").reshape(4, 4), small.pose(0), atol=1e-6)
    with pytest.raises(ConfigError, match="depth_focal_px must be positive; got 0"):
        SevenScenesOptions(depth_focal_px=0.0)
    np.savetxt(file, 2 * np.eye(4))
    _, summary = run_import(SevenScenes, write_sequence("fire"), same, scenes=("fire-seq-01",))
    assert "identity.txt must be a rotation and a translation" in summary.failures["fire-seq-01"]


def test_published_export_is_the_published_one_bit_for_bit(write_sequence, run_import, tmp_path):
    root = write_sequence("redkitchen", "seq-07")
    release = tmp_path / "rendered"
    for i in range(2):
        path = release / f"7scenes_redkitchen/train/depth/seq07_frame-{i:06d}.depth.png"
        small.write(path, small.depth(i, HEIGHT, WIDTH))
    options = SevenScenesOptions(published_depth=release)
    out, _ = run_import(SevenScenes, root, options, published=True)
    scene = out / "redkitchen-seq-07"
    assert small.files(out) == small.scene_files(scene.name, 2)
    for i in range(2):
        np.testing.assert_array_equal(small.read(scene / f"images/00000{i}.png"), small.image(i, HEIGHT, WIDTH))
        np.testing.assert_array_equal(small.read(scene / f"depth/00000{i}.png"), small.depth(i, HEIGHT, WIDTH))
    poses = [np.loadtxt(root / f"redkitchen/seq-07/frame-00000{i}.pose.txt") for i in range(2)]
    assert (scene / "poses.txt").read_text() == small.saved(poses)
    assert (scene / "K.txt").read_text() == small.saved(K_COLOUR)


def test_published_needs_the_depth_release_and_all_of_it(write_sequence, run_import, tmp_path):
    root = write_sequence()
    _, summary = run_import(SevenScenes, root, SevenScenesOptions(), published=True)
    assert "name its folder with --published-depth" in summary.failures["chess-seq-01"]
    small.write(tmp_path / "d/7scenes_chess/train/depth/seq01_frame-000000.png", small.depth(0))
    _, summary = run_import(SevenScenes, root, SevenScenesOptions(published_depth=tmp_path / "d"), published=True)
    assert "got 2 color.png files, 2 pose.txt files, 1 depth images" in summary.failures["chess-seq-01"]


def test_the_13_published_sequences_are_taken_with_published_and_all_without(write_sequence):
    write_sequence("chess", "seq-02", count=1)
    root = write_sequence("chess", "seq-03", count=1)
    assert len(PUBLISHED_SCENES) == 13
    assert [scene.name for scene in SevenScenes(True, SevenScenesOptions()).find(root)] == ["chess-seq-02"]
    for folder in (root, root / "chess"):
        found = SevenScenes(False, SevenScenesOptions()).find(folder)
        assert [scene.name for scene in found] == ["chess-seq-02", "chess-seq-03"]
    (one,) = SevenScenes(False, SevenScenesOptions()).find(root / "chess/seq-03")
    assert one.name == "chess-seq-03"


def test_frames_go_by_number_and_incomplete_or_broken_ones_are_named(write_sequence, run_import):
    root = write_sequence(count=5)
    folder = root / "chess/seq-01"
    (folder / "frame-000001.depth.png").unlink()
    (folder / "frame-000002.pose.txt").write_text("1 0 0\n")
    broken = folder / "frame-000003.color.png"
    broken.write_bytes(broken.read_bytes()[:-100])
    out, summary = run_import(SevenScenes, root, SevenScenesOptions())
    skipped = {item.name: item.reason for item in summary.scenes[0].skipped}
    assert [(item.name, item.reason) for item in summary.scenes[0].without_depth] == [
        ("frame-000001.color.png", "it has no depth image")
    ]
    assert "frame-000002.pose.txt, line 1 must hold 4 words; got 3" in skipped["frame-000002.color.png"]
    assert "ends early" in skipped["frame-000003.color.png"]
    for written, number in ((0, 0), (1, 1), (2, 4)):
        image = small.read(out / f"chess-seq-01/images/00000{written}.png")
        np.testing.assert_array_equal(image, small.image(number, HEIGHT, WIDTH))
    assert len(np.loadtxt(out / "chess-seq-01/poses.txt")) == 3


K = np.array(((10.0, 0, 4), (0, 10.0, 3), (0, 0, 1)))


def test_the_same_camera_sees_the_same_depth():
    depth = small.depth(0, 7, 9)
    np.testing.assert_array_equal(DepthRegistration(K, np.eye(4), K)(depth, (7, 9)), depth)


def test_a_point_lands_where_it_is_seen_from_beside_and_farther_back():
    depth = np.zeros((7, 9), dtype=np.uint16)
    depth[3, 4] = 1000  # on the axis: (0, 0, 1) m
    colour_T_depth = np.eye(4)
    colour_T_depth[:3, 3] = (0.2, -0.1, 0.25)  # seen at (0.2, -0.1, 1.25) m: 1.6 px to the right, 0.8 px up
    registered = DepthRegistration(K, colour_T_depth, K)(depth, (7, 9))
    assert np.argwhere(registered).tolist() == [[2, 6]]
    assert registered[2, 6] == 1250


@pytest.mark.parametrize("order", [(1000, 2000), (2000, 1000)])
def test_where_two_surfaces_land_in_one_pixel_the_nearest_wins(order):
    depth = np.zeros((1, 9), dtype=np.uint16)
    depth[0, 3:5] = order
    wide_angle = np.array(((1.0, 0, 4), (0, 10.0, 3), (0, 0, 1)))  # columns 3 and 4 both become column 4
    registered = DepthRegistration(K, np.eye(4), wide_angle)(depth, (1, 9))
    assert registered.tolist() == [[0, 0, 0, 0, 1000, 0, 0, 0, 0]]


def test_a_near_surface_moves_over_the_far_one_behind_it():
    colour_T_depth = np.eye(4)
    colour_T_depth[0, 3] = 0.12  # the near surface moves by 1.2 px, the far one by 0.6 px
    depth = np.full((1, 9), 2000, dtype=np.uint16)
    depth[0, 3:5] = 1000
    registered = DepthRegistration(K, colour_T_depth, K)(depth, (1, 9))
    assert registered.tolist() == [[0, 2000, 2000, 2000, 1000, 1000, 2000, 2000, 2000]]


def test_any_transform_agrees_with_the_slow_loop():
    K_colour = np.array(((8.3, 0, 5.1), (0, 7.9, 4.2), (0, 0, 1)))
    for seed in range(5):
        colour_T_depth = np.eye(4)
        angle = 0.1 * seed
        colour_T_depth[:2, :2] = ((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle)))
        colour_T_depth[:3, 3] = np.random.default_rng(seed).uniform(-0.2, 0.2, 3)
        depth = small.depth(seed)
        registered = DepthRegistration(K, colour_T_depth, K_colour)(depth, (9, 11))
        np.testing.assert_array_equal(registered, small.register_slowly(depth, K, colour_T_depth, K_colour, (9, 11)))
        assert registered.any()


def test_points_behind_the_camera_and_too_deep_for_uint16_are_dropped():
    depth = np.array(((500, 65000),), dtype=np.uint16)
    colour_T_depth = np.eye(4)
    colour_T_depth[2, 3] = -0.6
    assert (DepthRegistration(K, colour_T_depth, K)(depth[:, :1], (7, 9)) == 0).all()
    colour_T_depth[2, 3] = 0.6
    assert (DepthRegistration(K, colour_T_depth, K)(depth[:, 1:], (7, 9)) == 0).all()


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)), 2 * np.eye(4), np.full((4, 4), np.nan), np.eye(3)])
def test_only_a_rotation_and_a_translation_is_a_transform(wrong):
    with pytest.raises(DataError, match="the file must be a rotation and a translation"):
        check_transform(wrong, "the file")
