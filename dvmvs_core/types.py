# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What goes into the engine and what comes out, as frozen dataclasses of numpy arrays."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np

from dvmvs_core.errors import FrameError
from dvmvs_core.foreign import foreign
from dvmvs_core.geometry import MAX_TRANSLATION_M, is_finite_pose, is_rotation

MIN_FOCAL_LENGTH, MAX_PIXELS = 1e-3, 1e9
"""Bounds of what can be intrinsics, pixels: their products and inverses stay far within float32."""

MAX_SKEW = 0.1
"""Of the focal length: more is a number in the wrong place, and K may have no inverse."""


def _numbers(value: object, name: str, shape: tuple[int, int]) -> np.ndarray:
    with foreign(f"{name} must be numbers of shape {shape}", FrameError):
        return np.asarray(value, dtype=np.float64)


def check_intrinsics(K: np.ndarray) -> np.ndarray:
    """Return K as float64 (3, 3).

    Raises:
        FrameError: if it has another shape, holds NaN, infinity or more than `MAX_PIXELS`, a focal length is not
            positive, it has skew, or it does not end with the row 0 0 1. Where its numbers are only in the wrong order,
            that is said.
    """
    K = _numbers(K, "K", (3, 3))
    if K.shape != (3, 3):
        raise FrameError(f"K must have shape (3, 3); got {K.shape}. From a CameraInfo use .k, not .p")
    if not np.isfinite(K).all():
        raise FrameError(f"K must be finite; got {K.tolist()}. Calibrate the camera")
    if _is_intrinsics(K):
        if min(K[0, 0], K[1, 1]) < MIN_FOCAL_LENGTH or np.abs(K).max() > MAX_PIXELS:
            raise FrameError(
                f"K must have focal lengths of at least {MIN_FOCAL_LENGTH:g} pixels and nothing beyond"
                f" {MAX_PIXELS:g}; got {K.tolist()}. Calibrate the camera"
            )
        return K
    advice = "Calibrate the camera"
    if _is_intrinsics(K.T):
        advice = f"It is written column by column, as {K.ravel().tolist()}: transpose it"
    elif _is_intrinsics(np.array(((K[0, 0], 0, K[0, 2]), (0, K[0, 1], K[1, 0]), (0, 0, 1)))) and not K[1, 1:].any():
        advice = "Its numbers are fx fy cx cy one after another: write fx 0 cx, 0 fy cy, 0 0 1"
    if K[0, 0] <= 0 or K[1, 1] <= 0:
        raise FrameError(f"K must have positive focal lengths; got fx={K[0, 0]:g}, fy={K[1, 1]:g}. {advice}")
    if not np.allclose(K[2], (0.0, 0.0, 1.0), atol=1e-6):
        raise FrameError(f"K must end with the row 0 0 1; got {K[2].tolist()}. {advice}")
    raise FrameError(f"K must have the rows fx 0 cx and 0 fy cy; got {K[:2].tolist()}. {advice}")


def _is_intrinsics(K: np.ndarray) -> bool:
    """Whether a finite matrix (3, 3) has focal lengths, next to no skew, and a last row of 0 0 1."""
    fx, fy, skew = K[0, 0], K[1, 1], max(abs(K[0, 1]), abs(K[1, 0]))
    return fx > 0 and fy > 0 and skew <= MAX_SKEW * min(fx, fy) and np.allclose(K[2], (0.0, 0.0, 1.0), atol=1e-6)


def check_pose(world_T_cam: np.ndarray) -> np.ndarray:
    """Return the pose as float64 (4, 4); NaN and infinity are let through, since they mean that tracking is lost.

    Raises:
        FrameError: if it has another shape, or its upper left 3×3 is not a rotation, its last row is not 0 0 0 1, or
            it is farther from the origin than `MAX_TRANSLATION_M`.
    """
    world_T_cam = _numbers(world_T_cam, "world_T_cam", (4, 4))
    if world_T_cam.shape != (4, 4):
        raise FrameError(f"world_T_cam must have shape (4, 4); got {world_T_cam.shape}")
    if not is_finite_pose(world_T_cam):
        return world_T_cam
    if not is_rotation(world_T_cam[:3, :3]):
        raise FrameError(
            "world_T_cam must hold a rotation (R Rᵀ = 1, det R = 1) in its upper left 3×3; got"
            f" {np.round(world_T_cam[:3, :3], 4).tolist()}. Remove scale or shear from the pose"
        )
    if not np.allclose(world_T_cam[3], (0.0, 0.0, 0.0, 1.0), atol=1e-6):
        by_column = np.allclose(world_T_cam[:, 3], (0.0, 0.0, 0.0, 1.0), atol=1e-6)
        advice = ". It is written column by column: transpose it" if by_column else ""
        raise FrameError(f"world_T_cam must end with the row 0 0 0 1; got {world_T_cam[3].tolist()}{advice}")
    if np.linalg.norm(world_T_cam[:3, 3]) > MAX_TRANSLATION_M:
        raise FrameError(
            f"world_T_cam must lie within {MAX_TRANSLATION_M:.0e} m of the origin; got {world_T_cam[:3, 3].tolist()}."
            " Poses are in metres"
        )
    return world_T_cam


@dataclass(frozen=True, eq=False)
class Frame:
    """An image with its intrinsics, pose and time.

    Attributes:
        image: (H, W, 3) uint8, RGB, rectified.
        K: (3, 3) float64 intrinsics of that image, pixels.
        world_T_cam: (4, 4) float64 pose; NaN or infinity where tracking is lost.
        stamp_ns: time of exposure in nanoseconds.
        index: position in the sequence, or a running number for a live camera; -1 if it has none.

    Raises:
        FrameError: if a part has the wrong shape or type, or cannot be intrinsics or a pose.
    """

    image: np.ndarray
    K: np.ndarray
    world_T_cam: np.ndarray
    stamp_ns: int
    index: int = -1

    def __post_init__(self) -> None:
        """Check every part, so that no later stage has to."""
        if not isinstance(self.image, np.ndarray):
            raise FrameError(f"image must be an array of shape (H, W, 3); got {type(self.image).__name__}")
        if self.image.ndim != 3 or self.image.shape[2] != 3 or 0 in self.image.shape:
            raise FrameError(f"image must have shape (H, W, 3); got {self.image.shape}")
        if self.image.dtype != np.uint8:
            raise FrameError(f"image must be uint8 RGB; got {self.image.dtype}. Scale it to 0…255 first")
        with foreign("stamp_ns and index must be integers", FrameError):
            object.__setattr__(self, "stamp_ns", operator.index(self.stamp_ns))
            object.__setattr__(self, "index", operator.index(self.index))
        object.__setattr__(self, "K", check_intrinsics(self.K))
        object.__setattr__(self, "world_T_cam", check_pose(self.world_T_cam))


@dataclass(frozen=True, eq=False)
class DepthPrediction:
    """Dense metric depth of one keyframe, at the network's resolution.

    Attributes:
        depth: (h, w) float32, metres along the optical axis.
        K: (3, 3) float64 intrinsics of the depth image.
        image: (h, w, 3) uint8 RGB, the reference image at the same resolution.
        world_T_cam: (4, 4) float64 pose of the reference frame.
        stamp_ns: time of the reference frame.
        frame_index: `Frame.index` of the reference frame.
        measurement_index: `Frame.index` of each measurement frame, best first.
        measurement_stamps_ns: their times.
        latency_ms: time that the engine took for this frame.
        confidence: (h, w) float32 in 0…1, or None where the engine does not estimate it.
        refined: whether the depth was refined against keyframes before and after, once the recording was over.
    """

    depth: np.ndarray
    K: np.ndarray
    image: np.ndarray
    world_T_cam: np.ndarray
    stamp_ns: int
    frame_index: int
    measurement_index: tuple[int, ...]
    measurement_stamps_ns: tuple[int, ...]
    latency_ms: float
    confidence: np.ndarray | None = None
    refined: bool = False
