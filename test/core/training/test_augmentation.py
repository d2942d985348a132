# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A scaled world must still be a world: depth and camera path scale together, within the planes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dvmvs_core.training.augmentation import SCALE_RANGES, ClipDraw, augment_clip, draw_clip, prepare_clip
from dvmvs_core.training.defects import Defects

PLAIN = ClipDraw(False, (1.0, 1.0), 0.5, brightness=0.0, contrast=1.0, gamma=1.0, order=(0, 1, 2))


def draws(seed: int, count: int = 2) -> list[ClipDraw]:
    rng = np.random.default_rng(seed)
    return [draw_clip(rng) for _ in range(count)]


def straight(seed: int, count: int = 2) -> list[ClipDraw]:
    """Draws that leave the order of time."""
    return [dataclasses.replace(draw, turned=False) for draw in draws(seed, count)]


def test_depth_and_translation_share_one_scale_per_clip(wall_clips) -> None:
    batch = wall_clips(3, batch=8)
    clip = augment_clip(batch, straight(0, 8), 0.25, 20.0)
    scale = clip.depth / batch.depth
    assert torch.allclose(scale, scale[:, :1, :1, :1].expand_as(scale))
    moved = clip.world_T_cam[:, 1, 0, 3] / batch.world_T_cam[:, 1, 0, 3]
    torch.testing.assert_close(moved, scale[:, 0, 0, 0])
    assert len(moved.unique()) == 8
    assert torch.equal(clip.world_T_cam[..., :3, :3], batch.world_T_cam[..., :3, :3])
    assert torch.equal(clip.K, batch.K)


def test_draw_without_change_is_what_validation_sees(wall_clips) -> None:
    batch = wall_clips(0)
    plain, prepared = augment_clip(batch, [PLAIN, PLAIN], 0.25, 20.0), prepare_clip(batch)
    for ours, theirs in zip(vars(plain).values(), vars(prepared).values(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_turned_clip_runs_backwards_as_a_whole(wall_clips) -> None:
    batch = wall_clips(0)
    turned = augment_clip(batch, [dataclasses.replace(PLAIN, turned=True), PLAIN], 0.25, 20.0)
    prepared = prepare_clip(batch)
    for part in ("image", "depth", "world_T_cam"):
        ours, theirs = getattr(turned, part), getattr(prepared, part)
        torch.testing.assert_close(ours[0], theirs[0].flip(0))
        torch.testing.assert_close(ours[1], theirs[1])


@pytest.mark.parametrize(("near", "far"), [(1.4, 20.0), (0.25, 3.2)])
def test_scale_keeps_depth_within_the_planes(wall_clips, near: float, far: float) -> None:
    scales = []
    for seed in range(20):
        batch = wall_clips(seed, batch=4)
        clip = augment_clip(batch, straight(seed, 4), near, far)
        assert near <= clip.depth.min() * (1 + 1e-6)
        assert clip.depth.max() <= far * (1 + 1e-6)
        scales.append((clip.depth / batch.depth)[:, 0, 0, 0])
    scales = torch.cat(scales)
    assert SCALE_RANGES[1][0] <= scales.min()
    assert scales.max() <= SCALE_RANGES[1][1]


def test_missing_depth_stays_missing_and_does_not_narrow_the_scale(wall_clips) -> None:
    batch = wall_clips(0)
    batch.depth[:, :, :5] = 0.0
    clip = augment_clip(batch, draws(0), 0.25, 20.0)
    assert (clip.depth[:, :, :5] == 0.0).all()
    whole = augment_clip(wall_clips(0), draws(0), 0.25, 20.0)
    assert torch.equal(clip.world_T_cam, whole.world_T_cam)


def test_clip_without_any_depth_gets_a_scale_too(wall_clips) -> None:
    batch = wall_clips(0)
    batch.depth[:] = 0.0
    clip = augment_clip(batch, draws(0), 0.25, 20.0)
    assert torch.isfinite(clip.world_T_cam).all()
    assert not clip.depth.any()


def test_all_frames_of_a_clip_get_the_same_colours(wall_clips) -> None:
    batch = wall_clips(0)
    batch.image[:] = batch.image[:, :1].clone()
    clip = augment_clip(batch, [dataclasses.replace(draw, defects=Defects()) for draw in draws(1)], 0.25, 20.0)
    assert torch.equal(clip.image[:, 0], clip.image[:, 1])
    assert not torch.allclose(clip.image, prepare_clip(batch).image, atol=0.02)


@pytest.mark.parametrize(("value", "recoloured"), [(54, False), (56, True), (199, True), (201, False)])
def test_dark_and_bright_frames_keep_their_colours(wall_clips, value: int, recoloured: bool) -> None:
    batch = wall_clips(0)
    batch.image[:] = value
    changed = augment_clip(batch, [dataclasses.replace(PLAIN, brightness=0.02)] * 2, 0.25, 20.0)
    assert torch.allclose(changed.image, prepare_clip(batch).image, atol=1e-4) != recoloured


def test_source_is_left_as_it_was(wall_clips) -> None:
    batch, untouched = wall_clips(0), wall_clips(0)
    augment_clip(batch, draws(0), 0.25, 20.0)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(batch, untouched, strict=True))


def test_draws_vary_and_stay_in_their_ranges() -> None:
    drawn = draws(5, 200)
    assert 60 < sum(draw.turned for draw in drawn) < 140
    assert {draw.scale_range for draw in drawn} == set(SCALE_RANGES)
    assert {draw.order for draw in drawn} == {(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)}
    assert all(0.8 <= draw.gamma <= 1.2 and 0.8 <= draw.contrast <= 1.2 for draw in drawn)
    assert all(-0.03 <= draw.brightness <= 0.03 and 0.0 <= draw.scale_share <= 1.0 for draw in drawn)


def test_prepared_image_is_what_the_engine_feeds_the_network(wall_clips) -> None:
    from dvmvs_core.preprocess import normalise

    batch = wall_clips(0)
    rgb = batch.image[1, 2].permute(1, 2, 0).numpy()
    torch.testing.assert_close(prepare_clip(batch).image[1, 2], torch.from_numpy(normalise(rgb)), atol=1e-6, rtol=0)
