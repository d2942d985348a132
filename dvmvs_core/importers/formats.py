# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Every recording that can be imported: its name on the command line, its reader and what it looks like.

This is the only list of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from dvmvs_core.exporters.raw_frames import Dataset


@dataclass(frozen=True)
class Format:
    """A format of recordings.

    Attributes:
        reader: module and class of its `Dataset`.
        looks_like: what is found on disk.
        poses: what its poses are like before they are converted.
    """

    reader: str
    looks_like: str
    poses: str

    def open(self, published: bool, options: object) -> Dataset:
        """Return the reader."""
        module, name = self.reader.split(":")
        return getattr(import_module(f"dvmvs_core.{module}"), name)(published, options)


FORMATS = {
    "scannet": Format("exporters.scannet:Scannet", "SCENE/SCENE.sens", "of the depth camera"),
    "7scenes": Format(
        "exporters.seven_scenes:SevenScenes", "seq-XX/frame-N.color.png or .jpg, .depth.png, .pose.txt", "4×4 files"
    ),
    "tum-rgbd": Format("exporters.tum_rgbd:TumRgbd", "rgb.txt, depth.txt, groundtruth.txt", "time t q"),
    "icl-nuim": Format("exporters.icl_nuim:IclNuim", "NAME-color, NAME-depth-clean, NAME-traj.txt", "4×4 blocks"),
    "rgbd-scenes": Format("exporters.rgbd_scenes:RgbdScenes", "imgs/scene_XX, pc/XX.pose", "q t"),
    "trajectory": Format(
        "importers.trajectory_images:TrajectoryImages",
        "a folder of images named by time, or a video, and a trajectory",
        "time t q, camera-to-world",
    ),
    "euroc": Format(
        "importers.euroc:Euroc", "mav0/cam0, sensor.yaml or camchain.yaml (TUM-VI)", "of the body, w first"
    ),
    "transforms": Format(
        "importers.transforms_json:TransformsJson", "transforms.json of nerfstudio or Instant-NGP", "OpenGL axes"
    ),
    "colmap": Format("importers.colmap:Colmap", "images and cameras, .txt or .bin", "world-to-camera, without scale"),
    "stray": Format("importers.stray_scanner:StrayScanner", "rgb.mp4, odometry.csv, depth/, confidence/", "t q"),
    "record3d": Format("importers.record3d:Record3d", "NAME.r3d, or metadata and rgbd/", "q t, OpenGL axes"),
    "open3d": Format("importers.redwood:Redwood", "color/, depth/, a trajectory *.log", "4×4 blocks"),
    "kitti": Format("importers.kitti:Kitti", "sequences/NN, poses/NN.txt", "3×4 of image_0"),
}
