# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import numpy as np
import torch

from dvmvs_core.evaluation.reconstruction.score_aggregation import EDGE, NEXT_DEPTH, OTHER_DEPTH, semi_global_scores


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
