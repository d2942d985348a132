# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where a keyframe has no depth information, and the depth with the least expected relative error there.

A keyframe is blind where parallax is too small to tell planes apart, or smaller than what poses are off by, no plane
matches clearly over the whole image, and past keyframes did not measure the same depth. What is left are the network
and past depth, with the scale that one image shows (`monocular_prior`), which may be far off.

Errors are scored relative to the true depth: twice the depth of a wall is off by 100 %, half of it by 50 %. Of a
log-normal distribution with median m and deviation s of log depth, the depth with the least expected relative error is
m · exp(−s²). So blind depth is set nearer. Only published depth is; what later keyframes start from stays the median,
or each would add to it.

Source: the optimal estimate under absolute relative error is the median of the distribution weighted by 1 / depth; see
Gneiting, "Making and Evaluating Point Forecasts", Journal of the American Statistical Association 2011.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.matching.allowed_by_poses import allowed_by_poses
from dvmvs_core.model.regulariser import anchored

LOG_DEPTH_DEVIATION = 0.3
"""Deviation s of log depth where a keyframe is blind, and has its depth from network and monocular head together; see
benchmarks/ablation.md."""

POSE_ERRORS = 2.0
"""Parallax at which blindness has fallen to 1/e, in deviations of a pose, where poses are rough."""


def blindness(
    parallax: Tensor, agreement: Tensor, evidence: Tensor, scale_px: float, pose_error_px: float | Tensor
) -> Tensor:
    """Return how little is known of the depth of each cell (q, r), 0…1.

    What past keyframes agree on counts as far as poses allow a depth to be measured: where they do not, each has its
    depth from the one before, and all agree on the first guess.

    Args:
        parallax: (q, r) pixels that a depth step of 25 % moves the point.
        agreement: (q, r), 0…1, of what past keyframes matched with the prior depth.
        evidence: (EVIDENCE, q, r) of `RegulariserInputs`.
        scale_px: pixels of parallax at which blindness has fallen to 1/e, where poses are exact.
        pose_error_px: deviation of where poses and focal length say that a point is; a number, or a tensor (1,).
    """
    scale = (POSE_ERRORS * torch.as_tensor(pose_error_px)).clamp(min=scale_px)
    measured = agreement * allowed_by_poses(parallax, pose_error_px)
    return (-parallax / scale).exp() * (1 - measured) * (1 - anchored(evidence[None])[0, 0])


def least_relative_error(depth: Tensor, blindness: Tensor) -> Tensor:
    """Return depth (1, H, W) with the least expected relative error.

    Args:
        depth: (1, H, W) metres, the median of what it may be.
        blindness: (H/4, W/4), on the same device.
    """
    upsampled = functional.interpolate(blindness[None, None], size=depth.shape[1:], mode="bilinear")[0]
    return depth * (-(LOG_DEPTH_DEVIATION**2) * upsampled).exp()
