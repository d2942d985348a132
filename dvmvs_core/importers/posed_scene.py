# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Frames of any camera as those of one pinhole camera: lens distortion removed, every image of the same K and size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache

import cv2
import numpy as np

from dvmvs_core.data.lens.camera_info import Lens, check_resolution
from dvmvs_core.data.lens.rectification import undistort_maps, within
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign
from dvmvs_core.importers.dataset import ImportedFrame, Scene, SkippedFrame
from dvmvs_core.importers.timed_poses import SECOND_NS
from dvmvs_core.types import check_intrinsics

ASKED = 5
"""Images that are asked for the size that most have, as of a bag."""

SAME_SHAPE = 0.02
"""Relative difference of width and height up to which an image is a smaller copy, its size rounded."""

DEEPEST_M = 65.535
MILLIMETRES = 1000.0

OPENCV_FROM_OPENGL = np.diag((1.0, -1.0, -1.0, 1.0))
"""The camera axes of OpenGL (x right, y up, looking along -z) in ours, and the other way round."""


@dataclass(frozen=True)
class Camera:
    """The camera of an image.

    Attributes:
        intrinsics: fx, fy, cx, cy, pixels; (0, 0) is the centre of the first pixel.
        coefficients: of the lens; none without distortion.
        model: their meaning: plumb_bob, rational_polynomial or equidistant.
        size: (width, height) of the images that it is of, where the recording says so.
    """

    intrinsics: tuple[float, float, float, float]
    coefficients: tuple[float, ...] = ()
    model: str = "plumb_bob"
    size: tuple[int, int] | None = None

    @property
    def K(self) -> np.ndarray:
        """The intrinsics (3, 3)."""
        fx, fy, cx, cy = self.intrinsics
        return np.array(((fx, 0.0, cx), (0.0, fy, cy), (0.0, 0.0, 1.0)))

    @property
    def distorted(self) -> bool:
        """Whether straight lines are bent: by an equidistant lens with any coefficients."""
        return self.model == "equidistant" or any(self.coefficients)

    def of(self, size: tuple[int, int]) -> Camera:
        """Return the camera of an image (H, W), which may be a smaller copy of those that it is of.

        Raises:
            DataError: if it cannot be of that size.
        """
        camera = self
        if self.size is not None and self.size != size[::-1]:
            factor_x, factor_y = size[1] / self.size[0], size[0] / self.size[1]
            if abs(factor_x / factor_y - 1.0) > SAME_SHAPE:
                raise DataError(f"an image must be of {_named(*self.size)}, as its camera; got {_named(*size[::-1])}")
            fx, fy, cx, cy = self.intrinsics
            resized = (fx * factor_x, fy * factor_y, (cx + 0.5) * factor_x - 0.5, (cy + 0.5) * factor_y - 0.5)
            camera = Camera(resized, self.coefficients, self.model)
        with foreign("the intrinsics cannot be used"):
            check_resolution(check_intrinsics(camera.K), size)
        return camera


@dataclass(frozen=True, eq=False)
class PosedImage:
    """A frame that is read when it is wanted.

    Attributes:
        name: which one, in the words of the recording.
        read: returns (H, W, 3) uint8 RGB.
        camera: of the image.
        world_T_cam: (4, 4) metres, x right, y down, z forward; NaN where tracking is lost.
        stamp_ns: time of the image, or None.
        read_depth: returns (h, w) metres, 0 = invalid, of the same view in any resolution; None where there is none.
        no_depth: why there is none.
    """

    name: str
    read: Callable[[], np.ndarray]
    camera: Camera
    world_T_cam: np.ndarray = field(repr=False)
    stamp_ns: int | None = None
    read_depth: Callable[[], np.ndarray] | None = None
    no_depth: str = ""


class PosedScene(Scene):
    """Reads frames and brings them to the pinhole camera of the first.

    Args:
        frames: in order of time, with those that are left out.

    Raises:
        DataError: if no frame has a camera that can be one.
    """

    def __init__(self, frames: Sequence[PosedImage | SkippedFrame]) -> None:
        self._frames = _in_order(frames)
        first = next((frame for frame in self._frames if isinstance(frame, PosedImage)), None)
        if first is None:
            reason = f"; the first: {frames[0].name}: {frames[0].reason}" if frames else ""
            raise DataError(f"no frame can be used{reason}")
        with foreign("the intrinsics cannot be used"):
            self.K = check_intrinsics(first.camera.K)
        self._size: tuple[int, int] | None = None
        self._masked: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        """Return the number of frames, those left out included."""
        return len(self._frames)

    def frames(self, step: int) -> Iterator[ImportedFrame | SkippedFrame]:
        """Yield every step-th frame, or why it was left out."""
        self._common = self._common_size()
        for frame in self._frames[::step]:
            if isinstance(frame, SkippedFrame):
                yield frame
                continue
            try:
                with foreign(f"{frame.name} cannot be read"):
                    yield self._converted(frame)
            except DataError as error:
                yield SkippedFrame(frame.name, str(error))

    def _common_size(self) -> tuple[Camera | None, tuple[int, int]]:
        """The camera of the first image, if it does not say of what size, and the size (H, W) that most images have."""
        images = [frame for frame in self._frames if isinstance(frame, PosedImage)]
        camera, sizes = images[0].camera, Counter()
        if camera.size is None:
            for image in (image for image in images[:ASKED] if image.camera == camera):
                with suppress(DataError), foreign(image.name):
                    sizes[image.read().shape[:2]] += 1
        return (camera, sizes.most_common(1)[0][0]) if sizes else (None, (0, 0))

    def _converted(self, frame: PosedImage) -> ImportedFrame:
        image = frame.read()
        size = image.shape[:2]
        if frame.camera == self._common[0] and size != self._common[1]:
            common = _named(*self._common[1][::-1])
            raise DataError(
                f"an image must have the size of the others, {common}, whose K is given; got {_named(*size[::-1])}"
            )
        camera = frame.camera.of(size)
        if self._size is None:
            self._size, self.K = size, camera.K
        depth, no_depth = None, frame.no_depth
        if frame.read_depth is not None:
            try:
                with foreign(f"the depth image of {frame.name} cannot be read"):
                    depth = in_millimetres(frame.read_depth())
            except DataError as error:
                no_depth = str(error)
        if depth is not None and depth.shape != size:
            depth = cv2.resize(depth, size[::-1], interpolation=cv2.INTER_NEAREST)
        if camera.distorted or size != self._size or not np.array_equal(camera.K, self.K):
            maps = pinhole_maps(camera, tuple(self.K.ravel()), self._size)
            if maps is not self._masked:
                self._masked, in_view = maps, within(maps, size)
                if not in_view.all():
                    self.valid_mask = in_view if self.valid_mask is None else self.valid_mask & in_view
            image = cv2.remap(image, *maps, cv2.INTER_LINEAR)
            # By the nearest pixel, so that no depth is made up between two surfaces.
            depth = None if depth is None else cv2.remap(depth, *maps, cv2.INTER_NEAREST)
        return ImportedFrame(image, depth, frame.world_T_cam, frame.stamp_ns, frame.name, no_depth)


def _named(width: int, height: int) -> str:
    return f"{width}×{height}"


def _in_order(frames: Sequence[PosedImage | SkippedFrame]) -> list[PosedImage | SkippedFrame]:
    """The frames less those named twice, and those that are not later than the one before; times begin at one second
    where they would at 0, which means "no time given". Where some frame has no time, none has.
    """
    names: set[str] = set()
    frames = [
        SkippedFrame(frame.name, "it is named twice") if frame.name in names else names.add(frame.name) or frame
        for frame in frames
    ]
    stamps_ns = [frame.stamp_ns for frame in frames if isinstance(frame, PosedImage)]
    if not stamps_ns or None in stamps_ns:
        return [replace(frame, stamp_ns=None) if isinstance(frame, PosedImage) else frame for frame in frames]
    later_ns = SECOND_NS - stamps_ns[0] if stamps_ns[0] <= 0 else 0
    ordered, newest_ns = [], None
    for frame in frames:
        if isinstance(frame, PosedImage):
            if newest_ns is not None and frame.stamp_ns <= newest_ns:
                said = (
                    f"its time, {frame.stamp_ns / 1e9:.6f} s, is not after {newest_ns / 1e9:.6f} s of an earlier frame"
                )
                ordered.append(SkippedFrame(frame.name, said))
                continue
            newest_ns = frame.stamp_ns
            frame = replace(frame, stamp_ns=frame.stamp_ns + later_ns)
        ordered.append(frame)
    return ordered


@lru_cache(maxsize=4)
def pinhole_maps(camera: Camera, K: tuple[float, ...], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where an image of a camera shows the pixels of the pinhole camera K."""
    coefficients = np.array(camera.coefficients or (0.0,) * 4)
    lens = Lens(camera.model, camera.K, coefficients, np.eye(3))
    return undistort_maps(lens, np.array(K).reshape(3, 3), size)


def in_millimetres(depth_m: np.ndarray) -> np.ndarray:
    """Return depth (h, w) uint16 millimetres, 0 where it is not finite, not positive or too far, from metres."""
    depth = np.asarray(depth_m, dtype=np.float64)
    good = np.isfinite(depth) & (depth > 0) & (depth < DEEPEST_M)
    return np.where(good, np.rint(np.where(good, depth, 0.0) * MILLIMETRES), 0).astype(np.uint16)


def rigid(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Return the transform (4, 4) of a rotation (3, 3) and a translation (3,)."""
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = rotation, translation
    return transform


def check_pose_matrix(matrix: object, place: str) -> np.ndarray:
    """Return a pose (4, 4) float64 from nested numbers of 3 or 4 rows.

    Raises:
        DataError: if it is no rigid transform.
    """
    with foreign(f"{place} must be a rigid 4×4 transform"):
        pose = np.array(matrix, dtype=np.float64)
        if pose.shape == (3, 4):
            pose = np.vstack((pose, (0.0, 0.0, 0.0, 1.0)))
        if pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise DataError(f"{place} must be 4×4 finite numbers; got {pose.shape}")
        R = pose[:3, :3]
        if np.abs(R @ R.T - np.eye(3)).max() > 1e-2 or np.linalg.det(R) < 0:
            raise DataError(f"{place} must be a rigid transform with a right-handed rotation; it is scaled or mirrored")
        left, _, right = np.linalg.svd(R)
        return rigid(left @ right, pose[:3, 3])
