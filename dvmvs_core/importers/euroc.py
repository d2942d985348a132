# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""EuRoC (ASL) folders and those of TUM-VI: mav0/cam0/data.csv and data/, a calibration, and poses of the body.

The calibration is cam0/sensor.yaml (T_BS: body from camera), or Kalibr's camchain.yaml (T_cam_imu: camera from body).
Poses: state_groundtruth_estimate0, mocap0 or vicon0 data.csv: ns, x y z, quaternion w first, of the sensor that is T_BS
of its sensor.yaml away from the body.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dvmvs_core.data.scene_folder import read_image
from dvmvs_core.data.text_lines import read_lines, to_numbers
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign, quoted
from dvmvs_core.geometry import inverse_pose
from dvmvs_core.importers.dataset import Dataset, Scene, SceneInput, SkippedFrame
from dvmvs_core.importers.files import numbers_of, read_yaml
from dvmvs_core.importers.formats import EurocOptions
from dvmvs_core.importers.posed_scene import Camera, PosedImage, PosedScene, check_pose_matrix
from dvmvs_core.importers.timed_poses import Trajectory, poses_at

POSES = ("state_groundtruth_estimate0", "mocap0", "vicon0")
MODELS = {
    "radial-tangential": "plumb_bob",
    "radtan": "plumb_bob",
    "equidistant": "equidistant",
    "none": "plumb_bob",
}


@dataclass(frozen=True)
class Euroc(Dataset):
    """EuRoC and TUM-VI."""

    published: bool
    options: EurocOptions
    title = "EuRoC"

    def find(self, root: Path) -> list[SceneInput]:
        """Return the recording at a path, or those in its subfolders."""
        where = f"{self.options.camera}/data.csv"
        folders = [root] if (root / where).exists() else []
        folders += [path.parents[1] for path in sorted([*root.glob(f"mav0/{where}"), *root.glob(f"*/mav0/{where}")])]
        if not folders:
            raise DataError(f"{root} holds no EuRoC recording: looked for mav0/{where} in it and in its subfolders")
        named = [folder.resolve() for folder in folders]
        return [
            SceneInput((path.parent if path.name == "mav0" else path).name, folder)
            for path, folder in zip(named, folders, strict=True)
        ]

    def open(self, scene: SceneInput) -> Scene:
        """Open a recording."""
        camera, body_T_camera = _calibration(scene.path, self.options.camera)
        poses_file = next(
            (scene.path / name / "data.csv" for name in POSES if (scene.path / name / "data.csv").exists()), None
        )
        if poses_file is None:
            leica = ". Those of leica0 are positions alone" if (scene.path / "leica0").exists() else ""
            raise DataError(f"{scene.path} holds no poses: looked for data.csv in {', '.join(POSES)}{leica}")
        sensor_T_camera = inverse_pose(_body_T_sensor(poses_file.with_name("sensor.yaml"))) @ body_T_camera
        stamps_ns, numbers = _rows(poses_file, 8)
        trajectory = Trajectory(stamps_ns, numbers[:, :3], numbers[:, [4, 5, 6, 3]], poses_file)
        times_ns, names = _images(scene.path / self.options.camera / "data.csv")
        folder = scene.path / self.options.camera / "data"
        frames = []
        for name, time_ns, pose in zip(
            names, times_ns, poses_at(trajectory, times_ns, names, self.options.max_gap_ms, poses_file), strict=True
        ):
            if isinstance(pose, SkippedFrame):
                frames.append(pose)
            else:
                frames.append(
                    PosedImage(name, partial(read_image, folder / name), camera, pose @ sensor_T_camera, int(time_ns))
                )
        return PosedScene(frames)


def _calibration(folder: Path, name: str) -> tuple[Camera, np.ndarray]:
    """The camera and body_T_camera (4, 4)."""
    file = folder / name / "sensor.yaml"
    if file.exists():
        return _of_sensor(file)
    chains = sorted([*folder.glob("*camchain*.yaml"), *folder.parent.glob("*camchain*.yaml")])
    chains += sorted([*folder.parent.glob("dso/*camchain*.yaml"), *folder.glob("dso/*camchain*.yaml")])
    if not chains:
        raise DataError(f"{folder} holds no calibration: looked for {name}/sensor.yaml and for Kalibr's camchain.yaml")
    content = read_yaml(chains[0])
    with foreign(f"{chains[0]} must hold a camera {name} of Kalibr"):
        values = content[name]
        camera = _camera(values, "distortion_coeffs", str(chains[0]))
        return camera, inverse_pose(check_pose_matrix(values["T_cam_imu"], f"{chains[0]}, T_cam_imu"))


def _of_sensor(file: Path) -> tuple[Camera, np.ndarray]:
    values = read_yaml(file)
    with foreign(f"{file} must hold T_BS, intrinsics and a distortion"):
        return _camera(values, "distortion_coefficients", str(file)), _body_T_sensor_of(values, file)


def _body_T_sensor(file: Path) -> np.ndarray:
    """Where on the body what the poses are of is, (4, 4): the markers of vicon0 are off the body's origin."""
    return _body_T_sensor_of(read_yaml(file), file) if file.exists() else np.eye(4)


def _body_T_sensor_of(values: dict, file: Path) -> np.ndarray:
    with foreign(f"{file} must hold T_BS"):
        data = numbers_of(values["T_BS"]["data"], 16, f"{file}, T_BS")
        return check_pose_matrix(np.reshape(data, (4, 4)), f"{file}, T_BS")


def _camera(values: dict, coefficients: str, place: str) -> Camera:
    model = str(values.get("distortion_model", "none")).lower()
    if model not in MODELS or str(values.get("camera_model", "pinhole")) != "pinhole":
        raise DataError(
            f"{place}: the camera must be a pinhole with distortion {', '.join(MODELS)}; got"
            f" {quoted(values.get('camera_model'))}, {quoted(model)}"
        )
    intrinsics = numbers_of(values["intrinsics"], 4, f"{place}, intrinsics")
    given = numbers_of(values.get(coefficients) or [], None, f"{place}, {coefficients}")
    size = tuple(int(side) for side in numbers_of(values["resolution"], 2, f"{place}, resolution"))
    return Camera(tuple(intrinsics), tuple(given), MODELS[model], size)


def _images(path: Path) -> tuple[np.ndarray, list[str]]:
    times_ns, names = [], []
    for _, words in _csv(path, 2):
        times_ns.append(int(words[0]))
        names.append(Path(words[1]).name)
    if not names:
        raise DataError(f"{path} lists no image")
    return np.array(times_ns, dtype=np.int64), names


def _rows(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Times (n,) and the next count - 1 columns."""
    stamps_ns, rows = [], []
    for line, words in _csv(path, count):
        if stamps_ns and int(words[0]) < stamps_ns[-1]:
            raise DataError(
                f"{path}, line {line}: times must not go back; got {words[0]} after {stamps_ns[-1]}. Sort it"
            )
        if not stamps_ns or int(words[0]) > stamps_ns[-1]:
            stamps_ns.append(int(words[0]))
            rows.append(to_numbers(words[1:count], f"{path}, line {line}"))
    if not rows:
        raise DataError(f"{path} holds no pose")
    return np.array(stamps_ns, dtype=np.int64), np.array(rows)


def _csv(path: Path, min_columns: int):
    for number, line in read_lines(path):
        words = [word.strip() for word in line.split(",")]
        if line.startswith("#") or not line.strip():
            continue
        if len(words) < min_columns:
            raise DataError(f"{path}, line {number} must hold {min_columns} columns; got {len(words)}")
        if not words[0].isdecimal() or len(words[0]) > 19:
            raise DataError(f"{path}, line {number} must begin with a time in nanoseconds; got {quoted(words[0])}")
        yield number, words
