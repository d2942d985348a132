# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What pixels are compared by; the whole of matching, on a wall whose depth is known; and its confidence."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from dvmvs_core.config import MATCHING_PRESETS, MatchingConfig
from dvmvs_core.errors import ConfigError
from dvmvs_core.matching.descriptors import INT8_SCALE, compiled_joined_maps, joined_maps, patch_rows
from dvmvs_core.matching.keyframe import MatchedDepth, MatchingView
from dvmvs_core.matching.matched_confidence import matched_confidence
from dvmvs_core.matching.matcher import Matcher
from dvmvs_core.matching.regularise import unregularised
from dvmvs_core.model.patch_matching import PATCH_BASIS, full_patch_descriptors
from dvmvs_core.preprocess import normalise


@pytest.fixture(scope="module")
def described(wall, describer):
    return [describer(image) for image in wall.images]


@pytest.fixture(scope="module")
def walk(wall, described, describer):
    """Function of the depth that the network says of all the wall, and a preset: what is matched for each view."""

    def match_all(network_m, preset="fast"):
        matcher, past, results = Matcher(MATCHING_PRESETS[preset], describer, unregularised), [], []
        for descriptors, pose in zip(described, wall.poses, strict=True):
            view = MatchingView(descriptors, wall.K, pose)
            results.append(matcher.match(view, past, np.full((96, 128), network_m, np.float32)))
            past.append(dataclasses.replace(view, matched=results[-1]))
        return results

    return match_all


@pytest.mark.parametrize("preset", MATCHING_PRESETS)
@pytest.mark.parametrize("network_m", [0.8, 2.0, 3.2])
def test_it_finds_the_wall_however_wrong_the_network_is(wall, walk, preset, network_m):
    *_, last = walk(network_m, preset)
    assert last.depth.shape == (96, 128)
    assert last.depth.dtype == np.float32
    inner = last.depth[12:-12, 12:-12]
    assert np.median(np.abs(inner / wall.depth_m - 1)) < 0.02
    assert (np.abs(inner / wall.depth_m - 1) < 0.1).mean() > 0.97


def test_without_a_past_it_returns_the_network(walk):
    first, *_ = walk(2.6)
    np.testing.assert_array_equal(first.depth, np.float32(2.6))
    assert not first.parallax.any()
    assert first.blindness.min() == 1
    assert not first.views.any()


def test_without_parallax_the_network_decides(wall, described, describer):
    matcher = Matcher(MATCHING_PRESETS["fast"], describer, unregularised)
    views = [MatchingView(described[-1], wall.K, wall.poses[-1]) for _ in range(2)]
    result = matcher.match(views[0], views[1:], np.full((96, 128), 3.0, np.float32))
    np.testing.assert_allclose(result.depth, 3.0, rtol=0.04)


def test_a_textured_wall_has_no_blind_cell(walk):
    assert max(one.blindness.max() for one in walk(2.0)[1:]) == 0


def test_the_past_tells_how_sure_it_was(walk):
    results = walk(2.02)
    assert results[0].agreement.max() == 0
    assert np.median(results[-1].agreement[6:-6, 6:-6]) > 0.1
    assert np.median(results[-1].margin[12:-12, 12:-12]) > np.median(results[0].margin)


@pytest.mark.parametrize(
    "wrong", [{"views": 0}, {"views": 31}, {"planes": 4}, {"min_depth_m": 0.0}, {"neighbourhoods": (2,)}, {"speed": 1}]
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError):
        MatchingConfig.from_dict(wrong)


@pytest.fixture(scope="module")
def matched(walk) -> MatchedDepth:
    """What was measured of the last view; no regulariser had an opinion."""
    return dataclasses.replace(walk(2.0)[-1], log_odds=None)


def test_either_probability_can_be_low(matched):
    measured = matched_confidence(matched, "fast")
    assert np.median(measured) > 0.3
    doubted = dataclasses.replace(matched, log_odds=np.full(matched.margin.shape, -8.0, np.float32))
    assert matched_confidence(doubted, "fast").max() < 1e-3
    believed = dataclasses.replace(matched, log_odds=np.full(matched.margin.shape, 20.0, np.float32))
    np.testing.assert_allclose(matched_confidence(believed, "fast"), measured, atol=1e-6)


def test_rough_poses_allow_little_where_there_is_little_parallax(matched):
    def confidence(parallax_px, pose_error_px):
        parallax = np.full_like(matched.parallax, parallax_px)
        changed = dataclasses.replace(matched, parallax=parallax, pose_error_px=pose_error_px)
        return matched_confidence(changed, "fast")

    exact = 1e-6
    off_by_10_percent = math.log(1.25) / math.log(1.1)  # where a pixel is missed by one
    for parallax_px, share in ((1.0, 0.3307), (off_by_10_percent, 0.6827), (8.0, 0.9994)):
        found, expected = confidence(parallax_px, 1.0), share * confidence(parallax_px, exact)
        np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert confidence(8.0, math.inf).max() == 0
    inner = confidence(0.0, 1.0)[2:-2, 2:-2]
    assert 0 < inner.min() and inner.max() < 0.01, "0 says that no keyframe has a pixel in view"


def test_it_is_zero_up_to_the_border_of_what_was_seen(matched):
    views = matched.views.copy()
    views[:, 40:] = 0
    confidence = matched_confidence(dataclasses.replace(matched, views=views), "fast")
    assert confidence[:, 80:].max() == 0
    assert confidence[:, :79].min() > 0


def test_patches_are_those_of_the_plain_version():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (12, 14, 1), dtype=np.uint8).repeat(3, axis=2)
    image[:, :5] = 77
    patches = np.full((12, 14, 8), np.nan, np.float32)
    patch_rows(0, 12, image[..., 0].astype(np.float32), np.float32(1), PATCH_BASIS, patches)
    plain = full_patch_descriptors(torch.from_numpy(normalise(image))[None])[0].permute(1, 2, 0).numpy() / 8**0.5
    np.testing.assert_allclose(patches, plain, atol=2e-3)
    assert np.abs(patches[:, :4]).max() < 1e-6


@pytest.mark.parametrize("join", [joined_maps, compiled_joined_maps])
def test_the_eighth_map_is_joined_where_its_cells_are_centred(join):
    """Its cells, at pixels 8x + 7, coincide with the odd ones of the 1/4 map, at pixels 4x + 3."""
    torch.manual_seed(1)
    quarter, eighth = torch.randn(1, 24, 8, 12), torch.randn(1, 40, 4, 6)
    joined = torch.as_tensor(join(quarter, eighth))
    assert joined.shape == (8, 12, 64)
    torch.testing.assert_close(joined.norm(dim=-1), torch.ones(8, 12))
    centred = eighth - eighth.mean(dim=(2, 3), keepdim=True)
    expected = (centred / centred.norm(dim=1, keepdim=True))[0].permute(1, 2, 0) * 0.5**0.5
    torch.testing.assert_close(joined[1::2, 1::2, 24:], expected)
    torch.testing.assert_close(joined, joined_maps(quarter, eighth))


def test_descriptors_are_small_and_of_unit_length(wall, describer):
    descriptors = describer(wall.images[0])
    assert descriptors.patches.dtype == descriptors.maps.dtype == np.int8
    assert descriptors.patches.shape == (48, 64, 8)
    assert descriptors.maps.shape == (24, 32, 64)
    for part in (descriptors.patches, descriptors.maps):
        lengths = np.linalg.norm(part.astype(float) / INT8_SCALE, axis=-1)
        np.testing.assert_allclose(lengths[2:-2, 2:-2], 1, atol=0.1)
