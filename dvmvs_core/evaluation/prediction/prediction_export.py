# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Predicted depth and poses for other tools: as TUM RGB-D, transforms.json, a COLMAP model or a point cloud.

Each is a folder of its own with the images as the network saw them, so that images, K and depth have one size. Depth
below the least confidence is left out.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from dvmvs_core.atomic import unfinished_folder
from dvmvs_core.data.encodings.pictures import encode_png
from dvmvs_core.data.encodings.ply import ply_header
from dvmvs_core.data.sequence import FrameSequence
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.prediction_pixels import StoredKeyframe, StoredKeyframes
from dvmvs_core.geometry import backproject, inverse_pose

TUM_UNITS = 5000.0
"""Units of a metre in depth images of TUM RGB-D."""

MILLIMETRES = 1000.0

DEEPEST = 65535

OPENGL_AXES = np.diag((1.0, -1.0, -1.0, 1.0))

POINT_STEP = 4
"""Of the pixels of a keyframe, every so many rows and columns gives a point."""

_POINT = np.dtype([("position", "<f4", 3), ("colour", "u1", 3)])


def export_predictions(
    sequence: FrameSequence,
    predictions: Path,
    out: Path,
    form: str,
    min_confidence: float = 0.0,
    advance: Callable[[int], None] = lambda steps: None,
) -> Path:
    """Write predictions for another tool, one keyframe in memory at a time.

    Args:
        sequence: what was predicted.
        predictions: the npz.
        out: the new folder.
        form: one of `FORMS`.
        min_confidence: least confidence of depth that is written, from 0 to 1.
        advance: called with 1 after each frame.

    Returns:
        The folder, or the file in it.

    Raises:
        DataError: if `out` exists, or predictions and sequence do not belong together.
    """
    if os.path.lexists(out):
        raise DataError(f"{out} exists already; remove it or choose another name")
    with unfinished_folder(out) as unfinished:
        writer = FORMS[form](unfinished)
        stored = StoredKeyframes(predictions)
        for keyframe in stored.of(sequence, advance=advance):
            if keyframe.confidence is not None and min_confidence > 0:
                confident = np.where(keyframe.confidence >= min_confidence, keyframe.depth, np.float32(0))
                keyframe = replace(keyframe, depth=confident)
            writer.add(keyframe)
        if stored.missing:
            few = sorted(stored.missing)[:5]
            raise DataError(f"{predictions} has depth of frames {few} that {sequence.path} does not have")
        writer.finish()
        os.rename(unfinished, out)
    return out / writer.main_file


class _Writer(ABC):
    """Writes one form into a new folder."""

    main_file = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def add(self, keyframe: StoredKeyframe) -> None:
        """Take a keyframe."""

    @abstractmethod
    def finish(self) -> None:
        """Write what concerns all keyframes."""

    def _image(self, name: str, pixels: np.ndarray) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_png(pixels))

    def _text(self, name: str, lines: list[str]) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))


class _Tum(_Writer):
    """rgb.txt, depth.txt, groundtruth.txt; K.txt, which the format lacks."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._lists = {
            "rgb": ["# timestamp filename"],
            "depth": ["# timestamp filename"],
            "groundtruth": ["# timestamp tx ty tz qx qy qz qw"],
        }
        self._K = np.eye(3)

    def add(self, keyframe: StoredKeyframe) -> None:
        seconds, nanoseconds = divmod(keyframe.item.frame.stamp_ns, 10**9)
        stamp, world_T_cam = f"{seconds}.{nanoseconds:09d}", keyframe.item.frame.world_T_cam
        self._image(f"rgb/{stamp}.png", keyframe.image)
        self._image(f"depth/{stamp}.png", _integers(keyframe.depth, TUM_UNITS))
        for kind in ("rgb", "depth"):
            self._lists[kind].append(f"{stamp} {kind}/{stamp}.png")
        rotation = Rotation.from_matrix(world_T_cam[:3, :3]).as_quat()
        self._lists["groundtruth"].append(f"{stamp} {_words(*world_T_cam[:3, 3], *rotation)}")
        self._K = keyframe.K

    def finish(self) -> None:
        for name, lines in self._lists.items():
            self._text(f"{name}.txt", lines)
        self._text("K.txt", [_words(*row) for row in self._K])


class _Transforms(_Writer):
    """transforms.json with images/ and depth/ in millimetres; OpenGL axes, pixel centres at halves."""

    main_file = "transforms.json"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._content: dict = {"camera_model": "OPENCV", "depth_unit_scale_factor": 1 / MILLIMETRES, "frames": []}

    def add(self, keyframe: StoredKeyframe) -> None:
        self._image(f"images/{_name(keyframe)}", keyframe.image)
        self._image(f"depth/{_name(keyframe)}", _integers(keyframe.depth, MILLIMETRES))
        (height, width), K = keyframe.depth.shape, keyframe.K
        self._content |= {"w": width, "h": height, "fl_x": K[0, 0], "fl_y": K[1, 1]}
        self._content |= {"cx": K[0, 2] + 0.5, "cy": K[1, 2] + 0.5}
        self._content["frames"].append(
            {
                "file_path": f"images/{_name(keyframe)}",
                "depth_file_path": f"depth/{_name(keyframe)}",
                "transform_matrix": (keyframe.item.frame.world_T_cam @ OPENGL_AXES).tolist(),
            }
        )

    def finish(self) -> None:
        (self.folder / self.main_file).write_text(json.dumps(self._content, indent=1) + "\n")


class _Colmap(_Writer):
    """images/ and sparse/0 as text: cameras, images, and points of the depth maps, each without a track."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._images: list[str] = []
        self._camera: list[str] = []
        (folder / "sparse/0").mkdir(parents=True)
        self._points, self._count = (folder / "sparse/0/points3D.txt").open("w"), 0

    def add(self, keyframe: StoredKeyframe) -> None:
        self._image(f"images/{_name(keyframe)}", keyframe.image)
        (height, width), K = keyframe.depth.shape, keyframe.K
        camera = _words(K[0, 0], K[1, 1], K[0, 2] + 0.5, K[1, 2] + 0.5)
        self._camera = [f"1 PINHOLE {width} {height} {camera}"]
        cam_T_world = inverse_pose(keyframe.item.frame.world_T_cam)
        x, y, z, w = Rotation.from_matrix(cam_T_world[:3, :3]).as_quat()
        pose = _words(w, x, y, z, *cam_T_world[:3, 3])
        self._images += [f"{len(self._images) // 2 + 1} {pose} 1 {_name(keyframe)}", ""]
        for xyz, (red, green, blue) in _points(keyframe).tolist():
            self._count += 1
            self._points.write(f"{self._count} {_words(*xyz)} {red} {green} {blue} 0\n")

    def finish(self) -> None:
        self._points.close()
        self._text("sparse/0/cameras.txt", self._camera)
        self._text("sparse/0/images.txt", self._images)


class _Ply(_Writer):
    """One binary cloud of all keyframes, in the world."""

    main_file = "cloud.ply"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._file, self._count = (folder / self.main_file).open("w+b"), 0
        self._file.write(ply_header(_POINT, f"{0:012d}"))

    def add(self, keyframe: StoredKeyframe) -> None:
        points = _points(keyframe)
        self._count += len(points)
        self._file.write(points.tobytes())

    def finish(self) -> None:
        self._file.seek(0)
        self._file.write(ply_header(_POINT, f"{self._count:012d}"))
        self._file.close()


FORMS: dict[str, type[_Writer]] = {"tum": _Tum, "transforms.json": _Transforms, "colmap": _Colmap, "ply": _Ply}


def _name(keyframe: StoredKeyframe) -> str:
    return f"{keyframe.item.frame.index:06d}.png"


def _points(keyframe: StoredKeyframe) -> np.ndarray:
    """Points in the world, metres, with their colours."""
    rows, columns = (np.arange(size) % POINT_STEP == POINT_STEP // 2 for size in keyframe.depth.shape)
    keep = (keyframe.depth > 0) & rows[:, None] & columns
    world_T_cam = keyframe.item.frame.world_T_cam
    found = np.empty(int(keep.sum()), _POINT)
    in_camera = backproject(np.where(keep, keyframe.depth, 0.0), keyframe.K)[keep]
    found["position"] = in_camera @ world_T_cam[:3, :3].T + world_T_cam[:3, 3]
    found["colour"] = keyframe.image[keep]
    return found


def _integers(depth: np.ndarray, units: float) -> np.ndarray:
    """Depth as uint16 in units of a metre; 0 where it is too far for that."""
    scaled = np.rint(depth.astype(np.float64) * units)
    return np.where(scaled <= DEEPEST, scaled, 0).astype(np.uint16)


def _words(*values: float) -> str:
    return " ".join(f"{value:.10g}" for value in values)
