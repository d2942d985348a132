"""Intrinsics out of the fields of a CameraInfo message, without ROS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dvmvs_core.errors import FrameError, MessageError
from dvmvs_core.types import check_intrinsics


@dataclass(frozen=True, eq=False)
class CameraModel:
    """What a CameraInfo says of the rectified image.

    Attributes:
        K: (3, 3) float64 intrinsics, pixels.
        height: rows of the image.
        width: columns of the image.
        distorted: whether the raw image has lens distortion, so that only a rectified one fits K.
    """

    K: np.ndarray
    height: int
    width: int
    distorted: bool


def camera_model(height: int, width: int, k, p, d) -> CameraModel:
    """Read the intrinsics of the rectified image.

    `p` describes the rectified image and `k` the raw one; they agree for a camera without distortion. A driver that
    publishes rectified images without filling `p` leaves it zero, and then `k` is the only statement there is.

    Args:
        height: rows.
        width: columns.
        k: 9 numbers, row by row.
        p: 12 numbers, row by row.
        d: distortion coefficients, any number of them.

    Raises:
        MessageError: if the camera is not calibrated, or its size is zero.
    """
    if height <= 0 or width <= 0:
        raise MessageError(f"camera_info must state the image's size; got width {width} and height {height}")
    projection = np.asarray(p, dtype=np.float64).reshape(3, 4)[:, :3]
    K = projection if projection[0, 0] else np.asarray(k, dtype=np.float64).reshape(3, 3)
    try:
        return CameraModel(check_intrinsics(K), height, width, bool(np.any(np.asarray(d))))
    except FrameError as error:
        raise MessageError(f"camera_info: {error}") from error
