# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth on the pixels of a raw camera, whose lens bends straight lines: rectified, or as points.

Depth is measured along the optical axis, which rectification may turn: a pixel that shows depth z of the raw camera on
the ray r of the rectified one has the depth z / (Rᵀ r)_z there.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

from dvmvs_core.data.lens.camera_info import EQUIDISTANT, CameraModel, Lens
from dvmvs_core.data.lens.lens_domain import is_beyond
from dvmvs_core.data.lens.rectification import undistort_maps

CAMERAS_HELD = 4
"""Cameras whose look-up tables are kept: colour and depth of one rig, before and after a change."""

STEPS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-9)
"""When the search for the ray of a raw pixel ends: the lens has no inverse in closed form."""

WIDEST = 100.0
"""Rays that lean farther than this from the axis, in units of depth, are failures of that search."""


MISS = 0.5
"""How far from its pixel a ray may be shown, pixels; farther is a failure of that search, as past the lens's domain."""


def rectify_depth(depth: np.ndarray, camera: CameraModel) -> np.ndarray:
    """Return raw depth as the depth image of the rectified camera, at the same size and with the intrinsics `camera.K`.

    Every pixel takes the nearest one of the raw image, so that no depth is invented between surfaces.

    Args:
        depth: (H, W) float32 metres on the raw camera's pixels, 0 = invalid.
        camera: the camera, with its lens.

    Returns:
        (H, W) float32 metres; 0 also where the raw image shows nothing.

    Raises:
        MessageError: if the lens cannot be rectified.
    """
    map_x, map_y, shortening = _rectifying(camera)
    return cv2.remap(depth, map_x, map_y, interpolation=cv2.INTER_NEAREST) / shortening


def raw_depth_points(depth: np.ndarray, camera: CameraModel) -> np.ndarray:
    """Return the valid pixels of raw depth (H, W) as points (N, 3) of the rectified camera, metres."""
    row, column = np.nonzero(depth)
    rays = _rays(camera)[row, column]
    points = rays * depth[row, column, None]
    return points[np.isfinite(points).all(axis=1)] @ camera.lens.R.T


@functools.lru_cache(maxsize=CAMERAS_HELD)
def _rectifying(camera: CameraModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the raw image shows the rectified pixels, and what to divide the depth there by."""
    size = (camera.height, camera.width)
    map_x, map_y = undistort_maps(camera.lens, camera.K, size)
    row, column = np.indices(size, dtype=np.float64)
    rays = np.stack((column, row, np.ones(size)), axis=-1) @ np.linalg.inv(camera.K).T
    shortening = rays @ camera.lens.R[:, 2]  # (Rᵀ r)_z
    return map_x, map_y, np.where(shortening <= 0, 1.0, shortening).astype(np.float32)


def _distance(at_one: np.ndarray, pixels: np.ndarray, lens: Lens) -> np.ndarray:
    """How far from raw pixels (H, W, 2) the points (x, y, 1) at_one (H, W, 2) are shown, in pixels (H, W)."""
    points = np.nan_to_num(at_one).clip(-WIDEST, WIDEST).reshape(-1, 1, 2)
    if lens.model in EQUIDISTANT:
        shown = cv2.fisheye.distortPoints(points, lens.K, lens.coefficients)
    else:
        in_3d = cv2.convertPointsToHomogeneous(points)
        shown, _ = cv2.projectPoints(in_3d, np.zeros(3), np.zeros(3), lens.K, lens.coefficients)
    return np.linalg.norm(shown.reshape(pixels.shape) - pixels, axis=-1)


@functools.lru_cache(maxsize=CAMERAS_HELD)
def _rays(camera: CameraModel) -> np.ndarray:
    """(H, W, 3) rays of the raw pixels at depth 1 in the raw camera; NaN where there is none."""
    lens, size = camera.lens, (camera.height, camera.width)
    undistort_maps(lens, camera.K, (1, 1))  # says what is wrong with a lens
    row, column = np.indices(size, dtype=np.float64)
    pixels = np.stack((column, row), axis=-1).reshape(-1, 1, 2)
    if lens.model in EQUIDISTANT:
        at_one = cv2.fisheye.undistortPoints(pixels, lens.K, lens.coefficients)
    else:
        at_one = cv2.undistortPointsIter(pixels, lens.K, lens.coefficients, None, None, STEPS)
    at_one = at_one.reshape(*size, 2)
    radius = np.linalg.norm(at_one, axis=-1)
    failed = (radius > WIDEST) | is_beyond(lens, at_one[..., 0], at_one[..., 1])
    failed |= _distance(at_one, pixels.reshape(*size, 2), lens) > MISS
    at_one[failed] = np.nan
    return np.concatenate((at_one, np.ones((*size, 1))), axis=-1)
