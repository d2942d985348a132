# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Refinement and check, on a wall two metres away with a texture that can be seen from everywhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dvmvs_core.data.sequence import SequenceItem
from dvmvs_core.evaluation.reconstruction.depth_views import DepthView
from dvmvs_core.evaluation.reconstruction.view_refinement import (
    FINE_SWEEP,
    WIDE_SWEEP,
    agreeing_views,
    refined_predictions,
    refined_views,
)
from dvmvs_core.types import DepthPrediction

HEIGHT, WIDTH = 64, 96
K = np.array(((90.0, 0.0, 47.5), (0.0, 90.0, 31.5), (0.0, 0.0, 1.0)))
DISTANCE_M = 2.0
INNER = (slice(14, -14), slice(20, -20))


def view(number: int, depth: np.ndarray, plain: bool = False, is_keyframe: bool = True) -> DepthView:
    """What a camera sees after `number` steps of 8 cm to the right."""
    x = 0.08 * number
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    across = (columns - K[0, 2]) / K[0, 0] * DISTANCE_M + x
    down = (rows - K[1, 2]) / K[1, 1] * DISTANCE_M
    waves = np.sin(31 * across + 7 * down) + np.sin(53 * across - 19 * down) + np.sin(17 * down + 11 * across**2)
    grey = np.full((HEIGHT, WIDTH), 128.0) if plain else 128 + 40 * waves
    world_T_cam = np.eye(4)
    world_T_cam[0, 3] = x
    image = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return DepthView(number, depth.astype(np.float32), image, K, world_T_cam, is_keyframe=is_keyframe)


def wall(factor: float = 1.0) -> np.ndarray:
    return np.full((HEIGHT, WIDTH), DISTANCE_M * factor)


@pytest.mark.parametrize("factor", (0.75, 0.9, 1.0, 1.15, 1.4))
def test_wrong_depth_becomes_right_where_there_is_something_to_see(factor):
    refined = list(refined_views(view(i, wall(factor)) for i in range(5)))
    assert [one.frame_index for one in refined] == list(range(5))
    for one in refined:
        assert one.depth.dtype == np.float32
        assert np.median(np.abs(one.depth[INNER] / DISTANCE_M - 1)) < 0.015
        assert np.abs(one.depth[INNER] / DISTANCE_M - 1).max() < 0.06


def test_where_there_is_nothing_to_see_the_prediction_stays():
    for one in refined_views(view(i, wall(1.2), plain=True) for i in range(4)):
        assert one.depth == pytest.approx(1.2 * DISTANCE_M, rel=1e-3)


def test_no_pixel_goes_farther_than_the_range_and_none_comes_from_nothing():
    depth = wall(3.0)
    depth[:, :10] = 0.0
    for one in refined_views(view(i, depth) for i in range(4)):
        assert (one.depth[:, :10] == 0).all()
        change = np.abs(np.log(one.depth[:, 10:] / (3.0 * DISTANCE_M)))
        assert change.max() < WIDE_SWEEP.largest_change + FINE_SWEEP.largest_change + 0.01


def test_a_view_alone_stays_as_it_is():
    (one,) = refined_views([view(0, wall(1.3))])
    assert (one.depth == np.float32(1.3 * DISTANCE_M)).all()


def test_frames_between_keyframes_are_refined_by_keyframes_only():
    """The keyframes look plain: had the frames between been asked, these would have known better."""
    views = [view(i, wall(1.2), plain=i % 2 == 0, is_keyframe=i % 2 == 0) for i in range(9)]
    refined = list(refined_views(views))
    assert refined[3].depth[INNER] == pytest.approx(1.2 * DISTANCE_M, rel=0.02)
    neither = [dataclasses.replace(one, is_keyframe=True) for one in views]
    assert np.median(list(refined_views(neither))[3].depth[INNER]) == pytest.approx(DISTANCE_M, rel=0.02)


def test_what_the_views_around_do_not_confirm_is_left_out():
    views = [view(i, wall()) for i in range(7)]
    views[3].depth[20:40, 40:50] = 2.5
    views[2].depth[50:, :] = 3.0
    checked = list(agreeing_views(views))
    assert (checked[3].depth[20:40, 40:50] == 0).all()
    assert checked[3].depth[5:15, 40:50] == pytest.approx(DISTANCE_M)
    assert (checked[2].depth[50:] == 0).all()
    assert checked[3].depth[52:, 30:60] == pytest.approx(DISTANCE_M)  # five others still say so


def test_two_views_can_only_confirm_one_another():
    views = [view(i, wall()) for i in range(2)]
    for one in agreeing_views(views):
        assert one.depth[INNER] == pytest.approx(DISTANCE_M)
    views[1] = view(1, wall(1.2))
    assert all((one.depth == 0).all() for one in agreeing_views(views))


def test_three_walls_that_contradict_one_another_vanish():
    assert not any(one.depth.any() for one in agreeing_views(view(i, wall(1 + 0.2 * i)) for i in range(5)))


def test_predictions_keep_all_but_their_depth() -> None:
    views = [view(i, wall(1.2)) for i in range(6)]
    made = [
        DepthPrediction(
            depth=one.depth,
            K=one.K,
            image=one.image,
            world_T_cam=one.world_T_cam,
            stamp_ns=one.frame_index,
            frame_index=one.frame_index,
            measurement_index=(0,),
            measurement_stamps_ns=(0,),
            latency_ms=1.0,
            confidence=one.depth / 9,
        )
        for one in views
    ]
    items = [SequenceItem(None, str(i), None) for i in range(6)]
    found = list(refined_predictions(zip(made, items, strict=True)))
    assert [item for _, item in found] == items
    for (prediction, _), before, expected in zip(found, made, refined_views(views), strict=True):
        assert np.array_equal(prediction.depth, expected.depth)
        assert np.median(np.abs(prediction.depth[INNER] / DISTANCE_M - 1)) < 0.015
        assert prediction.frame_index == before.frame_index and prediction.confidence is before.confidence
        assert prediction.refined and not before.refined
