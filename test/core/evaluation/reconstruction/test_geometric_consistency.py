# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


from __future__ import annotations

import numpy as np
import pytest
import torch

from dvmvs_core.evaluation.reconstruction.geometric_consistency import (
    agreeing_views,
    consistency,
    image_tensor,
    matrix_tensor,
    with_neighbours,
)


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


def test_each_other_view_has_one_voice(walls):
    support = supported(walls, [1.5, 2.0, 2.5], [2.0, 2.0, 2.0, 1.5])
    assert support == pytest.approx(np.array(((0.25, 0.25), (0.75, 0.75), (0, 0))), abs=1e-5)


def test_views_without_depth_there_are_not_asked(walls):
    support = supported(walls, [2.0], [2.0, 2.0, 2.0, 0.0])
    assert support == pytest.approx(1, abs=1e-5)


def test_fewer_than_three_views_count_for_less(walls):
    assert supported(walls, [2.0], [2.0, 2.0]) == pytest.approx(2 / 3, abs=1e-5)
    assert supported(walls, [2.0], []) == pytest.approx(0)


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
