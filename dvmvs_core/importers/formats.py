# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Every recording that can be imported: its name on the command line, what can be chosen for it, and its reader.

`FORMATS` is the only list of them. The command line is made from it, so nothing heavy is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dvmvs_core.errors import ConfigError

if TYPE_CHECKING:
    from dvmvs_core.importers.dataset import Dataset

Intrinsics = tuple[float, float, float, float]


@dataclass(frozen=True)
class ImportOptions:
    """What every import has in common."""

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
    intrinsics: Intrinsics | None = None
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


@dataclass(frozen=True)
class Format:
    """A format of recordings.

    Attributes:
        reader: module and class of its `Dataset`.
        options: what can be chosen for it.
        description: what is found on disk, for the command line.
    """

    reader: str
    options: type
    description: str


FORMATS = {
    "scannet": Format("scannet:Scannet", ScannetOptions, "ScanNet: SCENE/SCENE.sens, read natively."),
    "7scenes": Format(
        "seven_scenes:SevenScenes",
        SevenScenesOptions,
        "7-Scenes: SCENE/seq-XX/frame-NNNNNN.{color.png or .jpg,depth.png,pose.txt}.",
    ),
    "tum-rgbd": Format(
        "tum_rgbd:TumRgbd",
        TumRgbdOptions,
        "TUM RGB-D: SEQUENCE/{rgb.txt,depth.txt,groundtruth.txt}, or a recording of your own in that format.",
    ),
    "icl-nuim": Format(
        "icl_nuim:IclNuim", IclNuimOptions, "Augmented ICL-NUIM: NAME-color, NAME-depth-clean and NAME-traj.txt."
    ),
    "rgbd-scenes": Format(
        "rgbd_scenes:RgbdScenes", RgbdScenesOptions, "RGB-D Scenes v2: imgs/scene_XX and pc/XX.pose."
    ),
    "trajectory": Format(
        "trajectory_images:TrajectoryImages",
        TrajectoryOptions,
        "Images named by time, or a video, with poses as a TUM trajectory (--poses).",
    ),
    "euroc": Format("euroc:Euroc", EurocOptions, "EuRoC (ASL) and TUM-VI: mav0/cam0, calibration and ground truth."),
    "transforms": Format(
        "transforms_json:TransformsJson", TransformsOptions, "transforms.json of nerfstudio or Instant-NGP."
    ),
    "colmap": Format(
        "colmap:Colmap",
        ColmapOptions,
        "COLMAP model, text or binary; --scale is the length of one unit in metres.",
    ),
    "stray": Format(
        "stray_scanner:StrayScanner",
        StrayOptions,
        "Stray Scanner: rgb.mp4, odometry.csv, depth and confidence of an iPhone's LiDAR.",
    ),
    "record3d": Format("record3d:Record3d", Record3dOptions, "Record3D: .r3d files of an iPhone's LiDAR."),
    "open3d": Format("redwood:Redwood", RedwoodOptions, "Open3D and Redwood: color/, depth/ and a trajectory *.log."),
    "kitti": Format("kitti:Kitti", KittiOptions, "KITTI odometry: sequences/NN and poses/NN.txt."),
}


def open_dataset(published: bool, options: object) -> Dataset:
    """Return the reader of the format that some options are of.

    Args:
        published: convert as the published scripts do.
        options: of one of `FORMATS`.
    """
    module, name = next(known.reader for known in FORMATS.values() if known.options is type(options)).split(":")
    return getattr(import_module(f"dvmvs_core.importers.{module}"), name)(published, options)
