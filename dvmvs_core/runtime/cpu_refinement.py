# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`DepthRefinement` on a CPU: what is matched is written straight into the buffer that its first convolution reads."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.model.ray_matching import LEAST_NORM
from dvmvs_core.model.refinement import LOG_SHIFTS, MATCHED_CHANNELS, PREDICTED, DepthRefinement
from dvmvs_core.runtime.bands import in_bands
from dvmvs_core.runtime.convolution import fused
from dvmvs_core.runtime.matching_maps import Views
from dvmvs_core.runtime.merge import Merge
from dvmvs_core.runtime.refinement_kernels import correct_rows, match_about_rows

_PLANES = np.exp(-np.array(LOG_SHIFTS)).astype(np.float32)
# Past this a share is as good as 0 or all; exponentials stay finite.
_LARGEST_LOGIT = 40.0


class CpuRefinement:
    """Matching about a prediction, and its correction.

    Args:
        refinement: its weights are copied.
    """

    def __init__(self, refinement: DepthRefinement) -> None:
        self._fine = fused(refinement.fine, None, relu=True)
        self._down = fused(refinement.down, None, relu=True)
        self._coarse1 = fused(refinement.coarse1, None, relu=True)
        self._coarse2 = fused(refinement.coarse2, None, relu=False)
        self._up = fused(refinement.up, None, relu=False)
        self._merge = fused(refinement.merge, None, relu=True)
        self._correction = fused(refinement.correction, None, relu=False)
        self._shares = fused(refinement.shares, None, relu=False)
        self._channels = refinement.fine.in_channels
        self._range = (refinement.min_depth_m, refinement.max_depth_m)
        self._buffer: Merge | None = None

    def __call__(
        self,
        depth: Tensor,
        decoded: Tensor,
        features: Tensor,
        views: Views,
    ) -> Tensor:
        """Corrects a prediction (B, H, W) by what the plane sweep compared; the rest is as in `DepthRefinement`."""
        batch, height, width, _ = views.reference.shape
        if self._buffer is None or self._buffer.buffer.shape[:3] != (batch, height, width):
            self._buffer = Merge(batch, height, width, self._channels)
        for b in range(batch):
            in_bands(
                match_about_rows,
                height,
                depth[b].numpy(),
                _PLANES,
                PREDICTED,
                views.reference[b],
                np.float32(views.channels),
                views.measurements[b],
                views.homographies[b],
                views.translations[b],
                np.float32(LEAST_NORM),
                self._buffer.buffer[b],
            )
        self._buffer.put(decoded, MATCHED_CHANNELS + 1)
        self._buffer.put(features, MATCHED_CHANNELS + 1 + decoded.shape[1])
        x = self._merged(self._buffer.tensor)
        correction = self._correction(x)[:, 0].contiguous().numpy()
        shares = self._shares(x).clamp_(-_LARGEST_LOGIT, _LARGEST_LOGIT).exp_().permute(0, 2, 3, 1).contiguous().numpy()
        logarithm = torch.empty_like(depth)
        for b in range(batch):
            in_bands(correct_rows, height, correction[b], shares[b], logarithm[b].numpy())
        return logarithm.exp_().mul_(depth).clamp_(*self._range)

    def _merged(self, x: Tensor) -> Tensor:
        fine = self._fine(x)
        coarse = self._down(fine)
        coarse = self._coarse2(self._coarse1(coarse)).add_(coarse).relu_()
        coarse = functional.interpolate(self._up(coarse), size=fine.shape[-2:], mode="bilinear", align_corners=True)
        return self._merge(coarse.add_(fine).relu_())
