# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The losses of `base`, all in log depth: of the planes, of depth, of its steps, and of the expected error.

Pixels without truth are left out by `torch.where` and not by indexing, so that no GPU is waited for. Symbols: B batch,
D planes, h×w cells of the score volume, H×W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.model.base import BasePrediction
from dvmvs_core.model.score_volume import VOLUME_OFFSET, VOLUME_STRIDE

EDGE_STEP = 0.1
"""Step of true log depth between neighbours from which a pixel counts as an edge, ..."""
EDGE_REACH = 2
"""... up to so many pixels away from it."""
EDGE_WEIGHT = 3.0
STRIDES = (1, 2, 4, 8)
"""Pixels between which steps are compared."""

PLANES_WEIGHT, COARSE_WEIGHT, FINE_WEIGHT, STEPS_WEIGHT, ERROR_WEIGHT = 0.5, 3.0, 6.0, 2.0, 0.1


def base_loss(prediction: BasePrediction, truth: Tensor, planes: Tensor) -> Tensor:
    """Return the loss of a batch, a scalar.

    Args:
        prediction: of `base`.
        truth: (B, H, W) metres, 0 where there is none.
        planes: (D,) log depths of the planes.
    """
    valid = truth > 0
    log_truth = torch.where(valid, truth, 1.0).log()
    weight = valid * (1.0 + (EDGE_WEIGHT - 1.0) * edge_mask(log_truth, valid))
    log_depth = prediction.depth.float().log()
    cells = (slice(None), slice(VOLUME_OFFSET, None, VOLUME_STRIDE), slice(VOLUME_OFFSET, None, VOLUME_STRIDE))
    log_cells, valid_cells, cell_weight = log_truth[cells], valid[cells], weight[cells]
    error = (prediction.coarse_log_depth - log_cells).abs()
    return (
        PLANES_WEIGHT * weighted_mean(plane_cross_entropy(prediction.logits, log_cells, planes), valid_cells)
        + COARSE_WEIGHT * weighted_mean(error, cell_weight)
        + FINE_WEIGHT * weighted_mean((log_depth - log_truth).abs(), weight)
        + STEPS_WEIGHT * steps_loss(log_depth, log_truth, valid)
        + ERROR_WEIGHT * weighted_mean(expected_error_loss(prediction.log_error, error.detach()), valid_cells)
    )


def plane_cross_entropy(logits: Tensor, log_truth: Tensor, planes: Tensor) -> Tensor:
    """Cross-entropy (B, h, w) with the truth shared between the two planes that it lies between.

    Args:
        logits: (B, D, h, w).
        log_truth: (B, h, w).
        planes: (D,), evenly spaced.
    """
    last = planes.numel() - 1
    position = ((log_truth - planes[0]) / (planes[1] - planes[0])).clamp(0, last)
    lower = position.detach().floor().clamp(max=last - 1)
    upper_part = (position - lower)[:, None]
    index = lower.long()[:, None]
    log_probability = logits.float().log_softmax(dim=1)
    lower_term, upper_term = log_probability.gather(1, index), log_probability.gather(1, index + 1)
    return -((1 - upper_part) * lower_term + upper_part * upper_term)[:, 0]


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


def expected_error_loss(log_error: Tensor, error: Tensor) -> Tensor:
    """Negative log likelihood of errors under Laplace distributions of the predicted scale, up to a constant."""
    scale = log_error.clamp(-6.0, 2.0)
    return error * (-scale).exp() + scale


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
