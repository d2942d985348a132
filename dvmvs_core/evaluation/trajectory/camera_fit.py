# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How the camera must be turned on its mounting, and where its principal point must be, for the poses to explain the
images.

Both move the image of a distant point alike, and differ in what they do to the direction of movement and at the edges
of the image. So three models are compared, and the simplest one that explains the images as well as both together is
believed. Spreads are those of the sandwich estimator over the stretches of the recording (Liang and Zeger, 1986), since
pairs of one stretch share their errors.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from dvmvs_core.evaluation.trajectory.pose_track import PoseTrack
from dvmvs_core.evaluation.trajectory.view_pairs import OUTLIER_PX, ViewPairs

EVERY = 4
"""The fit takes every fourth point."""

STEP = 1e-3
"""Of the numeric derivatives: radians, focal lengths, and the focal length's logarithm."""

LARGEST_ROTATION_DEG, LARGEST_CENTRE_ERROR = 1.5, 0.025
"""Rotation on the mounting, and error of the principal point in focal lengths, above which they are said."""

AS_GOOD = 1.1
"""A simpler model is believed if its residual is at most so many times that of both faults together."""

ROTATION, CENTRE, FOCAL = slice(0, 3), slice(3, 5), 5
"""Places among the parameters."""

MODELS = ((0, 1, 2, 5), (3, 4, 5), (0, 1, 2, 3, 4, 5))
"""Parameters of each model, the simpler ones first: a camera turned, another principal point, both."""

MIN_STRETCHES = 2 * len(MODELS[-1])
"""With fewer, errors of the poses that last for a stretch pass for a camera that is turned, and spreads are too small:
of 11 stretches of a robot arm's poses, 14 ± 4 degrees."""


@dataclass(frozen=True)
class CameraFit:
    """The mounting and principal point at which poses agree best with the images, whatever the focal length.

    Attributes:
        rotation_deg: rotation vector (x right, y down, z forward) that poses must be multiplied by from the right.
        rotation_spread_deg: standard errors of it.
        centre: what must be added to cx and cy, in focal lengths.
        centre_spread: standard errors of it.
        residual_px: median distance of points from where the poses allow them, then; pixels, as of `ViewPairs`.
    """

    rotation_deg: tuple[float, float, float]
    rotation_spread_deg: tuple[float, float, float]
    centre: tuple[float, float]
    centre_spread: tuple[float, float]
    residual_px: float

    @property
    def is_turned(self) -> bool:
        """Whether the camera is turned on its mounting."""
        return _is_large(self.rotation_deg, self.rotation_spread_deg, LARGEST_ROTATION_DEG)

    @property
    def has_wrong_centre(self) -> bool:
        """Whether its principal point is elsewhere."""
        return _is_large(self.centre, self.centre_spread, LARGEST_CENTRE_ERROR)

    def applied(self, pairs: ViewPairs, poses: PoseTrack) -> tuple[ViewPairs, PoseTrack]:
        """Return pairs and poses with this mounting and principal point, of the focal length as recorded."""
        moved = dataclasses.replace(pairs, rays=pairs.rays - np.array(self.centre))
        return moved, poses.replaced(poses.world_T_cam @ _turned(np.radians(self.rotation_deg)))


def fit_camera(pairs: ViewPairs, b_T_a: np.ndarray, focal_factor: float) -> CameraFit | None:
    """Search for rotation and principal point, from those recorded on.

    Args:
        pairs: pairs of images with points.
        b_T_a: (P, 4, 4) their relative poses; NaN where there is none.
        focal_factor: where to begin with the focal length.

    Returns:
        The simplest model that explains the images; None where there are too few stretches.
    """
    known = np.isfinite(b_T_a[:, 0, 0])
    pairs, b_T_a = pairs.subset(known), b_T_a[known]
    if len(np.unique(pairs.stretch)) < MIN_STRETCHES:
        return None
    fits = [_fit(pairs, b_T_a, np.log(focal_factor), list(free)) for free in MODELS]
    return next(fit for fit in fits if fit.residual_px <= AS_GOOD * fits[-1].residual_px)


def _is_large(values: tuple[float, ...], spreads: tuple[float, ...], limit: float) -> bool:
    return float(np.linalg.norm(values)) > max(limit, 4 * float(np.linalg.norm(spreads)))


def _fit(pairs: ViewPairs, b_T_a: np.ndarray, focal_log: float, free: list[int]) -> CameraFit:
    thinned = pairs.thinned(EVERY)
    start = np.zeros(6)
    start[FOCAL] = focal_log

    def whole(values: np.ndarray) -> np.ndarray:
        parameters = start.copy()
        parameters[free] = values
        return parameters

    found = least_squares(lambda values: _residuals(thinned, b_T_a, whole(values)), start[free], diff_step=STEP)
    variance = np.zeros(6)
    variance[free] = np.diag(_sandwich(found.jac, found.fun, thinned))
    parameters, spread = whole(found.x), np.sqrt(variance)
    return CameraFit(
        tuple(np.degrees(parameters[ROTATION]).tolist()),
        tuple(np.degrees(spread[ROTATION]).tolist()),
        tuple((-parameters[CENTRE]).tolist()),
        tuple(spread[CENTRE].tolist()),
        float(np.nanmedian(_distances_px(pairs, b_T_a, parameters))),
    )


def _distances_px(pairs: ViewPairs, b_T_a: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Distances (P, N) with the camera turned and another K."""
    turned = _turned(parameters[ROTATION])
    moved = dataclasses.replace(pairs, rays=pairs.rays + parameters[CENTRE])
    return moved.distances_px(turned.T @ b_T_a @ turned, float(np.exp(parameters[FOCAL])))


def _turned(rotation_vector: np.ndarray) -> np.ndarray:
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_rotvec(rotation_vector).as_matrix()
    return turned


def _residuals(pairs: ViewPairs, b_T_a: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """What is squared and summed, (P · N,): between 0 and 1, as in `outlier_cost`."""
    squared = np.nan_to_num(_distances_px(pairs, b_T_a, parameters).ravel() ** 2)
    return np.sqrt(squared / (squared + OUTLIER_PX**2))


def _sandwich(jacobian: np.ndarray, residuals: np.ndarray, pairs: ViewPairs) -> np.ndarray:
    """Covariance of a least-squares fit whose residuals (P · N,) are independent between stretches only."""
    names, group = np.unique(pairs.stretch, return_inverse=True)
    gradients = np.zeros((len(names), jacobian.shape[1]))
    np.add.at(gradients, np.repeat(group, len(residuals) // len(pairs)), jacobian * residuals[:, None])
    inverse = np.linalg.pinv(jacobian.T @ jacobian)
    return inverse @ gradients.T @ gradients @ inverse * len(names) / (len(names) - jacobian.shape[1])
