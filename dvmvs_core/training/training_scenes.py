# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Recordings in the published training layout, as clips to train on.

A folder holds `train.txt` and `validation.txt` (the name of one scene a line) and for each scene a folder with
`NNNNNN.npz` (`image` uint8 (H, W, 3) RGB, `depth` uint16 (H, W) millimetres, 0 = invalid), `poses.txt`
(camera-to-world, 16 numbers a line) and `K.txt`. `dvmvs export` writes it.

What cannot be used is left out and named in `skipped`: a scene that contradicts itself when the folder is opened, a
frame that cannot be read and a clip without any depth when they are met.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch

from dvmvs_core.data.encodings.npz import read_arrays
from dvmvs_core.data.file_order import ordered_files
from dvmvs_core.data.scene_folder import MILLIMETRES, read_intrinsics, read_poses
from dvmvs_core.data.text_lines import read_words
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign
from dvmvs_core.geometry import is_finite_pose
from dvmvs_core.importers.split import TRAIN, VALIDATION
from dvmvs_core.preprocess import Preprocessor
from dvmvs_core.synthetic.clips import ClipBatch
from dvmvs_core.training.subsequences import subsequences

Split = Literal["train", "validation"]

_LISTS = {"train": TRAIN, "validation": VALIDATION}
_SCENES_OF_ONE_PROCESS = 8
"""With more scenes, several processes look for their samples: a third of a second for each few hundred frames."""


@dataclass(frozen=True, eq=False)
class TrainingScene:
    """One recording.

    Attributes:
        name: its folder's name.
        frames: the npz files of the frames whose pose is known, in order of time.
        poses: (N, 4, 4) float64 world_T_cam of those.
        K: (3, 3) float64 intrinsics of all.
    """

    name: str
    frames: tuple[Path, ...]
    poses: np.ndarray
    K: np.ndarray


class Sample(NamedTuple):
    """A training sample: which frames of which scene, in order."""

    scene: int
    frames: tuple[int, ...]


def open_training_scene(folder: Path) -> TrainingScene:
    """Open one scene; frames whose pose is lost are left out.

    Raises:
        DataError: if a part is missing, or the numbers of frames and poses differ.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} must be the folder of a scene; there is none")
    files = ordered_files(folder, (".npz",))
    poses = read_poses(folder / "poses.txt")
    if len(poses) != len(files):
        raise DataError(f"{folder} must hold one npz file a line of poses.txt; got {len(files)} for {len(poses)} lines")
    usable = [index for index, pose in enumerate(poses) if is_finite_pose(pose)]
    return TrainingScene(
        folder.name, tuple(files[index] for index in usable), poses[usable], read_intrinsics(folder / "K.txt")
    )


def open_training_scenes(root: Path, split: Split) -> tuple[list[TrainingScene], dict[str, str]]:
    """Open the scenes of a folder, and say which ones cannot be used: their names, and why.

    Raises:
        DataError: if there is no list, or nothing of what it names can be opened.
    """
    listed = root / _LISTS[split]
    names = [words[0] for _, words in read_words(listed, 1)]
    scenes, skipped = [], {}
    for name in names:
        try:
            scenes.append(open_training_scene(root / name))
        except DataError as error:
            skipped[name] = str(error)
    if names and not scenes:
        raise DataError(f"none of the {len(names)} scenes of {listed} can be opened; the first: {skipped[names[0]]}")
    return scenes, skipped


def read_training_frame(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a frame as image (H, W, 3) uint8 RGB and depth (H, W) uint16 millimetres.

    Raises:
        DataError: if the file is missing, cut off, or does not hold both.
    """
    with foreign(f"{path} cannot be read as a training frame", advice="; export it again"):
        arrays = read_arrays(path, ("image", "depth"))
    image, depth = arrays["image"], arrays["depth"]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"{path}: image must be uint8 (H, W, 3); got {image.dtype} {image.shape}")
    if depth.dtype != np.uint16 or depth.shape != image.shape[:2]:
        raise DataError(f"{path}: depth must be uint16 {image.shape[:2]}; got {depth.dtype} {depth.shape}")
    return image, depth


class SceneClips:
    """Clips from the recordings of a folder.

    Training clips come without end, every sample once an epoch in an order of its own; `batch(size, index)` depends on
    nothing but folder, seed, sizes and index, so that any process can make any batch.

    Args:
        root: the folder.
        split: which of its two lists.
        height: height of the frames that come out, pixels; they are cropped to this shape and resized.
        width: width of the frames that come out.
        length: frames of a clip.
        seed: of the order.

    Attributes:
        scenes: the recordings that could be opened.
        samples: all clips there are.
        skipped: what was left out so far: its name, and why.

    Raises:
        DataError: if there is no list, or nothing of what it names gives a clip of this length.
    """

    def __init__(self, root: Path, split: Split, height: int, width: int, length: int, seed: int = 0) -> None:
        self.height, self.width, self.length, self.seed = height, width, length, seed
        self.scenes, self.skipped = open_training_scenes(root, split)
        self.samples = [
            Sample(number, frames)
            for number, found in enumerate(_all_subsequences(self.scenes, length))
            for frames in found
        ]
        if self.scenes and not self.samples:
            raise DataError(
                f"{root / _LISTS[split]} gives no clip of {length} frames: its {len(self.scenes)} scenes are too short,"
                " or their camera hardly moves (each step must be about 0.125 to 0.325 in combined pose distance)"
            )

    def __len__(self) -> int:
        """Return how many clips there are."""
        return len(self.samples)

    def batch(self, batch_size: int, index: int) -> ClipBatch:
        """Make one training batch.

        Args:
            batch_size: B.
            index: its number; the same number is the same batch.

        Raises:
            DataError: if no clip of the folder can be read.
        """
        clips = [self._readable(index * batch_size + item) for item in range(batch_size)]
        return ClipBatch(*(torch.stack(parts) for parts in zip(*clips, strict=True)))

    def spread(self, batch_size: int, batches: int) -> list[ClipBatch]:
        """Return a few batches of clips from all over the folder, the same ones every time, none twice."""
        count = min(batches * batch_size, len(self))
        chosen = np.linspace(0, len(self) - 1, count).round().astype(int).tolist()
        clips = [clip for number in chosen if (clip := self._try(number)) is not None]
        return [
            ClipBatch(*(torch.stack(parts) for parts in zip(*clips[start : start + batch_size], strict=True)))
            for start in range(0, len(clips), batch_size)
        ]

    def clip(self, sample: Sample) -> ClipBatch:
        """Assemble one clip, without the axis B.

        Raises:
            DataError: if a frame cannot be read, or none of them has depth.
        """
        scene = self.scenes[sample.scene]
        images, depths, preprocessor = [], [], None
        for number in sample.frames:
            image, depth = read_training_frame(scene.frames[number])
            if preprocessor is None or preprocessor.size != depth.shape:
                preprocessor = Preprocessor(scene.K, depth.shape, (self.height, self.width), crop=True)
            images.append(self._resized(image, preprocessor))
            depths.append((preprocessor.depth(depth) / MILLIMETRES).astype(np.float32))
        if not any(depth.any() for depth in depths):
            raise DataError(f"{scene.frames[sample.frames[0]]} and the frames of its clip hold no depth")
        return ClipBatch(
            torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
            torch.from_numpy(np.stack(depths)),
            torch.from_numpy(scene.poses[list(sample.frames)]).float(),
            torch.from_numpy(preprocessor.K),
        )

    def _resized(self, image: np.ndarray, preprocessor: Preprocessor) -> np.ndarray:
        """Crop and resize an image in 8 bits, as published for training; the published test does it in float32."""
        height, width = image.shape[:2]
        x, y = preprocessor.crop_x, preprocessor.crop_y
        return cv2.resize(
            image[y : height - y, x : width - x], (self.width, self.height), interpolation=cv2.INTER_LINEAR
        )

    def _readable(self, number: int) -> ClipBatch:
        """The clip of a number, or where it cannot be used the next one that can."""
        for later in range(len(self)):
            epoch, place = divmod(number + later, len(self))
            clip = self._try(int(self._order(epoch)[place]))
            if clip is not None:
                return clip
        raise DataError(f"none of the {len(self)} clips can be read; the last: {list(self.skipped.values())[-1]}")

    def _try(self, number: int) -> ClipBatch | None:
        sample = self.samples[number]
        name = f"{self.scenes[sample.scene].name} {'-'.join(map(str, sample.frames))}"
        if name in self.skipped:
            return None
        try:
            return self.clip(sample)
        except DataError as error:
            self.skipped[name] = str(error)
            return None

    def _order(self, epoch: int) -> np.ndarray:
        if getattr(self, "_epoch", None) != epoch:
            self._epoch, self._permutation = epoch, np.random.default_rng([self.seed, 19, epoch]).permutation(len(self))
        return self._permutation


def _all_subsequences(scenes: list[TrainingScene], length: int) -> Iterable[list[tuple[int, ...]]]:
    poses = [scene.poses for scene in scenes]
    if len(scenes) <= _SCENES_OF_ONE_PROCESS:
        return [subsequences(each, length) for each in poses]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(subsequences, poses, [length] * len(poses), chunksize=_SCENES_OF_ONE_PROCESS))
