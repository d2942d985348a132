# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Parts of losses in log depth, at all pixels and at the edges.

Pixels without truth are left out by `torch.where` and not by indexing, so that no GPU is waited for. Symbols: B batch,
H×W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

EDGE_STEP = 0.1
"""Step of true log depth between neighbours from which a pixel counts as an edge, ..."""
EDGE_REACH = 2
"""... up to so many pixels away from it."""
STRIDES = (1, 2, 4, 8)
"""Pixels between which steps are compared."""


def steps_loss(log_depth: Tensor, log_truth: Tensor, valid: Tensor) -> Tensor:
    """Compare steps of log depth (B, H, W) between pixels some strides apart; blurred edges cost most here."""
    error = log_depth - log_truth
    total = error.new_zeros(())
    for stride in STRIDES:
        for axis in (-2, -1):
            length = error.shape[axis] - stride
            ahead, here = error.narrow(axis, stride, length), error.narrow(axis, 0, length)
            both = valid.narrow(axis, stride, length) & valid.narrow(axis, 0, length)
            total = total + weighted_mean((ahead - here).abs(), both)
    return total / len(STRIDES)


def edge_mask(log_truth: Tensor, valid: Tensor) -> Tensor:
    """Which pixels of (B, H, W) lie at a step of true depth, float 0 or 1."""
    edges = torch.zeros_like(log_truth)
    for axis in (-2, -1):
        length = log_truth.shape[axis] - 1
        both = valid.narrow(axis, 1, length) & valid.narrow(axis, 0, length)
        step = (log_truth.narrow(axis, 1, length) - log_truth.narrow(axis, 0, length)).abs()
        found = ((step > EDGE_STEP) & both).to(edges.dtype)
        pad = (0, 1) if axis == -1 else (0, 0, 0, 1)
        edges = torch.maximum(edges, functional.pad(found, pad))
    return functional.max_pool2d(edges[:, None], 2 * EDGE_REACH + 1, stride=1, padding=EDGE_REACH)[:, 0]


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of values where weights are above 0; 0 if none is."""
    weights = weights.to(values.dtype)
    kept = torch.where(weights > 0, values, 0.0)
    return (kept * weights).sum() / weights.sum().clamp(min=1.0)
