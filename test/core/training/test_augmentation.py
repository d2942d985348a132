"""A scaled world must still be a world: depth and camera path scale together, within the planes."""

from __future__ import annotations

import pytest
import torch

from dvmvs_core.training.augmentation import SCALE_RANGE, augment_clip, prepare_clip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_depth_and_translation_share_one_scale_per_clip(wall_clips) -> None:
    batch = wall_clips(3, batch=8)
    clip = augment_clip(batch, generator(), 0.25, 20.0)
    scale = clip.depth / batch.depth
    assert torch.allclose(scale, scale[:, :1, :1, :1].expand_as(scale))
    moved = clip.world_T_cam[:, 1, 0, 3] / batch.world_T_cam[:, 1, 0, 3]
    torch.testing.assert_close(moved, scale[:, 0, 0, 0])
    assert len(moved.unique()) == 8
    assert torch.equal(clip.world_T_cam[..., :3, :3], batch.world_T_cam[..., :3, :3])
    assert torch.equal(clip.K, batch.K)


@pytest.mark.parametrize(("near", "far"), [(1.4, 20.0), (0.25, 3.2)])
def test_scale_keeps_depth_within_the_planes(wall_clips, near: float, far: float) -> None:
    scales = []
    for seed in range(20):
        batch = wall_clips(seed, batch=4)
        clip = augment_clip(batch, generator(seed), near, far)
        assert near <= clip.depth.min() * (1 + 1e-6)
        assert clip.depth.max() <= far * (1 + 1e-6)
        scales.append((clip.depth / batch.depth)[:, 0, 0, 0])
    scales = torch.cat(scales)
    assert SCALE_RANGE[0] <= scales.min()
    assert scales.max() <= SCALE_RANGE[1]


def test_missing_depth_stays_missing_and_does_not_narrow_the_scale(wall_clips) -> None:
    batch = wall_clips(0)
    batch.depth[:, :, :5] = 0.0
    clip = augment_clip(batch, generator(), 0.25, 20.0)
    assert (clip.depth[:, :, :5] == 0.0).all()
    whole = augment_clip(wall_clips(0), generator(), 0.25, 20.0)
    assert torch.equal(clip.world_T_cam, whole.world_T_cam)


def test_all_frames_of_a_clip_get_the_same_colours(wall_clips) -> None:
    batch = wall_clips(0)
    batch.image[:] = batch.image[:, :1].clone()
    clip = augment_clip(batch, generator(1), 0.25, 20.0)
    assert torch.equal(clip.image[:, 0], clip.image[:, 1])
    assert not torch.allclose(clip.image, prepare_clip(batch).image, atol=0.02)


def test_source_is_left_as_it_was(wall_clips) -> None:
    batch, untouched = wall_clips(0), wall_clips(0)
    augment_clip(batch, generator(), 0.25, 20.0)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(batch, untouched, strict=True))


def test_prepared_image_is_what_the_engine_feeds_the_network(wall_clips) -> None:
    from dvmvs_core.preprocess import normalise

    batch = wall_clips(0)
    rgb = batch.image[1, 2].permute(1, 2, 0).numpy()
    torch.testing.assert_close(prepare_clip(batch).image[1, 2], torch.from_numpy(normalise(rgb)), atol=1e-6, rtol=0)
