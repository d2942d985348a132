# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Moves depth images into the camera of their colour images."""

from __future__ import annotations

import numpy as np

from dvmvs_core.data.point_clouds import nearest_surface
from dvmvs_core.errors import DataError
from dvmvs_core.geometry import is_rotation

MILLIMETRES = 1000.0
DEEPEST_MM = 65535


class DepthRegistration:
    """Gives the depth image that the colour camera would have seen.

    Each valid pixel is moved as a point and lands in the pixel nearest to its projection; where several land, the
    nearest surface wins, since it hides the others. Nothing is filled in: pixels that no point reaches stay invalid.

    Pixel p of depth d is seen at d · K_colour R K_depth⁻¹ p + K_colour t, (R, t) = colour_T_depth. What d multiplies is
    the same for every image, so it is computed once.

    Args:
        K_depth: (3, 3) intrinsics of the depth camera.
        colour_T_depth: (4, 4) maps points of the depth camera to the colour camera, metres.
        K_colour: (3, 3) intrinsics of the colour camera.
    """

    def __init__(self, K_depth: np.ndarray, colour_T_depth: np.ndarray, K_colour: np.ndarray) -> None:
        K_colour = np.asarray(K_colour, dtype=np.float64)
        self._turn = K_colour @ colour_T_depth[:3, :3] @ np.linalg.inv(np.asarray(K_depth, dtype=np.float64))
        self._shift_mm = K_colour @ colour_T_depth[:3, 3] * MILLIMETRES
        self._depth_size = (0, 0)
        self._rays = np.empty((3, 0))

    def __call__(self, depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return depth (h, w) uint16 millimetres of the colour camera.

        Args:
            depth: (H, W) uint16 millimetres of the depth camera, 0 = invalid.
            size: (h, w) of the colour image.
        """
        if depth.shape != self._depth_size:
            y, x = np.indices(depth.shape).reshape(2, -1)
            self._rays = self._turn @ np.stack((x, y, np.ones_like(x)))  # (3, H·W)
            self._depth_size = depth.shape
        valid = np.flatnonzero(depth)
        depths = depth.ravel()[valid]
        x, y, z = (ray[valid] * depths + shift for ray, shift in zip(self._rays, self._shift_mm, strict=True))
        before = np.flatnonzero((z >= 1) & (z <= DEEPEST_MM))
        x, y, z = x[before], y[before], z[before]
        return np.rint(nearest_surface(x / z, y / z, z, size)).astype(np.uint16)


def check_transform(transform: np.ndarray, origin: str) -> np.ndarray:
    """Return a rigid transform (4, 4) as float64.

    Args:
        transform: what was read.
        origin: where from, for the message.

    Raises:
        DataError: if it is not rigid.
    """
    transform = np.asarray(transform, dtype=np.float64)
    if (
        transform.shape != (4, 4)
        or not np.isfinite(transform).all()
        or not is_rotation(transform[:3, :3])
        or not np.allclose(transform[3], (0, 0, 0, 1))
    ):
        raise DataError(f"{origin} must be a rotation and a translation as 4×4 numbers; got {transform.tolist()}")
    return transform
