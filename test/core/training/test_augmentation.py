# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""From a clip to predictions: a scaled world must still be a world, and frames are measured against the right ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.synthetic.defects import Defects, apply_defects
from dvmvs_core.training.augmentation import SCALE_RANGES, ClipDraw, augment_clip, draw_clip, prepare_clip
from dvmvs_core.training.passes import nearest_frames, predictions

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


def test_what_a_clip_gets_depends_on_no_other_clip_of_its_batch():
    image = torch.rand(2, 3, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    drawn = [Defects(gain=1.1, noise=0.02, chroma_noise=0.01, seed=seed) for seed in (4, 5)]
    together = apply_defects(image, drawn)
    alone = torch.cat([apply_defects(image[i : i + 1], drawn[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_defects_spoil_images_alone_and_only_of_clips_that_have_them(wall_clips) -> None:
    batch = wall_clips(0)
    bad = Defects(gain=1.1, wander=0.05, vignetting=0.2, noise=0.01, chroma_noise=0.01, wide_halo=0.3, seed=4)
    spoilt = augment_clip(batch, [dataclasses.replace(PLAIN, defects=bad), PLAIN], 0.25, 20.0)
    prepared = prepare_clip(batch)
    torch.testing.assert_close(spoilt.image[1], prepared.image[1])
    assert (spoilt.image[0] - prepared.image[0]).abs().mean() > 0.02
    torch.testing.assert_close(spoilt.depth, prepared.depth)
    again = augment_clip(batch, [dataclasses.replace(PLAIN, defects=bad), PLAIN], 0.25, 20.0)
    assert torch.equal(spoilt.image, again.image)
    other = dataclasses.replace(bad, seed=5)
    assert not torch.equal(
        spoilt.image, augment_clip(batch, [dataclasses.replace(PLAIN, defects=other), PLAIN], 0.25, 20.0).image
    )


def test_jpeg_errs_as_the_codec_of_opencv_does() -> None:
    import cv2

    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.uniform(0, 255, (48, 64, 3)).astype(np.float32), (0, 0), 1.5)
    image = ((smooth - smooth.mean()) * 4 + 128).clip(0, 255).astype(np.uint8)
    given = torch.from_numpy(image).permute(2, 0, 1)[None, None].float() / 255
    for quality in (25, 80):
        ours = apply_defects(given, [Defects(jpeg_quality=quality)])[0, 0].permute(1, 2, 0).numpy() * 255
        coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        theirs = cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1].astype(float)
        assert np.abs(ours - image).mean() == pytest.approx(np.abs(theirs - image).mean(), rel=0.3)
        assert np.abs(ours - theirs).mean() < 0.7 * np.abs(ours - image).mean()


def test_brighter_pixels_are_noisier_and_highlights_clipped() -> None:
    given = torch.tensor([0.04, 0.64, 0.95]).view(1, 1, 1, 1, 3).expand(1, 2, 3, 32, 3).repeat_interleave(32, -1)
    noisy = apply_defects(given, [Defects(gain=1.2, noise=0.02, seed=1)])
    dark, middle, bright = (part.std() for part in noisy.chunk(3, -1))
    assert middle > 1.5 * dark
    assert noisy.max() == 1.0 and noisy.chunk(3, -1)[2].mean() > 0.97 and bright < middle


def test_sharpening_overshoots_at_edges() -> None:
    given = torch.full((1, 1, 3, 16, 16), 0.3)
    given[..., 8:] = 0.7
    for halo in ({"fine_halo": 0.5}, {"wide_halo": 0.5}):
        sharp = apply_defects(given, [Defects(**halo)])[0, 0, 0, 8]
        assert sharp[7] < 0.27 and sharp[8] > 0.73
        assert sharp[0] == pytest.approx(0.3, abs=1e-5)


def test_three_clips_in_four_have_defects_and_half_are_compressed() -> None:
    drawn = [draw.defects for draw in draws(7, 400)]
    assert 0.65 < np.mean([each != Defects(seed=each.seed) for each in drawn]) < 0.85
    assert 0.25 < np.mean([each.jpeg_quality > 0 for each in drawn]) < 0.5
    assert all(each.jpeg_quality == 0 or 25 <= each.jpeg_quality <= 95 for each in drawn)


@pytest.mark.parametrize(
    ("reference", "frames", "count", "expected"),
    [(0, 3, 2, [1, 2]), (1, 3, 2, [0, 2]), (2, 3, 2, [1, 0]), (3, 5, 1, [2]), (0, 2, 5, [1])],
)
def test_nearest_frames(reference: int, frames: int, count: int, expected: list[int]) -> None:
    assert nearest_frames(reference, frames, count) == expected


def test_pairwise_pass_equals_the_network_frame_by_frame(tiny, wall_clips) -> None:
    torch.manual_seed(0)
    network = build_network(tiny).eval()
    clip = prepare_clip(wall_clips(0))
    with torch.no_grad():
        ((pyramid, truth),) = predictions(network, clip, measurement_frames=2)
        features = [network.extract(clip.image[:, t]) for t in range(3)]
        for reference, measured in ((0, (1, 2)), (1, (0, 2)), (2, (1, 0))):
            alone = network(
                clip.image[:, reference],
                features[reference],
                [features[m].matching for m in measured],
                clip.world_T_cam[:, reference],
                [clip.world_T_cam[:, m] for m in measured],
                clip.K,
            )
            torch.testing.assert_close(
                pyramid.full.unflatten(0, (2, 3))[:, reference], alone.full, rtol=1e-4, atol=1e-4
            )
            assert torch.equal(truth.unflatten(0, (2, 3))[:, reference], clip.depth[:, reference])


@pytest.mark.parametrize("predicted_state", [False, True])
def test_recurrent_pass_skips_the_first_frame_and_looks_back_only(tiny, wall_clips, predicted_state: bool) -> None:
    torch.manual_seed(0)
    network = build_network(tiny.replace(network="fusionnet")).eval()
    batch = wall_clips(0, frames=4)
    with torch.no_grad():
        before = list(predictions(network, prepare_clip(batch), 2, predicted_state))
        batch.image[:, 3] = 255 - batch.image[:, 3]
        after = list(predictions(network, prepare_clip(batch), 2, predicted_state))
    assert len(before) == 3
    changed = [not torch.equal(old.full, new.full) for (old, _), (new, _) in zip(before, after, strict=True)]
    assert changed == [False, False, True]


def test_memory_of_the_first_frames_reaches_later_predictions(tiny, wall_clips) -> None:
    torch.manual_seed(0)
    network = build_network(tiny.replace(network="fusionnet"))
    clip = prepare_clip(wall_clips(0, frames=4))
    clip.image.requires_grad_(True)
    *_, (last, _) = predictions(network, clip, measurement_frames=1)
    last.full.sum().backward()
    assert clip.image.grad[:, 1].abs().max() > 0.0
