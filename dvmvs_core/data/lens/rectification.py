# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Raw images of a camera with lens distortion → rectified images of another size, by one remap.

For every pixel of the new image, the pixel of the raw image that shows the same ray is worked out once: new pixel →
(resize, crop) → rectified pixel → (K⁻¹) ray → (R⁻¹) raw camera → (lens) → (raw K) raw pixel. Rectification, crop and
resize then cost one bilinear look-up together, and the image is interpolated once and not two or three times.
"""

from __future__ import annotations

import cv2
import numpy as np

from dvmvs_core.data.lens.camera_info import COEFFICIENTS, EQUIDISTANT, CameraModel, Lens
from dvmvs_core.data.lens.lens_domain import is_beyond
from dvmvs_core.errors import FrameError, MessageError
from dvmvs_core.foreign import foreign, quoted
from dvmvs_core.preprocess import Preprocessor
from dvmvs_core.types import check_intrinsics

NOWHERE = -1e6
"""Coordinate, in pixels, of what a raw image does not show."""

WHOLE = 0.999
"""Share of what a pixel is interpolated from that must be in view for it to be; rounding takes up the rest."""


class Rectifier:
    """Rectifies, crops and resizes the images of one camera.

    Pixels of rays that the raw image does not show become black.

    Args:
        camera: the camera, with its lens.
        new_size: (h, w) of the image to make.
        crop: keep the aspect ratio, as `Preprocessor` does.

    Attributes:
        K: (3, 3) float64 intrinsics of the new image: those that `Preprocessor` gives for the rectified image.
        in_view: (h, w) bool, which pixels of the new image the raw image shows, the others being black; None if it
            shows them all.

    Raises:
        MessageError: if the distortion model is unknown, or its number of coefficients, or the raw intrinsics are
            missing.
    """

    def __init__(self, camera: CameraModel, new_size: tuple[int, int], crop: bool = False) -> None:
        self._size = (camera.height, camera.width)
        frame = Preprocessor(camera.K, self._size, new_size, crop=crop)
        self.K = frame.K.astype(np.float64)
        scale_x = (camera.width - 2 * frame.crop_x) / new_size[1]
        scale_y = (camera.height - 2 * frame.crop_y) / new_size[0]
        # Pixel u of the new image is pixel x of the rectified one: x = (u + 1/2)·scale − 1/2 + crop, as cv2.resize has
        # it. These intrinsics say the same of rays; self.K lacks the half-pixel term, as the published weights want it.
        new_K = camera.K.copy()
        new_K[0, 1] = 0.0
        new_K[0, 2] = (camera.K[0, 2] - frame.crop_x + 0.5) - 0.5 * scale_x
        new_K[1, 2] = (camera.K[1, 2] - frame.crop_y + 0.5) - 0.5 * scale_y
        new_K[0] /= scale_x
        new_K[1] /= scale_y
        self._maps = undistort_maps(camera.lens, new_K, new_size)
        in_view = within(self._maps, self._size)
        self.in_view = None if in_view.all() else in_view

    def image(self, raw: np.ndarray) -> np.ndarray:
        """Return (h, w, 3) uint8 RGB from a raw image (H, W, 3) uint8 RGB.

        Raises:
            FrameError: if the image is not of the camera's size.
        """
        if raw.shape[:2] != self._size:
            raise FrameError(f"image must have the size {self._size} of its camera_info; got {raw.shape[:2]}")
        return cv2.remap(raw, *self._maps, interpolation=cv2.INTER_LINEAR)

    def valid_mask(self, raw: np.ndarray) -> np.ndarray:
        """Return (h, w) bool, which pixels of the new image show what a mask (H, W) bool of the raw one lets show."""
        shown = cv2.remap(raw.astype(np.float32), *self._maps, interpolation=cv2.INTER_LINEAR) > WHOLE
        return shown if self.in_view is None else shown & self.in_view


def within(maps: tuple[np.ndarray, np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Return (h, w) bool, where maps (x, y) of `undistort_maps` lie in a raw image of size (H, W)."""
    x, y = maps
    return (x >= 0) & (x <= size[1] - 1) & (y >= 0) & (y <= size[0] - 1)


def undistort_maps(lens: Lens, new_K: np.ndarray, new_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return OpenCV's maps (x, y), (h, w) float32 each: where a raw image shows the pixels of a pinhole camera.

    Rays beyond the domain of the lens model are at `NOWHERE`, outside every image.

    Args:
        lens: the raw camera.
        new_K: (3, 3) intrinsics of the pinhole camera.
        new_size: (h, w) of its image.

    Raises:
        MessageError: if the distortion model is unknown, or its number of coefficients, or the raw intrinsics are
            missing.
    """
    wanted = COEFFICIENTS.get(lens.model)
    if wanted is None:
        raise MessageError(
            f"camera_info: distortion_model must be one of {', '.join(COEFFICIENTS)}; got {quoted(lens.model)}."
            " Rectify the images before, and give their topic a name with rect in it"
        )
    if lens.coefficients.size not in wanted or not np.isfinite(lens.coefficients).all():
        raise MessageError(
            f"camera_info: {lens.model} must have {' or '.join(map(str, wanted))} finite coefficients;"
            f" got {quoted(lens.coefficients.tolist())}"
        )
    with foreign("camera_info: k of the raw image", MessageError):
        raw_K = check_intrinsics(lens.K)
    rectify = cv2.fisheye if lens.model in EQUIDISTANT else cv2
    with foreign("camera_info: this lens cannot be rectified", MessageError):
        size = new_size[::-1]
        maps = rectify.initUndistortRectifyMap(raw_K, lens.coefficients, lens.R, new_K, size, cv2.CV_32FC1)
        beyond = _beyond(lens, new_K, new_size)
        for coordinates in maps:
            coordinates[beyond] = NOWHERE
    return maps


def _beyond(lens: Lens, new_K: np.ndarray, new_size: tuple[int, int]) -> np.ndarray:
    """Which pixels (h, w) of a pinhole camera show rays that the lens model does not speak of."""
    row, column = np.indices(new_size, dtype=np.float64)
    x, y, z = np.moveaxis(
        np.stack((column, row, np.ones(new_size)), axis=-1) @ (np.linalg.inv(new_K).T @ lens.R), -1, 0
    )
    depth = np.where(z > 0, z, 1.0)
    return (z <= 0) | is_beyond(lens, x / depth, y / depth)
