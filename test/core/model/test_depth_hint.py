# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Past predictions in the current view."""

from __future__ import annotations

import torch

from dvmvs_core.model.depth_hint import depth_hint, no_hint, splat_depth

K = torch.tensor([[[40.0, 0.0, 31.0], [0.0, 40.0, 15.0], [0.0, 0.0, 1.0]]])


def shifted(x: float = 0.0, z: float = 0.0) -> torch.Tensor:
    transform = torch.eye(4)[None].clone()
    transform[0, 0, 3], transform[0, 2, 3] = x, z
    return transform


def test_the_same_view_keeps_its_depth() -> None:
    splat = splat_depth(torch.full((1, 32, 64), 2.0), torch.eye(4)[None], K)
    torch.testing.assert_close(splat, torch.full((1, 8, 16), 2.0))


def test_depth_moves_with_the_camera() -> None:
    """Of a wall at 2 m, a camera 0.5 m ahead sees 1.5 m; moved sideways by 0.4 m (8 pixels), two columns are empty."""
    ahead = splat_depth(torch.full((1, 32, 64), 2.0), shifted(z=-0.5), K)
    torch.testing.assert_close(ahead[ahead > 0].unique(), torch.tensor([1.5]))
    beside = splat_depth(torch.full((1, 32, 64), 2.0), shifted(x=-0.4), K)
    assert (beside[0, 2] > 0).tolist() == 14 * [True] + 2 * [False]


def test_the_nearest_point_of_a_cell_is_kept_and_empty_depth_none() -> None:
    depth = torch.full((1, 32, 64), 4.0)
    depth[0, 16, 32] = 1.0
    depth[0, :8] = 0.0
    splat = splat_depth(depth, torch.eye(4)[None], K)
    assert splat.amin() == 0.0 and not splat[0, 0].any()
    assert (splat == 1.0).sum() == 1


def test_what_lies_behind_the_camera_is_left_out() -> None:
    assert not splat_depth(torch.full((1, 32, 64), 2.0), shifted(z=-3.0), K).any()


def test_median_spread_and_count() -> None:
    def cell(value: float) -> torch.Tensor:
        return torch.tensor([[[value, 0.0]]])

    e = torch.tensor(1.0).exp().item()
    three = depth_hint([cell(1.0), cell(e**2), cell(e)])
    assert three.count.flatten().tolist() == [3.0, 0.0]
    torch.testing.assert_close(three.log_depth.flatten(), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(three.spread.flatten(), torch.tensor([2 / 3, 0.0]))
    two = depth_hint([cell(e), cell(1.0), cell(0.0)])
    torch.testing.assert_close(two.log_depth.flatten(), torch.tensor([0.0, 0.0]))
    assert two.count.flatten().tolist() == [2.0, 0.0]


def test_no_hint_has_no_count() -> None:
    hint = no_hint(torch.zeros(2, 8, 3, 4))
    assert hint.count.shape == (2, 1, 3, 4) and not hint.count.any()
