# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Recordings in the training layout: which frames make a sample, what comes out, and what is left out and named."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvmvs_core.errors import DataError
from dvmvs_core.training.subsequences import subsequences
from dvmvs_core.training.training_scenes import SceneClips, open_training_scene

FRAMES, HEIGHT, WIDTH = 24, 48, 80


def clips_of(root, split="train", length=3, seed=0):
    return SceneClips(root, split, 32, 32, length, seed)


def frames_of(batch):
    """Which frames a batch holds, read from their grey."""
    return batch.image[:, :, 0, 0, 0].tolist()


def test_a_list_of_one_scene_is_read(training_folder):
    clips = clips_of(training_folder)
    assert [scene.name for scene in clips.scenes] == ["s0"]
    assert [scene.name for scene in clips_of(training_folder, "validation").scenes] == ["s1"]
    assert len(clips) > 4
    assert not clips.skipped


def test_clip_is_cropped_with_its_intrinsics_and_in_metres(training_folder):
    clips = clips_of(training_folder)
    batch = clips.batch(2, 0)
    assert (batch.image.shape, batch.image.dtype) == ((2, 3, 3, 32, 32), torch.uint8)
    assert (batch.depth == 2.0).all()
    # 48×80 loses 16 columns on each side to become square, then shrinks by 2/3.
    expected = torch.tensor([[40.0, 0, 16], [0, 40, 16], [0, 0, 1]])
    torch.testing.assert_close(batch.K, expected.expand(2, 3, 3))
    for frames, poses in zip(frames_of(batch), batch.world_T_cam, strict=True):
        torch.testing.assert_close(poses[:, 0, 3], 0.1 * torch.tensor(frames, dtype=torch.float32))


def test_an_epoch_shows_every_sample_once_and_each_in_an_order_of_its_own(training_folder):
    clips = clips_of(training_folder)
    count = len(clips)
    epochs = [
        [tuple(frames_of(clips.batch(1, index))[0]) for index in range(epoch * count, (epoch + 1) * count)]
        for epoch in range(2)
    ]
    expected = sorted(sample.frames for sample in clips.samples)
    assert sorted(epochs[0]) == sorted(epochs[1]) == expected
    assert epochs[0] != epochs[1]
    assert frames_of(clips_of(training_folder, seed=1).batch(4, 0)) != frames_of(clips.batch(4, 0))


def test_batches_depend_on_nothing_but_their_number(training_folder):
    clips = clips_of(training_folder)
    later = clips.batch(3, 5)
    for ours, theirs in zip(later, clips_of(training_folder).batch(3, 5), strict=True):
        assert torch.equal(ours, theirs)


def test_corrupt_frame_and_empty_depth_are_skipped_named_and_counted(training_folder):
    s0 = training_folder / "s0"
    (s0 / "000003.npz").write_bytes((s0 / "000003.npz").read_bytes()[:200])
    np.savez(s0 / "000005.npz", image=np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    for i in range(8, FRAMES):
        np.savez(
            s0 / f"{i:06d}.npz",
            image=np.full((HEIGHT, WIDTH, 3), i, np.uint8),
            depth=np.zeros((HEIGHT, WIDTH), np.uint16),
        )
    clips = clips_of(training_folder)
    seen = [frames for index in range(len(clips)) for frames in frames_of(clips.batch(1, index))]
    assert seen
    assert all(not {3, 5} & set(frames) and min(frames) < 8 for frames in seen)
    reasons = " ".join(clips.skipped.values())
    assert "000003.npz cannot be read" in reasons
    assert "000005.npz cannot be read" in reasons
    assert "hold no depth" in reasons
    assert len(clips.skipped) + len({tuple(frames) for frames in seen}) == len(clips)


def test_frame_of_another_type_is_named(training_folder):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    np.savez(training_folder / "s0" / "000002.npz", image=image, depth=np.ones((HEIGHT, WIDTH), np.float32))
    clips = clips_of(training_folder)
    for index in range(len(clips)):
        clips.batch(1, index)
    assert any("depth must be uint16" in reason for reason in clips.skipped.values())


def test_broken_scenes_are_left_out_and_named(training_folder, write_scene):
    (training_folder / "train.txt").write_text("s0\nmissing\nshort\n")
    write_scene("short", frames=5)
    (training_folder / "short" / "000004.npz").unlink()
    clips = clips_of(training_folder)
    assert [scene.name for scene in clips.scenes] == ["s0"]
    assert set(clips.skipped) == {"missing", "short"}
    assert "got 4 for 5 lines" in clips.skipped["short"]


def test_folder_that_gives_nothing_is_refused(training_folder, write_scene):
    (training_folder / "train.txt").write_text("missing\n")
    with pytest.raises(DataError, match="none of the 1 scenes"):
        clips_of(training_folder)
    write_scene("still", step_m=0.0)
    (training_folder / "train.txt").write_text("still\n")
    with pytest.raises(DataError, match="gives no clip of 3 frames"):
        clips_of(training_folder)
    for file in (training_folder / "s1").glob("*.npz"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="can be read; the last"):
        clips_of(training_folder, "validation").batch(1, 0)
    (training_folder / "train.txt").unlink()
    with pytest.raises(DataError, match=r"train\.txt cannot be read"):
        clips_of(training_folder)


def test_frames_with_a_lost_pose_are_left_out(training_folder):
    lines = (training_folder / "s0" / "poses.txt").read_text().splitlines()
    lines[1] = " ".join(["nan"] * 16)
    (training_folder / "s0" / "poses.txt").write_text("\n".join(lines))
    scene = open_training_scene(training_folder / "s0")
    assert len(scene.frames) == len(scene.poses) == FRAMES - 1
    assert scene.frames[1].name == "000002.npz"


def test_spread_takes_each_clip_once(training_folder):
    clips = clips_of(training_folder)
    batches = clips.spread(batch_size=2, batches=1000)
    seen = [tuple(frames) for batch in batches for frames in frames_of(batch)]
    assert sorted(seen) == sorted(sample.frames for sample in clips.samples)
    assert len(clips.spread(2, 2)) == 2


def test_many_scenes_are_searched_by_several_processes(training_folder, write_scene):
    for number in range(9):
        write_scene(f"m{number}", frames=10)
    (training_folder / "train.txt").write_text("".join(f"m{number}\n" for number in range(9)))
    clips = clips_of(training_folder)
    by_scene = [[s.frames for s in clips.samples if s.scene == number] for number in range(9)]
    assert by_scene[0]
    assert all(samples == by_scene[0] for samples in by_scene)


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
