# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Poses and intrinsics of a keyframe as the device needs them, worked out on the host and sent as one tensor.

What is missing up to a fixed number is a camera that has every point behind it, so that one graph serves any number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.geometry import inverse_pose
from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.matching.relative_view import HALF, PRETRAINED, QUARTER, relative_views

GRIDS = (HALF, QUARTER, PRETRAINED)
"""Of the matrices of `packed_views`, in their order."""

NUMBERS = 12
"""Of a homography and a translation, or of a transform's upper rows."""

_SEES_NOTHING = np.float32((*(0,) * 11, -1))


def packed_views(reference: MatchingView, views: Sequence[MatchingView], count: int, pose_error_px: float) -> Tensor:
    """Return homographies and translations from a view's cells to those of others, its intrinsics, and a pose error.

    Args:
        reference: the view.
        views: the others, 1…count.
        count: how many there is room for.
        pose_error_px: see `MatchedDepth`.

    Returns:
        (GRIDS · count · NUMBERS + 5,) float32, see `unpacked_views`.
    """
    matrices = np.empty((len(GRIDS), count, NUMBERS), np.float32)
    matrices[:] = _SEES_NOTHING
    present = len(views)
    own = [reference.world_T_cam] * present, [reference.K] * present
    for i, grid in enumerate(GRIDS):
        H, t = relative_views(*own, [v.world_T_cam for v in views], [v.K for v in views], grid)
        matrices[i, :present] = np.concatenate((H.reshape(-1, 9), t), axis=1)
    return torch.from_numpy(np.concatenate((matrices.ravel(), _four(reference.K), np.float32([pose_error_px]))))


def unpacked_views(packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return matrices (GRIDS, count, NUMBERS) of `packed_views`; fx, fy, cx, cy (4,) and pose error (1,), pixels."""
    matrices, K, pose_error_px = packed.split([len(packed) - 5, 4, 1])
    return matrices.view(len(GRIDS), -1, NUMBERS), K, pose_error_px


def packed_cameras(reference: MatchingView, past: Sequence[MatchingView], count: int) -> Tensor:
    """Return transforms from past views to one, with intrinsics, on the quarter-resolution grid.

    Returns:
        (count + 1, NUMBERS + 4) float32: a row a past view, zeros for missing ones; the last row is the view itself.
    """
    cell_from_pixel = np.linalg.inv(QUARTER.pixel_from_cell)
    packed = np.zeros((count + 1, NUMBERS + 4), np.float32)
    if past:
        ref_T_view = inverse_pose(reference.world_T_cam) @ np.stack([view.world_T_cam for view in past])
        packed[: len(past), :NUMBERS] = ref_T_view[:, :3].reshape(len(past), NUMBERS)
        packed[: len(past), NUMBERS:] = _four(cell_from_pixel @ np.stack([view.K for view in past]))
    packed[-1, NUMBERS:] = _four(cell_from_pixel @ reference.K)
    return torch.from_numpy(packed)


def _four(K: np.ndarray) -> np.ndarray:
    """Fx, fy, cx, cy (..., 4) of intrinsics (..., 3, 3)."""
    return np.stack((K[..., 0, 0], K[..., 1, 1], K[..., 0, 2], K[..., 1, 2]), axis=-1).astype(np.float32)
