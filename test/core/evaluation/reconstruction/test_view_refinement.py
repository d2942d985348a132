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
import torch

from dvmvs_core.data.sequence import SequenceItem
from dvmvs_core.evaluation.reconstruction.geometric_consistency import (
    agreeing_views,
    consistency,
    image_tensor,
    matrix_tensor,
    with_neighbours,
)
from dvmvs_core.evaluation.reconstruction.view_refinement import (
    EDGE,
    FINE_SWEEP,
    NEXT_DEPTH,
    OTHER_DEPTH,
    WIDE_SWEEP,
    refined_predictions,
    refined_views,
    semi_global_scores,
)
from dvmvs_core.types import DepthPrediction


@pytest.mark.parametrize("factor", (0.75, 0.9, 1.0, 1.15, 1.4))
def test_wrong_depth_becomes_right_where_there_is_something_to_see(factor, walls):
    refined = list(refined_views(walls.view(i, walls.depth(factor)) for i in range(5)))
    assert [one.frame_index for one in refined] == list(range(5))
    for one in refined:
        assert one.depth.dtype == np.float32
        assert np.median(np.abs(one.depth[walls.inner] / walls.distance_m - 1)) < 0.015
        assert np.abs(one.depth[walls.inner] / walls.distance_m - 1).max() < 0.06


def test_where_there_is_nothing_to_see_the_prediction_stays(walls):
    for one in refined_views(walls.view(i, walls.depth(1.2), plain=True) for i in range(4)):
        assert one.depth == pytest.approx(1.2 * walls.distance_m, rel=1e-3)


def test_a_view_with_nothing_to_see_takes_the_depth_that_the_others_came_to(walls):
    views = [walls.view(i, walls.depth(1.2), plain=i == 3) for i in range(7)]
    refined = list(refined_views(views))
    assert np.median(refined[3].depth[walls.inner]) == pytest.approx(walls.distance_m, rel=0.02)


def test_no_pixel_goes_farther_than_the_range_and_none_comes_from_nothing(walls):
    depth = walls.depth(3.0)
    depth[:, :10] = 0.0
    for one in refined_views(walls.view(i, depth) for i in range(4)):
        assert (one.depth[:, :10] == 0).all()
        change = np.abs(np.log(one.depth[:, 10:] / (3.0 * walls.distance_m)))
        assert change.max() < WIDE_SWEEP.largest_change + FINE_SWEEP.largest_change + 0.01


def test_a_frame_between_keyframes_is_refined_as_a_keyframe_would_be(walls):
    """Its scores are not held but worked out twice; held ones are rounded to 16 bits."""
    views = [walls.view(i, walls.depth(1.2)) for i in range(7)]
    views[3] = dataclasses.replace(views[3], is_keyframe=False)
    (between,) = (one for one in refined_views(views) if not one.is_keyframe)
    others = [dataclasses.replace(one, is_keyframe=True) for one in views]
    keyframe = list(refined_views(others))[3]
    assert np.abs(between.depth[walls.inner] / walls.distance_m - 1).max() < 0.06
    assert np.median(np.abs(between.depth / keyframe.depth - 1)) < 1e-3


def test_a_view_alone_stays_as_it_is(walls):
    (one,) = refined_views([walls.view(0, walls.depth(1.3))])
    assert (one.depth == np.float32(1.3 * walls.distance_m)).all()


def test_frames_between_keyframes_are_refined_by_keyframes_only(walls):
    """The keyframes look plain: had the frames between been asked, these would have known better."""
    views = [walls.view(i, walls.depth(1.2), plain=i % 3 == 0, is_keyframe=i % 3 == 0) for i in range(10)]
    refined = list(refined_views(views))
    assert refined[4].depth[walls.inner] == pytest.approx(1.2 * walls.distance_m, rel=0.02)
    neither = [dataclasses.replace(one, is_keyframe=True) for one in views]
    assert np.median(list(refined_views(neither))[4].depth[walls.inner]) == pytest.approx(walls.distance_m, rel=0.02)


def test_predictions_keep_all_but_their_depth(walls) -> None:
    views = [walls.view(i, walls.depth(1.2)) for i in range(6)]
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
        assert np.median(np.abs(prediction.depth[walls.inner] / walls.distance_m - 1)) < 0.015
        assert prediction.frame_index == before.frame_index and prediction.confidence is before.confidence
        assert prediction.refined and not before.refined


def spoken_for(depths: torch.Tensor, strength: torch.Tensor | float = 1.0, planes: int = 9) -> torch.Tensor:
    """Scores (P, h, w) that speak for one plane at each pixel, more or less loudly."""
    return strength * torch.nn.functional.one_hot(depths, planes).permute(2, 0, 1).float()


def test_it_is_the_recursion_of_the_paper_along_four_directions():
    rng = np.random.default_rng(0)
    scores, grey = rng.normal(size=(5, 4, 6)), rng.uniform(0, 255, (4, 6))

    def along(line, greys):
        summed = [line[0]]
        for own, step in zip(line[1:], np.abs(np.diff(greys)), strict=True):
            price = max(OTHER_DEPTH * np.exp(-step / EDGE), NEXT_DEPTH)
            before = summed[-1]
            costs = np.full((5, 5), price)
            costs[np.abs(np.subtract.outer(range(5), range(5))) == 1] = NEXT_DEPTH
            np.fill_diagonal(costs, 0)
            summed.append(own + (before[None] - costs).max(axis=1) - before.max())
        return np.array(summed)

    expected = np.zeros_like(scores)
    for y in range(4):
        expected[:, y] += along(scores[:, y].T, grey[y]).T + along(scores[:, y, ::-1].T, grey[y, ::-1])[::-1].T
    for x in range(6):
        expected[:, :, x] += along(scores[:, :, x].T, grey[:, x]).T
        expected[:, :, x] += along(scores[:, ::-1, x].T, grey[::-1, x])[::-1].T
    found = semi_global_scores(torch.tensor(scores, dtype=torch.float32), torch.tensor(grey, dtype=torch.float32))
    np.testing.assert_allclose(found, expected / 4, atol=1e-5)


def test_pixels_that_hardly_know_take_the_depth_of_those_around():
    depths = torch.full((12, 16), 2)
    strength = torch.ones(12, 16)
    depths[4:8, 5:11], strength[4:8, 5:11] = 7, 0.05
    found = semi_global_scores(spoken_for(depths, strength), torch.full((12, 16), 100.0)).argmax(dim=0)
    assert (found == 2).all()


def test_depth_jumps_where_the_image_has_an_edge():
    truth = torch.full((12, 16), 1)
    truth[:, 8:] = 6
    strength = torch.ones(12, 16)
    strength[:, 5:11] = 0.0  # nobody knows about the pixels on both sides of the edge
    grey = torch.where(truth == 1, 40.0, 200.0)
    assert (semi_global_scores(spoken_for(truth, strength), grey).argmax(dim=0) == truth).all()
    misleading = torch.full((12, 16), 40.0)
    misleading[:, 6:] = 200.0
    assert (semi_global_scores(spoken_for(truth, strength), misleading).argmax(dim=0)[:, 6:] == 6).all()


def test_what_the_views_around_do_not_confirm_is_left_out(walls):
    views = [walls.view(i, walls.depth()) for i in range(7)]
    views[3].depth[20:40, 40:50] = 2.5
    views[2].depth[50:, :] = 3.0
    checked = list(agreeing_views(views))
    assert (checked[3].depth[20:40, 40:50] == 0).all()
    assert checked[3].depth[5:15, 40:50] == pytest.approx(walls.distance_m)
    assert (checked[2].depth[50:] == 0).all()
    assert checked[3].depth[52:, 30:60] == pytest.approx(walls.distance_m)  # five others still say so


def test_two_views_can_only_confirm_one_another(walls):
    views = [walls.view(i, walls.depth()) for i in range(2)]
    for one in agreeing_views(views):
        assert one.depth[walls.inner] == pytest.approx(walls.distance_m)
    views[1] = walls.view(1, walls.depth(1.2))
    assert all((one.depth == 0).all() for one in agreeing_views(views))


def test_three_walls_that_contradict_one_another_vanish(walls):
    assert not any(one.depth.any() for one in agreeing_views(walls.view(i, walls.depth(1 + 0.2 * i)) for i in range(5)))


def supported(
    walls, tried_m: list[float], others_m: list[float], first: int = 1, tolerance: float = 0.05
) -> np.ndarray:
    """How far (P, N) cameras to the right of one speak for `tried_m`, if each has one of `others_m` everywhere."""
    views = [walls.view(i, walls.depth(depth / walls.distance_m)) for i, depth in enumerate(others_m, first)]
    rays = torch.tensor((((0.0, 0.1), (0.0, -0.1), (1.0, 1.0)),))
    depths = torch.tensor(tried_m).view(1, -1, 1).expand(1, -1, 2)
    others = [(image_tensor(view.depth), matrix_tensor(view.world_T_cam)) for view in views]
    return consistency(rays, depths, matrix_tensor(walls.K), torch.eye(4)[None], others, tolerance)[0].numpy()


def test_depth_that_all_others_have_is_wholly_consistent_and_support_falls_with_the_distance_to_it(walls):
    support = supported(walls, [1.8, 1.96, 2.0, 2.04, 2.2], [2.0] * 4)
    assert support[2] == pytest.approx(1, abs=1e-5)
    assert support[1] == pytest.approx(1 - (2 / 1.96 - 1) / 0.05, abs=1e-4)
    assert support[3] == pytest.approx(1 - (1 - 2 / 2.04) / 0.05, abs=1e-4)
    assert (support[[0, 4]] == 0).all()


@pytest.mark.parametrize(
    ("tried_m", "others_m", "support"),
    [
        pytest.param([1.5, 2.0, 2.5], [2.0, 2.0, 2.0, 1.5], [0.25, 0.75, 0], id="each has one voice"),
        pytest.param([2.0], [2.0, 2.0, 2.0, 0.0], [1], id="without depth there, not asked"),
        pytest.param([2.0], [2.0, 2.0], [2 / 3], id="fewer than three count for less"),
        pytest.param([2.0], [], [0], id="none"),
    ],
)
def test_each_other_view_that_has_depth_there_speaks_for_it(walls, tried_m, others_m, support):
    assert supported(walls, tried_m, others_m) == pytest.approx(np.repeat(support, 2).reshape(-1, 2), abs=1e-5)


def test_views_that_look_elsewhere_are_not_asked(walls):
    """From the 14th camera on, the first point lies outside of the image; the second one, farther left, before that."""
    assert supported(walls, [2.0], [2.0] * 3 + [1.0] * 10)[0, 0] == pytest.approx(3 / 13, abs=1e-5)
    assert supported(walls, [2.0], [1.0] * 20, first=14)[0, 0] == 0
    assert supported(walls, [2.0], [2.0] * 3 + [2.0] * 27) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("reach", (1, 2, 3))
@pytest.mark.parametrize("count", (0, 1, 2, 9))
@pytest.mark.parametrize("every", (1, 2, 4))
def test_neighbours_are_those_that_a_plain_search_finds(reach, count, every):
    def is_keyframe(view: int) -> bool:
        return view % every == 0

    expected = []
    for view in range(count):
        before = [other for other in range(view) if is_keyframe(other)][-reach:]
        after = [other for other in range(view + 1, count) if is_keyframe(other)][:reach]
        expected.append((view, before + after))
    assert list(with_neighbours(range(count), reach, is_keyframe)) == expected


def test_views_come_as_soon_as_their_neighbours_are_there_and_go_when_they_are_not_needed():
    asked = []

    def endless():
        for view in range(1000):
            asked.append(view)
            yield view

    stream = with_neighbours(endless(), 3)
    for expected in range(100):
        view, _ = next(stream)
        assert view == expected
        assert len(asked) == view + 4
    held = stream.gi_frame.f_locals["held"]
    assert len(held) <= 8
