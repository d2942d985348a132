# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Confidence of matched depth on a device, as `matching.matched_confidence` has it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.matching.allowed_by_poses import allowed_by_poses
from dvmvs_core.matching.matched_confidence import CLEAR_PARALLAX_PX, EDGE_CELLS, MAX_DIFFERENCE, MAX_MARGIN


def device_confidence(found: dict[str, Tensor], pose_error_px: Tensor, weights: Tensor, bias: float) -> Tensor:
    """Return the confidence (H, W), 0…1.

    Args:
        found: the fields of `MatchedDepth`.
        pose_error_px: (1,) as there.
        weights: (F,) coefficients of `matched_confidence.CUES`.
        bias: of the log odds.
    """
    in_view = (found["views"] > 0).float()
    log_odds = (weights[:, None, None] * _cues(found)).sum(dim=0) + bias
    parallax = _resized(found["parallax"][None], log_odds.shape)[0]
    allowed = allowed_by_poses(parallax, pose_error_px)
    confidence = log_odds.sigmoid() * found["log_odds"].sigmoid() * allowed
    valid_mask = in_view.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)
    return valid_mask * _resized((in_view * confidence)[None], found["depth"].shape)[0]


def _cues(found: dict[str, Tensor]) -> Tensor:
    log_depth = found["depth"][::2, ::2].log()
    size = log_depth.shape
    coarse = torch.stack([found[name] for name in ("prior", "agreement", "parallax", "blindness")])
    prior, agreement, parallax, blindness = _resized(coarse, size)
    margin = found["margin"].clamp(0, MAX_MARGIN)
    clear = (parallax / CLEAR_PARALLAX_PX).clamp(max=1)
    both = torch.stack((log_depth, -log_depth))[None]
    edge = functional.max_pool2d(both, EDGE_CELLS, stride=1, padding=EDGE_CELLS // 2)[0].sum(dim=0)
    others = torch.stack((prior, found["network_depth"], found["measured_depth"])).log()
    cues = (
        margin,
        margin * clear,
        parallax.log1p(),
        agreement,
        agreement * (1 - clear),
        *(log_depth - others).abs().clamp(max=MAX_DIFFERENCE),
        edge.clamp(max=1),
        found["views"].clamp(max=4) / 4,
        blindness,
    )
    return torch.stack(cues)


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
