# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The loss of the regulariser, in log depth: at pixels and at cells, with weight on edges, and of its certainty.

Symbols: B batch, H×W pixels, h×w = H/2×W/2 cells centred at pixels 2x.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.model.regulariser import Regularised, Regulariser, RegulariserInputs
from dvmvs_core.training.autocast import Arithmetic
from dvmvs_core.training.losses import edge_mask, steps_loss, weighted_mean
from dvmvs_core.training.regulariser.clip_files import Keyframes

EDGE_WEIGHT = 3.0
"""Weight of pixels at an edge, over that of others."""

SATURATION = 0.03
"""Error of log depth from which on more error costs little more: a pixel that is lost must not rule the others."""

RIGHT = math.log(1.1)
"""Error of log depth up to which a cell counts as right."""

FINE_WEIGHT, SATURATING_WEIGHT, COARSE_WEIGHT, STEPS_WEIGHT, CERTAINTY_WEIGHT = 5.0, 15.0, 3.0, 2.0, 0.5


def keyframes_loss(
    network: Regulariser, inputs: RegulariserInputs, keyframes: Keyframes, arithmetic: Arithmetic
) -> Tensor:
    """Return the loss of what the network answers, a scalar in float32.

    Args:
        network: is asked.
        inputs: of the keyframes, `prepared` and perhaps augmented.
        keyframes: with the truth.
        arithmetic: that the network computes in.
    """
    with arithmetic.forward():
        answer = network(inputs)
    return regulariser_loss(Regularised(*(part.float() for part in answer)), keyframes.log_truth, keyframes.valid)


def regulariser_loss(answer: Regularised, log_truth: Tensor, valid: Tensor) -> Tensor:
    """Return the loss of a batch, a scalar.

    Args:
        answer: of the regulariser, float32.
        log_truth: (B, 1, H, W) less the offset of the inputs.
        valid: (B, 1, H, W) where there is a truth.
    """
    log_truth, valid, log_depth = log_truth[:, 0], valid[:, 0], answer.log_depth[:, 0]
    weight = valid * (1 + (EDGE_WEIGHT - 1) * edge_mask(log_truth, valid))
    error = (log_depth - log_truth).abs()
    saturating = torch.log1p(error / SATURATION) * SATURATION

    coarse_error = (answer.coarse[:, 0] - log_truth[:, ::2, ::2]).abs()
    is_right = (coarse_error.detach() < RIGHT).to(coarse_error.dtype)
    certainty = functional.binary_cross_entropy_with_logits(answer.log_odds[:, 0], is_right, reduction="none")
    return (
        FINE_WEIGHT * weighted_mean(error, weight)
        + SATURATING_WEIGHT * weighted_mean(saturating, weight)
        + COARSE_WEIGHT * weighted_mean(coarse_error, weight[:, ::2, ::2])
        + STEPS_WEIGHT * steps_loss(log_depth, log_truth, valid)
        + CERTAINTY_WEIGHT * weighted_mean(certainty, valid[:, ::2, ::2])
    )
