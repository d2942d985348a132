# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The score volume of `base` on a CPU, by the compiled plane sweep: that of `model.score_volume`, many times as fast.

Symbols: B batch, C channels, D planes, h×w cells of the volume.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.matching.relative_view import HALF, PRETRAINED, Grid, relative_views
from dvmvs_core.model.fixed_descriptors import FixedFeatures
from dvmvs_core.model.score_volume import ScoreVolume, parallax, pooled_patches, score_volume
from dvmvs_core.runtime.bands import in_bands
from dvmvs_core.runtime.matching_maps import bordered_maps, plain_map, repeat_edges
from dvmvs_core.runtime.sweep_kernels import FIRST_PLANE, ONE, ONE_METRE, sweep_rows

_MIN_NORM = np.float32(1e-3)


@torch.no_grad()
def fastest_score_volume(
    reference: FixedFeatures,
    measurements: Sequence[FixedFeatures],
    meas_T_ref: Sequence[Tensor],
    K: Tensor,
    planes: Tensor,
) -> ScoreVolume:
    """Compare a reference frame with its measurement frames, where the features are; see `score_volume`."""
    if K.device.type != "cpu":
        return score_volume(reference, measurements, meas_T_ref, K, planes)
    inverse_depths = torch.exp(-planes.float()).numpy()
    transforms = torch.stack(tuple(meas_T_ref), dim=1).double().numpy()  # (B, M, 4, 4)
    intrinsics = K.double().numpy()
    views = (transforms, intrinsics)
    patch, _ = _swept(reference.patches, [f.patches for f in measurements], *views, HALF, inverse_depths)
    maps, counts = _swept(reference.maps, [f.maps for f in measurements], *views, PRETRAINED, inverse_depths)
    visible = counts.float().mean(dim=1, keepdim=True) / len(measurements)
    moved = parallax([transform.float() for transform in meas_T_ref], K.float(), maps.shape[-2:])
    return ScoreVolume(pooled_patches(patch), maps, visible, moved)


def _swept(
    reference: Tensor,
    measurements: Sequence[Tensor],
    meas_T_ref: np.ndarray,
    K: np.ndarray,
    grid: Grid,
    inverse_depths: np.ndarray,
) -> tuple[Tensor, Tensor]:
    """Scores and counts (B, D, h, w) of descriptors (B, C, h, w) on their own grid."""
    shape = (len(reference), *reference.shape[-2:], len(inverse_depths))
    scores, counts = np.empty(shape, np.float32), np.empty(shape, np.uint8)
    planes = (ONE_METRE, inverse_depths, FIRST_PLANE, len(inverse_depths))
    bounds = (grid.margin, True)
    still = np.eye(4)
    for item in range(len(reference)):
        views, batch = meas_T_ref[item], slice(item, item + 1)
        own, others = plain_map(reference[batch].float()), bordered_maps([each[batch] for each in measurements])
        repeat_edges(others)
        to_views = relative_views(views, [K[item]] * len(views), [still] * len(views), [K[item]] * len(views), grid)
        results = (ONE, _MIN_NORM, scores[item], counts[item])
        in_bands(sweep_rows, shape[1], 0, 1, own, others, *to_views, *planes, *bounds, *results)
    return tuple(torch.from_numpy(part).permute(0, 3, 1, 2) for part in (scores, counts))
