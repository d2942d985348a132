# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Past keyframes of images that another distortion was taken out of."""

from __future__ import annotations

import gc
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from dvmvs_core.matching.descriptors import Describer
from dvmvs_core.matching.keyframe import MatchedDepth, MatchingView
from dvmvs_core.matching.straight_views import StraightViews
from dvmvs_core.radial_distortion import straightened

K = np.array(((110.0, 0, 63.5), (0, 110.0, 47.5), (0, 0, 1)), np.float32)


def random_maps(image):
    return torch.rand(1, 24, 24, 32), torch.rand(1, 40, 12, 16)


@pytest.fixture
def described():
    """Calls of the describer, and what makes views straight with it."""
    calls = []
    describer = Describer(random_maps)

    def describe(image):
        calls.append(image)
        return describer(image)

    return calls, StraightViews(describe)


def view(distortion):
    noise = np.random.default_rng(1).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 2)
    describer = Describer(random_maps)
    return MatchingView(describer(image), K, np.eye(4, dtype=np.float32), distortion=distortion)


def test_views_that_are_as_straight_stay_the_same_objects(described):
    calls, straight = described
    views = [view(0.0), view(-0.1)]
    assert straight.described(views, view(-0.1))[1] is views[1]
    assert len(calls) == 1


def test_another_is_described_anew_once(described):
    calls, straight = described
    old = view(-0.04)
    (first,), (again,) = straight.described([old], view(-0.1)), straight.described([old], view(-0.1))
    assert len(calls) == 1 and first.descriptors is again.descriptors
    assert first.distortion == -0.1 and first.descriptors.levels is None
    expected = straightened(torch.from_numpy(old.descriptors.image).float(), K, -0.06)
    torch.testing.assert_close(calls[0], expected)
    straight.described([old], view(-0.12))
    assert len(calls) == 2


def test_it_is_straightened_by_the_given_intrinsics(described):
    """Whatever focal length is known by now: the camera's own images are straightened by those that it was given."""
    calls, straight = described
    longer = replace(view(0.0), K=K * np.float32(((1.1, 1, 1), (1, 1.1, 1), (1, 1, 1))))
    straight.described([longer], view(-0.2))
    torch.testing.assert_close(calls[0], straightened(torch.from_numpy(longer.descriptors.image).float(), K, -0.2))


def test_depth_moves_to_the_pixels_of_the_straighter_image(described):
    _, straight = described
    ramp = np.float32(1 + 0.01 * np.mgrid[:48, :64][1])
    zeros = np.zeros((24, 32), np.float32)
    matched = MatchedDepth(ramp, ramp, 2 * ramp, zeros, zeros, zeros, 3 * ramp, zeros, zeros)
    old, like = replace(view(-0.02), matched=matched), view(-0.2)
    (moved,), (again,) = straight.with_depth([old], like), straight.with_depth([old], like)
    assert again.matched is moved.matched and moved.descriptors is old.descriptors
    half_K = np.diag((0.5, 0.5, 1)) @ K
    u, v = np.float32(
        cv2.initUndistortRectifyMap(half_K, np.array((-0.18, 0, 0, 0)), None, half_K, (64, 48), cv2.CV_32F)
    )
    expected = cv2.remap(ramp, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(moved.matched.measured_depth, expected, atol=0.006)
    np.testing.assert_allclose(moved.matched.quarter[1], 2 * moved.matched.measured_depth[::2, ::2], rtol=1e-6)
    np.testing.assert_allclose(moved.matched.margin, 3 * moved.matched.measured_depth, rtol=1e-6)
    assert np.abs(expected - ramp).max() > 0.02


def test_two_steps_lead_where_one_does(described):
    _, straight = described
    plain = view(0.0)
    image = straightened(torch.from_numpy(plain.descriptors.image).float(), K, -0.05)
    between = MatchingView(Describer(random_maps)(image), K, None)
    once, twice = (straight.described([one], view(end))[0] for one, end in ((plain, -0.1), (between, -0.05)))
    difference = once.descriptors.image.astype(int) - twice.descriptors.image.astype(int)
    assert np.abs(difference)[8:-8, 8:-8].mean() < 3


def test_what_is_forgotten_leaves_nothing(described):
    _, straight = described
    straight.described([view(0.0)], view(-0.1))
    gc.collect()
    assert not len(straight._described)
