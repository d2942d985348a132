# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The four depth losses of the method, summed over the five scales of a prediction (paper, section 3.5); edge losses.

Per scale a loss is Σ (loss of every valid pixel) / (number of valid pixels); scales have weight 1 each. A pixel is
valid where the ground truth, resized to that scale by nearest neighbour, is not 0.

Pixels without truth are left out by `torch.where` and not by indexing, so that no GPU is waited for.

Symbols: d ground-truth depth [m], p predicted depth [m], B batch, H×W pixels.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.model.encoder_decoder import DepthPyramid

STRIDES = (1, 2, 4, 8)
"""Pixels between which steps of depth are compared."""

EDGE_STEP, EDGE_REACH = 0.1, 2
"""Step of true log depth between neighbours from which a pixel counts as an edge, up to so many pixels away from it."""


class DepthLoss(str, enum.Enum):
    """How the error of one pixel is measured."""

    L1 = "l1"
    """|d − p|, metres."""
    L1_INVERSE = "l1-inv"
    """|1/d − 1/p|, 1/metres; the default of the method, since the planes are spaced evenly in inverse depth."""
    L1_RELATIVE = "l1-rel"
    """|d − p| / d."""
    HUBER = "huber"
    """½(d − p)² where |d − p| < 1 m, else |d − p| − ½."""


def resize_truth(truth: Tensor, height: int, width: int) -> Tensor:
    """Resize ground-truth depth (B, H, W) to (B, height, width) by nearest neighbour."""
    return functional.interpolate(truth[:, None], size=(height, width), mode="nearest")[:, 0]


def pixel_losses(kind: DepthLoss, prediction: Tensor, truth: Tensor) -> Tensor:
    """Return the loss of every pixel; both depths have the same shape and hold no zeros."""
    if kind is DepthLoss.L1:
        return (truth - prediction).abs()
    if kind is DepthLoss.L1_INVERSE:
        return (1.0 / truth - 1.0 / prediction).abs()
    if kind is DepthLoss.L1_RELATIVE:
        return (truth - prediction).abs() / truth
    return functional.smooth_l1_loss(prediction, truth, reduction="none", beta=1.0)


def masked_loss(kind: DepthLoss, prediction: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Sum a loss over the valid pixels of one scale.

    Args:
        kind: which loss.
        prediction: (B, h, w) depth, metres.
        truth: (B, H, W) depth, metres, 0 where there is none; resized to (h, w) here.

    Returns:
        The sum (differentiable; 0 if no pixel is valid) and the number of valid pixels.
    """
    truth = resize_truth(truth, *prediction.shape[-2:])
    valid = truth != 0
    # Both are replaced before the arithmetic, since 1/0 would turn the gradient into NaN even where it is not used; a
    # boolean index would have a GPU wait for how many are left.
    known, compared = torch.where(valid, truth, 1.0), torch.where(valid, prediction, 1.0)
    return torch.where(valid, pixel_losses(kind, compared, known), 0.0).sum(), valid.sum()


def depth_loss(
    pyramid: DepthPyramid,
    truth: Tensor,
    kind: DepthLoss = DepthLoss.L1_INVERSE,
    mean_over_processes: Callable[[Tensor], Tensor] = lambda value: value,
) -> Tensor:
    """Sum the mean loss of every scale; a scale without ground truth costs nothing.

    Args:
        pyramid: predicted depth at five scales, metres.
        truth: (B, H, W) ground-truth depth, metres, 0 where there is none.
        kind: which loss.
        mean_over_processes: the mean of a value over all processes that share a batch. With it, the mean of their
            losses is the loss of the whole batch, though their parts have different numbers of valid pixels.

    Returns:
        A scalar.
    """
    losses, valid = zip(*(masked_loss(kind, prediction, truth) for prediction in pyramid), strict=True)
    count = mean_over_processes(torch.stack(valid).to(truth.dtype))
    # Divided by the true mean, which is a fraction where a process of several has none.
    return (torch.stack(losses) / torch.where(count > 0, count, 1.0)).sum()


def edge_loss(
    pyramid: DepthPyramid, truth: Tensor, mean_over_processes: Callable[[Tensor], Tensor] = lambda value: value
) -> Tensor:
    """Compare the steps of predicted and of true log depth between pixels some strides apart, at the two finest scales.

    A mean over pixels hardly notices a blurred edge; this notices little else. The half resolution counts half.

    Args:
        pyramid: predicted depth at five scales, metres.
        truth: (B, H, W) ground-truth depth, metres, 0 where there is none.
        mean_over_processes: as of `depth_loss`.

    Returns:
        A scalar.
    """
    return _log_steps_error(pyramid.full, truth, mean_over_processes) + 0.5 * _log_steps_error(
        pyramid.half, truth, mean_over_processes
    )


def _log_steps_error(prediction: Tensor, truth: Tensor, mean_over_processes: Callable[[Tensor], Tensor]) -> Tensor:
    truth = resize_truth(truth, *prediction.shape[-2:])
    valid = truth != 0
    error = torch.where(valid, prediction.log() - torch.where(valid, truth, 1.0).log(), 0.0)
    sums, counts = zip(*(((steps * both).sum(), both.sum()) for steps, both in _steps(error, valid)), strict=True)
    count = mean_over_processes(torch.stack(counts).to(truth.dtype))
    return (torch.stack(sums) / torch.where(count > 0, count, 1.0)).sum()


def _steps(error: Tensor, valid: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield by how much errors of log depth (B, H, W) differ some strides apart, and where both pixels are valid."""
    for stride in STRIDES:
        for axis in (-2, -1):
            length = error.shape[axis] - stride
            ahead, here = error.narrow(axis, stride, length), error.narrow(axis, 0, length)
            yield (ahead - here).abs(), valid.narrow(axis, stride, length) & valid.narrow(axis, 0, length)


@dataclass
class LossMeter:
    """Running means of all four losses at full resolution, over every valid pixel that was added."""

    sums: dict[DepthLoss, float] = field(default_factory=lambda: dict.fromkeys(DepthLoss, 0.0))
    valid: int = 0

    @torch.no_grad()
    def add(self, prediction: Tensor, truth: Tensor) -> None:
        """Add a batch of full-resolution predictions, (B, H, W) each."""
        for kind in DepthLoss:
            loss, valid = masked_loss(kind, prediction, truth)
            self.sums[kind] += float(loss)
        self.valid += int(valid)

    def means(self) -> dict[str, float]:
        """Return the mean of every loss by name; NaN if nothing valid was added."""
        return {kind.value: self.sums[kind] / self.valid if self.valid else float("nan") for kind in DepthLoss}


def steps_loss(log_depth: Tensor, log_truth: Tensor, valid: Tensor) -> Tensor:
    """Compare steps of log depth (B, H, W) between pixels some strides apart; blurred edges cost most here."""
    means = [weighted_mean(steps, both) for steps, both in _steps(log_depth - log_truth, valid)]
    return sum(means, log_depth.new_zeros(())) / len(STRIDES)


def edge_mask(log_truth: Tensor, valid: Tensor) -> Tensor:
    """Which pixels of (B, H, W) are at a step of true depth, float 0 or 1."""
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
