# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Semi-global matching: scores of many depths per pixel, made to agree along lines of the image.

Along each of four directions, a pixel's score of a depth is its own plus the best of the pixel before it, less a price:
none for the same depth, a small one for the next, a large one for any other. Where the image has an edge the large
price falls, since depth jumps where colours do. So a patch without texture takes the depth of what it belongs to.

Source: Hirschmüller, "Stereo Processing by Semiglobal Matching and Mutual Information", PAMI 2008, section 2.2; its
costs are scores here, so that more is better.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEXT_DEPTH = 0.2
"""Price of going to the next depth."""

OTHER_DEPTH = 4.0
"""Price of going to any other depth, where the image has no edge."""

EDGE = 30.0
"""Difference of grey levels, of 255, at which that price has fallen to 1/e of it."""


def semi_global_scores(scores: Tensor, grey: Tensor) -> Tensor:
    """Return the mean of the scores (P, h, w) along four directions.

    Args:
        scores: (P, h, w) of P neighbouring depths at each pixel; more is better.
        grey: (h, w) grey levels, 0 to 255, of the image that they belong to.
    """
    across = _both_ways(scores, grey)
    down = _both_ways(scores.mT.contiguous(), grey.mT).mT
    return (across + down) / 4


def _both_ways(scores: Tensor, grey: Tensor) -> Tensor:
    """Sum of the scores along rows, from the left and from the right."""
    return _along_rows(scores, grey) + _along_rows(scores.flip(-1), grey.flip(-1)).flip(-1)


def _along_rows(scores: Tensor, grey: Tensor) -> Tensor:
    steps = grey.diff(dim=1).abs()
    prices = (OTHER_DEPTH * torch.exp(-steps / EDGE)).clamp(min=NEXT_DEPTH)  # (h, w - 1), each of entering a pixel
    beyond = scores.new_full((1, scores.shape[1]), -torch.inf)
    columns = [scores[..., 0]]
    for own, price in zip(scores[..., 1:].unbind(dim=-1), prices.unbind(dim=-1), strict=True):
        before = columns[-1]
        best = before.amax(dim=0, keepdim=True)
        next_one = torch.maximum(torch.cat((before[1:], beyond)), torch.cat((beyond, before[:-1]))) - NEXT_DEPTH
        # Less the best of the pixel before, which decides nothing and keeps the numbers small.
        columns.append(own + torch.maximum(torch.maximum(before, next_one), best - price) - best)
    return torch.stack(columns, dim=-1)
