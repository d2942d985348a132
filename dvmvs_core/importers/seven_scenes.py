# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""7-Scenes: SCENE/seq-XX/frame-NNNNNN.color.png, .depth.png (millimetres, 0 and 65535 invalid) and .pose.txt.

Correct: the recorded depth is that of another camera, with another focal length, next to the colour camera. It is
moved into the colour camera, and so are the poses, since KinectFusion tracked the depth camera. The data set was
never calibrated: focal lengths and transform are options.

Published: depth is a separate release, rendered from a reconstruction into the colour camera with the poses as they
are; files are matched by sorted position. 13 sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dvmvs_core.data.text_lines import read_rows
from dvmvs_core.errors import DataError
from dvmvs_core.geometry import inverse_pose
from dvmvs_core.importers.dataset import Dataset, FileScene, FrameFiles, Scene, SceneInput, SkippedFrame, numbered
from dvmvs_core.importers.formats import SevenScenesOptions
from dvmvs_core.importers.registration import DepthRegistration, check_transform

INVALID_DEPTH = 65535

COLOUR_T_DEPTH = np.array(
    (
        (9.9996518012567637e-01, 2.6765126468950343e-03, -7.9041012313000904e-03, -2.5558943178152542e-02),
        (-2.7409311281316700e-03, 9.9996302803027592e-01, -8.1504520778013286e-03, 1.0109636268061706e-04),
        (7.8819942130445332e-03, 8.1718328771890631e-03, 9.9993554558014031e-01, 2.0318321729487039e-03),
        (0.0, 0.0, 0.0, 1.0),
    )
)
"""Depth to colour camera of a Kinect calibrated by LIRIS
(projet.liris.cnrs.fr/voir/activities-dataset/kinect-calibration.html). Not the device of 7-Scenes; relocalisation
work (Brachmann et al., "On the Limits of Pseudo Ground Truth", 2021) uses it for this data set."""

PUBLISHED_SCENES = frozenset(
    (
        "chess-seq-01",
        "chess-seq-02",
        "fire-seq-01",
        "fire-seq-02",
        "heads-seq-02",
        "office-seq-01",
        "office-seq-03",
        "pumpkin-seq-03",
        "pumpkin-seq-06",
        "redkitchen-seq-01",
        "redkitchen-seq-07",
        "stairs-seq-02",
        "stairs-seq-06",
    )
)
PUBLISHED_FOCAL_PX = 525.0


@dataclass(frozen=True)
class SevenScenes(Dataset):
    """7-Scenes."""

    published: bool
    options: SevenScenesOptions
    title = "7-Scenes"

    def find(self, root: Path) -> list[SceneInput]:
        """Return the sequences of all scenes in a folder, of one scene, or the given one."""
        alone = root.resolve().name.startswith("seq-") or any(root.glob("frame-*.pose.txt"))
        folders = [root] if alone else []
        folders += sorted(path for path in [*root.glob("seq-*"), *root.glob("*/seq-*")] if path.is_dir())
        names = [f"{folder.resolve().parent.name}-{folder.resolve().name}" for folder in folders]
        scenes = [SceneInput(name, folder) for name, folder in zip(names, folders, strict=True)]
        if self.published:
            scenes = [scene for scene in scenes if scene.name in PUBLISHED_SCENES]
        if not scenes:
            wanted = " of the 13 published sequences" if self.published else ""
            raise DataError(
                f"{root} holds no 7-Scenes sequence{wanted}: looked for SCENE/seq-XX folders and for"
                " frame-NNNNNN.pose.txt"
            )
        return scenes

    def open(self, scene: SceneInput) -> Scene:
        """Open a sequence."""
        if self.published:
            frames = _published_frames(scene, self.options.published_depth)
            return FileScene(_intrinsics(PUBLISHED_FOCAL_PX), frames, _rounded)
        K = _intrinsics(self.options.colour_focal_px)
        colour_T_depth = _read_transform(self.options.colour_from_depth)
        register = DepthRegistration(_intrinsics(self.options.depth_focal_px), colour_T_depth, K)
        return FileScene(
            K,
            _frames(scene.path, inverse_pose(colour_T_depth)),
            convert_depth=lambda depth: register(np.where(depth == INVALID_DEPTH, 0, depth), depth.shape),
        )


def _frames(folder: Path, depth_T_colour: np.ndarray) -> list[FrameFiles | SkippedFrame]:
    images, depths, poses = (
        numbered(folder, rf"frame-(\d+)\.{kind}") for kind in (r"color\.(?:png|jpg)", r"depth\.png", r"pose\.txt")
    )
    if not images:
        raise DataError(f"{folder} holds no frames: looked for frame-NNNNNN.color.png, .depth.png and .pose.txt")
    frames: list[FrameFiles | SkippedFrame] = []
    for number, image in images.items():
        if number not in poses:
            frames.append(SkippedFrame(image.name, "it has no pose"))
            continue
        try:
            world_T_depth = _read_pose(poses[number])
            if np.isfinite(world_T_depth).all():
                world_T_depth = check_transform(world_T_depth, str(poses[number]))
        except DataError as error:
            frames.append(SkippedFrame(image.name, str(error)))
            continue
        lost = not np.isfinite(world_T_depth).all()
        world_T_colour = world_T_depth if lost else world_T_depth @ depth_T_colour
        frames.append(FrameFiles(image, depths.get(number), world_T_colour, no_depth="it has no depth image"))
    return frames


def _published_frames(scene: SceneInput, release: Path | None) -> list[FrameFiles | SkippedFrame]:
    if release is None:
        raise DataError(
            "the published 7-Scenes export takes depth from a separate release of rendered images"
            " (7scenes_SCENE/train/depth/seqXX*): name its folder with --published-depth"
        )
    room, _, sequence = scene.name.rpartition("-seq-")
    depth_folder = release / f"7scenes_{room}" / "train" / "depth"
    files = {
        "color.png files": sorted(scene.path.glob("*color.png")),
        "pose.txt files": sorted(scene.path.glob("*pose.txt")),
        f"depth images {depth_folder}/seq{sequence}*": sorted(depth_folder.glob(f"seq{sequence}*")),
    }
    counts = {kind: len(found) for kind, found in files.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        found = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        raise DataError(f"{scene.path} must have as many images as poses and depth images; got {found}")
    return [FrameFiles(image, depth, _read_pose(pose)) for image, pose, depth in zip(*files.values(), strict=True)]


def _read_pose(path: Path) -> np.ndarray:
    rows = read_rows(path, 4)
    if len(rows) != 4:
        raise DataError(f"{path} must hold 4 lines of 4 numbers; got {len(rows)} lines")
    return np.array(rows)


def _read_transform(path: Path | None) -> np.ndarray:
    return COLOUR_T_DEPTH if path is None else check_transform(_read_pose(path), str(path))


def _intrinsics(focal_px: float) -> np.ndarray:
    return np.array(((focal_px, 0.0, 320.0), (0.0, focal_px, 240.0), (0.0, 0.0, 1.0)))


def _rounded(depth: np.ndarray) -> np.ndarray:
    return np.round(depth).astype(np.uint16)
