# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Clips, sequences and `dvmvs synthesize`: the same from a seed, true to their own geometry, whole or not there."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
import torch

from dvmvs_core.cli.main import main
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError
from dvmvs_core.synthetic import clips as clips_module
from dvmvs_core.synthetic import rendered_scenes as scene_module
from dvmvs_core.synthetic import textures
from dvmvs_core.synthetic.clips import SyntheticClips, render_sequence
from dvmvs_core.synthetic.rendered_scenes import SceneFormat, write_scene

SMALL = {"height": 32, "width": 40, "length": 3, "textures": 16}


@pytest.fixture(scope="module")
def batch():
    exact = {"pose_noise": 0.0, "motion_blur": 0.0}
    return SyntheticClips(48, 64, 2, seed=4, textures=24, **exact).batch(3, 0)


def test_a_batch_has_the_promised_shapes_and_ranges(batch):
    assert batch.image.shape == (3, 2, 3, 48, 64) and batch.image.dtype == torch.uint8
    assert batch.depth.shape == (3, 2, 48, 64) and batch.depth.dtype == torch.float32
    assert batch.world_T_cam.shape == (3, 2, 4, 4) and batch.world_T_cam.dtype == torch.float32
    assert batch.K.shape == (3, 3, 3) and batch.K.dtype == torch.float32
    assert batch.depth.min() >= 0.2 and batch.depth.max() < 30
    assert batch.image.float().std((1, 2, 3, 4)).min() > 8


def test_images_are_about_as_crowded_as_those_of_real_rooms():
    clips = SyntheticClips(128, 160, 1, seed=5, textures=48, motion_blur=0.0)
    medians, tops, flats = [], [], []
    for number in range(12):
        grey = clips.batch(1, number).image[0, 0].float().mean(0, keepdim=True)
        gradient = torch.hypot(grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2], grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]) / 2
        mean, square = (torch.nn.functional.avg_pool2d(part, 7, 1) for part in (grey, grey * grey))
        medians.append(float(gradient.median()))
        tops.append(float(gradient.flatten().quantile(0.9)))
        flats.append(float((square - mean * mean < 4.0).float().mean()))
    # At half of 320x256 edges are as steep but closer together. Wide bounds: twelve worlds differ from the next twelve.
    assert 1.5 < np.mean(medians) < 8.0
    assert 12.0 < np.mean(tops) < 45.0
    assert 0.03 < np.mean(flats) < 0.35


def test_the_seed_and_the_number_decide_and_nothing_else():
    clips = SyntheticClips(**SMALL, seed=7)
    later = clips.batch(2, 5)
    copy = pickle.loads(pickle.dumps(clips))
    again = copy.batch(2, 5)
    assert all(torch.equal(a, b) for a, b in zip(later, again, strict=True))
    alone = next(iter(SyntheticClips(**SMALL, seed=7)))
    first = clips.batch(2, 0)
    assert torch.equal(alone.image[0], first.image[0])
    assert not torch.equal(first.image[0], first.image[1])
    assert not torch.equal(SyntheticClips(**SMALL, seed=8).batch(1, 0).image, alone.image)


def test_clips_that_are_rendered_together_are_the_same():
    alone, together = (SyntheticClips(**SMALL, seed=9, clips_together=count).batch(3, 0) for count in (1, 2))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_textures_are_made_once_for_all_clips_of_a_process_and_not_to_draw(monkeypatch):
    made = []
    build = textures.build_texture_bank
    monkeypatch.setattr(textures, "build_texture_bank", lambda *arguments: made.append(arguments) or build(*arguments))
    small = {"height": 16, "width": 16, "length": 1, "textures": 9, "motion_blur": 0.0}
    first, second = (SyntheticClips(**small, seed=seed, texture_seed=55) for seed in (1, 2))
    shots = [clips.draw(1, 0) for clips in (first, second)]
    assert not made
    images = [clips.render(drawn).image for clips, drawn in zip((first, second), shots, strict=True)]
    assert made == [(55, 9)] and not torch.equal(*images)


def warped(batch, clip: int):
    """Colours of frame 1 seen from frame 0 by its depth and poses, those of frame 0, and where both see the same."""
    depth = batch.depth[clip].double().numpy()
    K = batch.K[clip].double().numpy()
    poses = batch.world_T_cam[clip].double().numpy()
    height, width = depth.shape[1:]
    v, u = np.mgrid[0:height, 0:width]
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(depth[0])], -1)
    points = rays * depth[0][..., None]
    other_T_this = np.linalg.inv(poses[1]) @ poses[0]
    moved = points @ other_T_this[:3, :3].T + other_T_this[:3, 3]
    z = moved[..., 2]
    x = moved[..., 0] / z * K[0, 0] + K[0, 2]
    y = moved[..., 1] / z * K[1, 1] + K[1, 2]
    grid = torch.from_numpy(np.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)).float()[None]

    def seen(values: torch.Tensor) -> np.ndarray:
        return torch.nn.functional.grid_sample(values[None].float(), grid, align_corners=True)[0].numpy()

    inside = (z > 0.1) & (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    depth_there = seen(torch.from_numpy(depth[1])[None])[0]
    visible = inside & (np.abs(depth_there / z - 1) < 0.01)
    return seen(batch.image[clip, 1]), batch.image[clip, 0].float().numpy(), inside, visible


def test_a_frame_warped_by_depth_and_pose_shows_the_other(batch):
    for clip in range(3):
        moved, still, inside, visible = warped(batch, clip)
        # Depth agrees wherever nothing hides: a wrong pose, K or ray length would agree almost nowhere.
        assert visible.sum() / inside.sum() > 0.75
        gain = np.median(still[:, visible]) / np.median(moved[:, visible])
        close = np.abs(moved[:, visible] * gain - still[:, visible]).mean()
        unmoved = np.abs(batch.image[clip, 1].float().numpy() - still)[:, visible].mean()
        assert close < 0.75 * unmoved or close < 4.0


def test_pose_noise_moves_poses_and_nothing_else():
    exact, noisy = (SyntheticClips(**SMALL, seed=7, pose_noise=scale).batch(5, 0) for scale in (0.0, 1.0))
    assert torch.equal(exact.image, noisy.image) and torch.equal(exact.depth, noisy.depth)
    difference = (exact.world_T_cam - noisy.world_T_cam).abs().amax((2, 3))  # (5, 3)
    assert (difference[:, 0] == 0).all() and 0 < difference.max() < 0.03
    # Some clips come from a perfect odometry.
    assert 1 <= (difference.amax(1) < 1e-6).sum() <= 4


def test_motion_blur_softens_images_and_nothing_else():
    sharp, blurred = (SyntheticClips(**SMALL, seed=7, motion_blur=scale).batch(3, 0) for scale in (0.0, 8.0))
    assert torch.equal(sharp.depth, blurred.depth) and torch.equal(sharp.world_T_cam, blurred.world_T_cam)

    def detail(image: torch.Tensor) -> torch.Tensor:
        return image.float().diff(dim=-1).abs().mean((1, 2, 3, 4))

    ratio = detail(blurred.image) / detail(sharp.image)
    assert (ratio < 1.02).all() and ratio.min() < 0.9


def test_a_sequence_comes_frame_by_frame_and_again():
    frames, K = render_sequence(3, 4, 32, 40, textures=16)
    first = list(frames)
    again = list(render_sequence(3, 4, 32, 40, textures=16)[0])
    assert len(first) == 4 and K.shape == (3, 3)
    for (image, depth, pose), (image_again, depth_again, pose_again) in zip(first, again, strict=True):
        assert image.shape == (32, 40, 3) and image.dtype == np.uint8
        assert depth.shape == (32, 40) and depth.dtype == np.float32 and pose.dtype == np.float64
        assert np.array_equal(image, image_again)
        assert np.array_equal(depth, depth_again) and np.array_equal(pose, pose_again)
    assert not np.array_equal(first[0][0], first[1][0])


def test_every_second_step_of_a_walk_is_the_same_walk():
    whole, K = render_sequence(3, 6, 32, 40, textures=16)
    half, K_of_half = render_sequence(3, 3, 32, 40, textures=16, every=2)
    assert np.array_equal(K, K_of_half)
    for (_, depth, pose), (_, depth_of_half, pose_of_half) in zip(list(whole)[::2], half, strict=True):
        assert np.array_equal(pose, pose_of_half) and np.array_equal(depth, depth_of_half)


def test_impossible_sizes_are_refused():
    with pytest.raises(DataError, match="at least 8x8 pixels.*got 4x40"):
        SyntheticClips(4, 40, 3)
    with pytest.raises(DataError, match="must not be negative; got seed 0, pose noise nan, motion blur 1"):
        SyntheticClips(32, 40, 3, pose_noise=float("nan"))
    with pytest.raises(
        DataError, match="seed that is not negative; got 3 frames of 32x40, 1 samples, every 1, seed -1"
    ):
        render_sequence(-1, 3, 32, 40)


SIZE = (32, 40)


def test_synthesize_writes_a_scene_that_opens(tmp_path, capsys):
    out = tmp_path / "new" / "room"
    assert main(["synthesize", str(out), "--frames", "3", "--seed", "2", "--height", "32", "--width", "40"]) == 0
    assert "3 frames of 40x32" in capsys.readouterr().out
    sequence = open_sequence(out)
    assert sequence.depth_name == "true depth"
    frames, K = render_sequence(2, 3, *SIZE)
    items = list(sequence.items())
    for index, (item, (image, depth, world_T_cam)) in enumerate(zip(items, frames, strict=True)):
        assert np.array_equal(item.frame.image, image)
        assert item.sensor_depth == pytest.approx(depth, abs=0.0006)
        assert item.frame.world_T_cam == pytest.approx(world_T_cam, abs=1e-9)
        assert pytest.approx(K) == item.frame.K
        assert item.frame.stamp_ns == pytest.approx(1_000_000_000 + index * 1e9 / 30, abs=2)
    sheet = cv2.imread(str(out / "contact_sheet.png"))
    assert sheet.shape == (64, 120, 3)
    assert sheet[:32, 40:80, ::-1].tolist() == items[1].frame.image.tolist()


def test_synthesize_writes_training_frames(tmp_path):
    write_scene(tmp_path / "room", 2, SceneFormat(2, *SIZE, training=True))
    with np.load(tmp_path / "room" / "000001.npz") as frame:
        assert frame["image"].shape == (*SIZE, 3) and frame["depth"].dtype == np.uint16
    assert np.loadtxt(tmp_path / "room" / "poses.txt").shape == (2, 16)


def test_an_existing_folder_is_never_touched(tmp_path, capsys):
    (tmp_path / "room").mkdir()
    assert main(["synthesize", str(tmp_path / "room"), "--frames", "2"]) == 1
    assert "exists already; name a folder that does not" in capsys.readouterr().err
    assert list((tmp_path / "room").iterdir()) == []


def test_nothing_is_left_of_a_scene_that_failed(tmp_path, monkeypatch):
    def interrupted():
        yield np.zeros((*SIZE, 3), np.uint8), np.ones(SIZE, np.float32), np.eye(4)
        raise KeyboardInterrupt

    monkeypatch.setattr(scene_module, "render_sequence", lambda *args: (interrupted(), np.eye(3)))
    with pytest.raises(KeyboardInterrupt):
        write_scene(tmp_path / "room", 2, SceneFormat(3, *SIZE))
    assert list(tmp_path.iterdir()) == []


def test_a_scene_without_frames_is_refused(tmp_path):
    with pytest.raises(DataError, match="at least one frame"):
        write_scene(tmp_path / "room", 2, SceneFormat(0, *SIZE))
    assert list(tmp_path.iterdir()) == []


def synthesize_set(out, *more: str) -> int:
    return main(["synthesize", str(out), "--frames", "2", "--height", "32", "--width", "40", "--seed", "4", *more])


def test_a_set_is_what_training_reads_and_goes_on_where_it_was(tmp_path, capsys):
    out = tmp_path / "set"
    assert synthesize_set(out, "--npz", "--scenes", "2") == 0
    assert "2 scenes of 2 frames of 40x32, and contact_sheet.png" in capsys.readouterr().out
    first = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    kept = (out / "synthetic000004" / "000001.npz").stat().st_mtime_ns
    assert synthesize_set(out, "--npz", "--scenes", "3") == 0
    assert "1 scenes of 2 frames of 40x32, 2 were there before" in capsys.readouterr().out
    assert (out / "synthetic000004" / "000001.npz").stat().st_mtime_ns == kept
    lists = (out / "train.txt").read_text() + (out / "validation.txt").read_text()
    assert sorted(lists.split()) == ["synthetic000004", "synthetic000005", "synthetic000006"]
    assert set(first) < {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert cv2.imread(str(out / "contact_sheet.png")).shape == (3 * 64, 80, 3)
    for name, seed in (("synthetic000004", 4), ("synthetic000006", 6)):
        (image, depth, world_T_cam), *_ = render_sequence(seed, 2, *SIZE)[0]
        with np.load(out / name / "000000.npz") as frame:
            assert np.array_equal(frame["image"], image)
            assert frame["depth"] == pytest.approx(depth * 1000, abs=0.51)
        assert np.loadtxt(out / name / "poses.txt")[0] == pytest.approx(world_T_cam.ravel(), abs=1e-9)


def test_clips_are_what_networks_are_trained_on(tmp_path):
    """Scene by scene those of their seeds, all with the same textures."""
    out = tmp_path / "set"
    assert synthesize_set(out, "--npz", "--clips", "--scenes", "2") == 0
    for name, seed in (("synthetic000004", 4), ("synthetic000005", 5)):
        clip = SyntheticClips(*SIZE, 2, seed=seed, pose_noise=0.0, texture_seed=0).batch(1, 0)
        with np.load(out / name / "000001.npz") as frame:
            assert np.array_equal(frame["image"], clip.image[0, 1].permute(1, 2, 0).numpy())
            assert frame["depth"] == pytest.approx(clip.depth[0, 1].numpy() * 1000, abs=0.51)
        assert np.loadtxt(out / name / "poses.txt")[1] == pytest.approx(
            clip.world_T_cam[0, 1].numpy().ravel(), abs=1e-6
        )
        assert np.loadtxt(out / name / "K.txt") == pytest.approx(clip.K[0].numpy(), rel=1e-6)
    assert synthesize_set(out, "--npz", "--scenes", "2") == 1, "a walk is something else"


def test_a_set_made_otherwise_is_in_the_way(tmp_path, capsys):
    assert synthesize_set(tmp_path / "set", "--scenes", "1") == 0
    assert synthesize_set(tmp_path / "set", "--scenes", "1", "--npz") == 1
    assert "was made otherwise" in capsys.readouterr().err
    assert synthesize_set(tmp_path / "none", "--scenes", "0") == 1
    assert "at least one scene; got 0" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_walk_that_no_room_has_space_for_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(clips_module, "sequence_path", lambda *args: None)
    with pytest.raises(DataError, match=r"no walk of 2 frames .* ask for fewer frames"):
        write_scene(tmp_path / "room", 2, SceneFormat(2, *SIZE))
    assert list(tmp_path.iterdir()) == []
