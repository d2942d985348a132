# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Rigid transforms, intrinsics and the pinhole camera, in float64 and without state.

`a_T_b` maps coordinates in b to a: `points_a = a_T_b @ points_b`. Cameras look along +z, x right, y down; (0, 0) is
the centre of the top-left pixel; depth is the z coordinate in metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROTATION_TOLERANCE = 1e-2
"""How far R Rᵀ may be from the identity: recorded poses have few digits, but a scaled matrix is far outside."""

MAX_TRANSLATION_M = 1e8
"""Longest translation that is believed; earth-centred frames need 6.4e6."""


@dataclass(frozen=True)
class PoseDistance:
    """How far apart two camera poses are.

    Attributes:
        combined: sqrt(translation² + rotation²).
        rotation: sqrt(2 (1 − min(3, trace R) / 3)); unitless, about 0.816 θ for a small angle θ in radians.
        translation: distance between the camera centres in metres.
    """

    combined: float
    rotation: float
    translation: float


def inverse_pose(a_T_b: np.ndarray) -> np.ndarray:
    """Return b_T_a (4, 4) as the general matrix inverse.

    The general inverse and not [Rᵀ, −Rᵀt]: recorded rotations are orthonormal only to a few digits, and the
    published keyframe decisions and depths come from the general one.
    """
    return np.linalg.inv(a_T_b)


def is_finite_pose(world_T_cam: np.ndarray) -> bool:
    """Return whether the pose holds no NaN and no infinity, which is how trackers report that they are lost."""
    return bool(np.isfinite(world_T_cam).all())


def is_rotation(R: np.ndarray, tolerance: float = ROTATION_TOLERANCE) -> bool:
    """Return whether R (3, 3) is a proper rotation up to `tolerance` in every entry of R Rᵀ."""
    return bool(np.abs(R @ R.T - np.eye(3)).max() <= tolerance and np.linalg.det(R) > 0)


def pose_distance(world_T_ref: np.ndarray, world_T_meas: np.ndarray) -> PoseDistance:
    """Return the distance between two camera poses (4, 4), as the keyframe rule and the training sampler use it.

    Source: Düzçeker et al. 2021, section 3.4; the rotation term is from Hou et al., "Multi-View Stereo by Temporal
    Nonparametric Fusion", 2019.
    """
    rotation, translation = pose_distances(world_T_ref, world_T_meas[None])
    return PoseDistance(float(np.hypot(translation[0], rotation[0])), float(rotation[0]), float(translation[0]))


def pose_distances(world_T_ref: np.ndarray, world_T_meas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rotation (N,) and translation (N,), as in `PoseDistance`, from one pose (4, 4) to others (N, 4, 4)."""
    ref_T_meas = inverse_pose(world_T_ref) @ world_T_meas
    traces = np.trace(ref_T_meas[:, :3, :3], axis1=1, axis2=2)
    rotation = np.sqrt(2.0 * (1.0 - np.minimum(3.0, traces) / 3.0))
    return rotation, np.linalg.norm(ref_T_meas[:, :3, 3], axis=1)


def scale_intrinsics(K: np.ndarray, scale_x: float, scale_y: float) -> np.ndarray:
    """Return K (3, 3) after resizing the image by the two factors, without a half-pixel term.

    With pixel centres at integers an exact resize would move the principal point by (scale − 1) / 2. The published
    weights were trained without that term, so it stays out.
    """
    scaled = np.array(K, dtype=np.float64)
    scaled[0] *= scale_x
    scaled[1] *= scale_y
    return scaled


def backproject(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Return the points (h, w, 3) in camera coordinates, metres, of a depth image (h, w) with intrinsics K (3, 3)."""
    height, width = depth.shape
    x = (np.arange(width) - K[0, 2]) / K[0, 0]
    y = (np.arange(height) - K[1, 2]) / K[1, 1]
    return np.stack((x[None, :] * depth, y[:, None] * depth, depth), axis=-1)


def project(points: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Return pixel coordinates (..., 2) as (x, y) of points (..., 3) in camera coordinates with z ≠ 0."""
    x = points[..., 0] / points[..., 2] * K[0, 0] + K[0, 2]
    y = points[..., 1] / points[..., 2] * K[1, 1] + K[1, 2]
    return np.stack((x, y), axis=-1)
