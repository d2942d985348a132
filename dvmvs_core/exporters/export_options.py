# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What can be chosen for an export, as frozen dataclasses.

The command line is made from them, so nothing heavy is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dvmvs_core.errors import ConfigError


@dataclass(frozen=True)
class ExportOptions:
    """What every data set has in common."""

    training: bool = False
    """write npz frames, train.txt and validation.txt instead of scene folders, and leave out frames without a pose"""
    frame_skip: int = 1
    """use every n-th frame; the paper trains on every 4th frame of ScanNet and tests on all"""
    published: bool = False
    """reproduce the published scripts exactly, including their known defects"""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.frame_skip < 1:
            raise ConfigError(f"frame_skip must be 1 or more; got {self.frame_skip}")
        if self.published and not self.training and self.frame_skip > 1:
            raise ConfigError(
                f"frame_skip must be 1 for a published test export; got {self.frame_skip}: the published script then"
                " writes more poses than images, which nothing can read. Leave out --published, or add --training"
            )


@dataclass(frozen=True)
class ScannetOptions:
    """ScanNet has everything it needs inside its .sens files."""


@dataclass(frozen=True)
class SevenScenesOptions:
    """7-Scenes was never calibrated: these are figures of other devices of the same make."""

    colour_focal_px: float = 525.0
    """focal length of the colour camera; its principal point is (320, 240)"""
    depth_focal_px: float = 585.0
    """focal length of the depth camera, from the data set's page; its principal point is (320, 240)"""
    colour_from_depth: Path | None = None
    """text file of 4×4 numbers that map points of the depth camera to the colour camera, in metres; by default the
    calibration of a Kinect by LIRIS (2.56 cm apart), which relocalisation code uses for 7-Scenes"""
    published_depth: Path | None = None
    """folder of the rendered depth release (7scenes_SCENE/train/depth/seqXX*), which --published needs"""

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("colour_focal_px", "depth_focal_px"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive; got {getattr(self, name)}")


@dataclass(frozen=True)
class TumRgbdOptions:
    """TUM RGB-D, or a recording of one's own in its format."""

    max_gap_ms: float = 20.0
    """largest time between a colour image and its depth image or recorded pose, milliseconds"""
    intrinsics: tuple[float, float, float, float] | None = None
    """fx fy cx cy; by default they follow from freiburg1, freiburg2 or freiburg3 in the folder's name"""
    distortion: tuple[float, float, float, float, float] | None = None
    """k1 k2 p1 p2 k3 of the lens that goes with --intrinsics; by default there is none to remove"""

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.max_gap_ms >= 0:
            raise ConfigError(f"max_gap_ms must be 0 or more; got {self.max_gap_ms}")
        if self.distortion is not None and self.intrinsics is None:
            raise ConfigError("distortion belongs to intrinsics: give both, or neither")


@dataclass(frozen=True)
class IclNuimOptions:
    """The augmented ICL-NUIM scenes have nothing to choose."""


@dataclass(frozen=True)
class RgbdScenesOptions:
    """RGB-D Scenes v2 has nothing to choose."""


DatasetOptions = ScannetOptions | SevenScenesOptions | TumRgbdOptions | IclNuimOptions | RgbdScenesOptions
