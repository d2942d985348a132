# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Intrinsics and lens out of the fields of a CameraInfo message, without ROS.

A CameraInfo describes the sensor at full resolution. Its image may be a window of it (`roi`), and of that only every
n-th pixel (`binning`); all intrinsics here are those of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dvmvs_core.data.encodings.image_size import MAX_IMAGE_PIXELS
from dvmvs_core.errors import MessageError
from dvmvs_core.foreign import foreign, quoted
from dvmvs_core.geometry import is_rotation
from dvmvs_core.types import check_intrinsics

EQUIDISTANT = ("equidistant", "fisheye")
"""Names of the Kannala-Brandt model; an equidistant lens bends straight lines with any coefficients, zeros too."""

POLYNOMIAL = ("plumb_bob", "rational_polynomial")

COEFFICIENTS = {
    **dict.fromkeys(POLYNOMIAL, (4, 5, 8, 12, 14)),
    **dict.fromkeys(EQUIDISTANT, (4,)),
}
"""How many coefficients each `distortion_model` may have; OpenCV tells the polynomial ones apart by their number."""


@dataclass(frozen=True, eq=False)
class Lens:
    """How the raw image of a camera differs from the rectified one.

    Attributes:
        model: `distortion_model` of the message.
        K: (3, 3) float64 intrinsics of the raw image, pixels.
        coefficients: float64 distortion coefficients, in the order of the model.
        R: (3, 3) rotation from the raw to the rectified camera.
    """

    model: str
    K: np.ndarray
    coefficients: np.ndarray
    R: np.ndarray


@dataclass(frozen=True, eq=False)
class CameraModel:
    """What a CameraInfo says of the image.

    Attributes:
        K: (3, 3) float64 intrinsics of the rectified image, pixels.
        height: rows of the image.
        width: columns of the image.
        lens: what rectifying the raw image takes; None without distortion, where both are the same.
    """

    K: np.ndarray
    height: int
    width: int
    lens: Lens | None = None

    @property
    def distorted(self) -> bool:
        """Whether the raw image has lens distortion, so that only a rectified one fits K."""
        return self.lens is not None


@dataclass(frozen=True)
class Window:
    """The part of the sensor that an image shows.

    Attributes:
        x: first column, pixels of the sensor.
        y: first row.
        width: columns of the sensor; 0 for all.
        height: rows of the sensor; 0 for all.
        binning_x: columns of the sensor that make one of the image; 0 means 1.
        binning_y: rows of the sensor that make one of the image; 0 means 1.
    """

    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0
    binning_x: int = 1
    binning_y: int = 1

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return (rows, columns) of the image of a sensor of this size."""
        return (self.height or height) // max(1, self.binning_y), (self.width or width) // max(1, self.binning_x)

    def intrinsics(self, K: np.ndarray) -> np.ndarray:
        """Return K (3, 3) of the image from K of the sensor."""
        K = K.copy()
        K[:2, 2] -= self.x, self.y
        # Without a half-pixel term, as image_geometry has it.
        K[:2] /= np.maximum(1, ((self.binning_x,), (self.binning_y,)))
        return K


FULL = Window()

OTHER_SCALE, SAME_SCALE = 0.2, 0.05
"""Relative distance of the principal point from the middle beyond which K looks like that of another resolution, if it
is so on both axes up to the second figure."""

SHORTEST, LONGEST = 0.05, 50.0
"""Focal length by the image's width: fields of view of 169° and 1°."""

MAX_DISTORTION = 1e6
"""Coefficient by squared tangent of the image's corner that no lens has: telephoto lenses have the greatest."""


def read_camera_info(info) -> CameraModel:
    """Return what a CameraInfo message says, read by rclpy or by rosbags.

    Raises:
        MessageError: if the camera is not calibrated, or its size is zero.
    """
    roi = info.roi
    window = Window(roi.x_offset, roi.y_offset, roi.width, roi.height, info.binning_x, info.binning_y)
    return camera_model(info.height, info.width, info.k, info.p, info.d, info.distortion_model, info.r, window)


def camera_model(
    height: int, width: int, k, p, d, distortion_model: str = "plumb_bob", r=None, window: Window = FULL
) -> CameraModel:
    """Read intrinsics and lens.

    `p` describes the rectified image and `k` the raw one; they agree for a camera without distortion. A driver that
    publishes rectified images without filling `p` leaves it zero, and then `k` is the only statement there is.

    Args:
        height: rows of the sensor.
        width: columns of the sensor.
        k: 9 numbers, row by row.
        p: 12 numbers, row by row.
        d: distortion coefficients, any number of them.
        distortion_model: the meaning of `d`.
        r: 9 numbers, row by row: the rotation of rectification; None or all zero for none.
        window: the part of the sensor that the image shows.

    Raises:
        MessageError: if the camera is not calibrated, or its size is zero.
    """
    if height <= 0 or width <= 0:
        raise MessageError(f"camera_info must state the image's size; got width {width} and height {height}")
    if height * width > MAX_IMAGE_PIXELS:
        raise MessageError(f"camera_info must be of at most {MAX_IMAGE_PIXELS} pixels; got {width}×{height}")
    projection = np.asarray(p, dtype=np.float64).ravel()
    raw_K = np.asarray(k, dtype=np.float64).reshape(3, 3)
    K = _projected(projection) if projection[0] else raw_K
    coefficients = _without_padding(np.array(d, dtype=np.float64), distortion_model)
    lens = None
    if coefficients.any() or (distortion_model in EQUIDISTANT and coefficients.size):
        rotation = np.eye(3) if r is None or not np.any(r) else np.array(r, dtype=np.float64).reshape(3, 3)
        lens = Lens(distortion_model, window.intrinsics(raw_K), coefficients, rotation)
    rows, columns = window.size(height, width)
    if not 0 < rows * columns <= MAX_IMAGE_PIXELS:
        raise MessageError(f"camera_info: roi and binning leave an image of {columns}×{rows}")
    with foreign("camera_info", MessageError):
        K = window.intrinsics(check_intrinsics(K))
        if not (window.x or window.y):  # a window of the sensor may lie anywhere on it
            check_resolution(K, (rows, columns))
        if lens is not None:
            _check_lens(lens, np.hypot(rows, columns) / 2.0 / min(K[0, 0], K[1, 1]))
            if lens.K.any() and not (window.x or window.y):
                check_resolution(check_intrinsics(lens.K), (rows, columns))
        return CameraModel(K, rows, columns, lens)


def _check_lens(lens: Lens, corner: float) -> None:
    """Refuse coefficients and rotations that no calibration gives.

    Args:
        lens: of the image.
        corner: tangent of the angle between the axis and the image's corner.

    Raises:
        MessageError: if it has such.
    """
    if not np.abs(lens.coefficients).max() * corner**2 <= MAX_DISTORTION:
        raise MessageError(
            f"camera_info: d must be finite coefficients of at most {MAX_DISTORTION / corner**2:.0e} at this focal"
            f" length; got {quoted(lens.coefficients.tolist())}. Calibrate the camera"
        )
    if not (np.abs(lens.R).max() < 2.0 and is_rotation(lens.R)):
        raise MessageError(f"camera_info: r must be a rotation; got {quoted(lens.R.tolist())}. Calibrate the camera")


def _projected(p: np.ndarray) -> np.ndarray:
    """The intrinsics (3, 3) of a projection, 12 numbers row by row.

    Raises:
        MessageError: if the numbers are in another order.
    """
    K = p.reshape(3, 4)[:, :3]
    if not np.array_equal(K[2], (0.0, 0.0, 1.0)):
        orders = {"column by column": p.reshape(4, 3).T[:, :3], "as the 9 numbers of k": p[:9].reshape(3, 3)}
        for order, other in orders.items():
            if other[0, 0] > 0 and other[1, 1] > 0 and np.array_equal(other[2], (0.0, 0.0, 1.0)):
                raise MessageError(
                    f"camera_info: p must be 3 rows of 4 numbers; got {p.tolist()}, which is written {order}"
                )
    return K


def _without_padding(coefficients: np.ndarray, distortion_model: str) -> np.ndarray:
    """The coefficients less zeros behind those that the model has: drivers fill up a list of fixed length."""
    most = max((n for n in COEFFICIENTS.get(distortion_model, ()) if n <= coefficients.size), default=coefficients.size)
    return coefficients if coefficients[most:].any() else coefficients[:most]


def check_resolution(K: np.ndarray, size: tuple[int, int]) -> None:
    """Refuse intrinsics of another resolution, whose principal point is outside the image, or of another unit.

    Args:
        K: (3, 3) intrinsics.
        size: (H, W) of the image.

    Raises:
        MessageError: if it is.
    """
    focal = K[0, 0] / size[1]
    if not SHORTEST < focal < LONGEST:
        raise MessageError(
            f"the focal length must be in pixels, {SHORTEST:g} to {LONGEST:g} times the image's width of {size[1]}; got"
            f" fx={K[0, 0]:g}. Millimetres, shares of the width, and 1 of a camera that is not calibrated are none"
        )
    x, y = (2.0 * K[:2, 2] + 1.0) / (size[1], size[0])
    if not (0.0 < x < 2.0 and 0.0 < y < 2.0):
        advice = resolution_doubt(K, size).partition("; ")[2] or "give K of the images as they are stored"
        raise MessageError(
            f"the principal point ({K[0, 2]:g}, {K[1, 2]:g}) must be within the image of {size[1]}×{size[0]}; {advice}"
        )


def resolution_doubt(K: np.ndarray, size: tuple[int, int]) -> str:
    """Return a sentence where intrinsics look like those of another resolution, as far as the principal point tells.

    Args:
        K: (3, 3) intrinsics.
        size: (H, W) of the image.
    """
    x, y = (2.0 * K[:2, 2] + 1.0) / (size[1], size[0])
    scale = (x + y) / 2.0
    swapped = (2.0 * K[:2, 2] + 1.0) / size
    if max(abs(swapped - 1.0)) < SAME_SCALE < OTHER_SCALE < min(abs(x - 1.0), abs(y - 1.0)):
        return (
            f"the principal point ({K[0, 2]:g}, {K[1, 2]:g}) is far from the middle of {size[1]}×{size[0]}; cx and cy"
            " look swapped, or the image turned: K's first row is of its columns"
        )
    if abs(x - y) > SAME_SCALE * abs(scale) or abs(scale - 1.0) < OTHER_SCALE:
        return ""
    return (
        f"the principal point ({K[0, 2]:g}, {K[1, 2]:g}) is far from the middle of {size[1]}×{size[0]}; K looks like"
        f" that of {scale * size[1]:.0f}×{scale * size[0]:.0f}: divide its first two rows by {scale:.3g}"
    )
