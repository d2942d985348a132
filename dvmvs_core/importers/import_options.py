# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""What can be chosen for an import, as frozen dataclasses; the command line is made from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dvmvs_core.errors import ConfigError

Intrinsics = tuple[float, float, float, float]


@dataclass(frozen=True)
class TrajectoryOptions:
    """Images or a video, with poses of the camera in a text file."""

    poses: Path
    """text file of lines "time tx ty tz qx qy qz qw": seconds, metres, camera-to-world, x right, y down, z forward"""
    intrinsics: Intrinsics
    """fx fy cx cy of the images, pixels; (0, 0) is the centre of the first pixel"""
    distortion: tuple[float, ...] = ()
    """coefficients of the lens: 4 or 5 of plumb_bob (k1 k2 p1 p2 k3), 8 rational, or 4 with --lens equidistant"""
    lens: Literal["plumb_bob", "equidistant"] = "plumb_bob"
    """lens model of the coefficients"""
    time_offset_s: float = 0.0
    """seconds to add to the time of an image to get the time of its pose; a video starts at 0"""
    max_gap_ms: float = 100.0
    """largest time between an image and a recorded pose, milliseconds"""

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.max_gap_ms >= 0:
            raise ConfigError(f"max_gap_ms must be 0 or more; got {self.max_gap_ms}")


@dataclass(frozen=True)
class EurocOptions:
    """EuRoC and TUM-VI."""

    camera: str = "cam0"
    """camera to read"""
    max_gap_ms: float = 20.0
    """largest time between an image and a recorded pose, milliseconds"""


@dataclass(frozen=True)
class TransformsOptions:
    """transforms.json of nerfstudio or Instant-NGP."""

    scale: float = 1.0
    """length of one unit of the poses, metres; unknown if COLMAP made the poses"""
    axes: Literal["opengl", "opencv"] = "opengl"
    """camera axes of the poses: x right, y up, looking along -z, or x right, y down, z forward"""

    def __post_init__(self) -> None:
        """Check the values."""
        _check_scale(self.scale)


@dataclass(frozen=True)
class ColmapOptions:
    """A COLMAP model, as text or binary."""

    scale: float
    """length of one unit of the model, metres; COLMAP has no scale, so measure a known distance"""
    images: Path | None = None
    """folder of the images that the model names; by default images/ next to the model or above it"""

    def __post_init__(self) -> None:
        """Check the values."""
        _check_scale(self.scale)


@dataclass(frozen=True)
class PhoneOptions:
    """Recordings of a phone with LiDAR."""

    min_confidence: Literal[0, 1, 2] = 1
    """lowest confidence of depth to keep: 0 low, 1 medium, 2 high"""


class StrayOptions(PhoneOptions):
    """Stray Scanner."""


class Record3dOptions(PhoneOptions):
    """Record3D."""


@dataclass(frozen=True)
class RedwoodOptions:
    """A .log trajectory of Open3D or Redwood."""

    log: Path | None = None
    """the trajectory; by default the only *.log in IN or in its subfolder scene/"""
    intrinsics: Intrinsics | None = None
    """fx fy cx cy of the images; by default from camera_intrinsic.json or intrinsic.json in IN"""
    depth_scale: float = 1000.0
    """units of the depth images per metre"""

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0 < self.depth_scale < float("inf"):
            raise ConfigError(f"depth_scale must be units in a metre, more than 0; got {self.depth_scale}")


@dataclass(frozen=True)
class KittiOptions:
    """KITTI odometry."""

    camera: Literal["image_0", "image_1", "image_2", "image_3"] = "image_2"
    """camera to read"""


def _check_scale(scale: float) -> None:
    if not 0 < scale < float("inf"):
        raise ConfigError(f"scale must be metres of one unit, more than 0; got {scale}")


ImportOptions = (
    TrajectoryOptions | EurocOptions | TransformsOptions | ColmapOptions | PhoneOptions | RedwoodOptions | KittiOptions
)
