# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Single images with depth, from folders in the training layout, and what is made of them to learn from.

Poses are not used, but each frame must have one, such as the identity. Within a folder, scenes are drawn by the square
root of their length, so that many short recordings count for more than one long one. Frames that cannot be read are
left out, and named once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from dvmvs_core.data.scene_folder import MILLIMETRES
from dvmvs_core.errors import DataError
from dvmvs_core.model.monocular import CELL
from dvmvs_core.preprocess import Preprocessor
from dvmvs_core.synthetic.defects import apply_defects, draw_defects
from dvmvs_core.training.clip_sources import DataPart, warn_of_skipped
from dvmvs_core.training.training_scenes import Split, TrainingScene, open_training_scenes, read_training_frame

logger = logging.getLogger(__name__)

MAX_ZOOM = 1.4
"""Largest enlargement of a part of an image."""

GAMMA, GAIN, TINT, CONTRAST = 0.25, 0.2, 0.08, 0.25
"""Deviations of the logarithms of what images are recoloured by ..."""
SATURATION = 0.2, 1.3
"""... and the range of what their colours are multiplied by."""

_ATTEMPTS = 4

NEAREST_M, FARTHEST_M = 0.15, 12.0
"""Depth beyond is not learned from: sensors measure it badly."""


class LabelledImages(NamedTuple):
    """B images with depth.

    Attributes:
        image: (B, 3, H, W) float32 RGB, 0…255.
        depth: (B, n, m) float32 metres at pixel 8 of 16 of each cell; 0 where there is none to learn from.
        K: (B, 3, 3) float32 intrinsics, pixels.
    """

    image: Tensor
    depth: Tensor
    K: Tensor


class ImageFolders:
    """Draws from folders in the training layout.

    Args:
        parts: the folders and their weights.
        height: of the images that come out, pixels.
        width: of the images that come out.
        split: which of the lists of each folder.

    Raises:
        DataError: if a folder has no list, or names nothing to train on.
    """

    def __init__(self, parts: Sequence[DataPart], height: int, width: int, split: Split = "train") -> None:
        self._size = height, width
        self._scenes: list[TrainingScene] = []
        self._unreadable: set[Path] = set()
        chances = []
        for part in parts:
            scenes, skipped = open_training_scenes(Path(part.name), split)
            skipped |= {scene.name: "no frame of it has a pose" for scene in scenes if not scene.frames}
            warn_of_skipped(part.name, skipped)
            scenes = [scene for scene in scenes if scene.frames]
            if split == "train" and not scenes:
                raise DataError(f"{part.name}/train.txt must name at least one scene with frames to learn from")
            lengths = np.sqrt([len(scene.frames) for scene in scenes])
            chances += [float(part.weight) * length / lengths.sum() for length in lengths]
            self._scenes += scenes
        self._chances = np.array(chances) / sum(chances) if chances else np.zeros(0)

    def __len__(self) -> int:
        """Return how many scenes there are."""
        return len(self._scenes)

    def drawn(self, random: np.random.Generator, count: int) -> LabelledImages:
        """Return so many images, each cut out and recoloured in its own way.

        Raises:
            DataError: if hardly any frame can be read.
        """
        made = []
        for _ in range(_ATTEMPTS * count):
            read = self._read(random.choice(len(self), p=self._chances), random.random())
            if read is not None:
                made.append(_changed(*read, random))
            if len(made) == count:
                return _together(made)
        raise DataError(f"hardly any frame can be read, such as {min(self._unreadable)}; export the folders again")

    def spread(self, count: int) -> list[LabelledImages]:
        """Return about so many images, as they are and the same ones every time, one by one: some of every scene."""
        each = max(1, round(count / max(1, len(self))))
        read = (self._read(scene, (k + 0.5) / each) for scene in range(len(self)) for k in range(each))
        images = [_together([image]) for image in read if image is not None]
        return [image for image in images if (image.depth > 0).any()]

    def _read(self, number: int, place: float) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """The image (h, w, 3), depth (h, w) in metres and K (3, 3) at a place, 0…1, of a scene; None if damaged."""
        scene = self._scenes[number]
        frame = scene.frames[int(place * len(scene.frames))]
        try:
            image, depth = read_training_frame(frame)
        except DataError as error:
            if frame not in self._unreadable:
                logger.warning("%s; it is left out", error)
            self._unreadable.add(frame)
            return None
        preprocessor = Preprocessor(scene.K, depth.shape, self._size)
        return preprocessor.image(image), preprocessor.depth(depth).astype(np.float32) / MILLIMETRES, preprocessor.K


def _together(made: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> LabelledImages:
    """Images (h, w, 3), depths (h, w) in metres and intrinsics (3, 3), as a batch."""
    image, depth, K = (torch.from_numpy(np.stack(parts).astype(np.float32)) for parts in zip(*made, strict=True))
    depth = depth[:, CELL // 2 :: CELL, CELL // 2 :: CELL]
    depth = torch.where((depth > NEAREST_M) & (depth < FARTHEST_M), depth, 0.0)
    return LabelledImages(image.permute(0, 3, 1, 2).contiguous(), depth, K)


def _changed(
    image: np.ndarray, depth: np.ndarray, K: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A part of an image (h, w, 3) with its depth (h, w), enlarged to all of it and perhaps mirrored, as another camera
    would have recorded it, and K (3, 3) of that camera.
    """
    height, width = depth.shape
    zoom = float(np.exp(random.uniform(0, np.log(MAX_ZOOM))))
    left, top = random.uniform(0, width - width / zoom), random.uniform(0, height - height / zoom)
    part = np.array(((zoom, 0, -zoom * left), (0, zoom, -zoom * top), (0, 0, 1)))
    if random.random() < 0.5:
        part = np.array(((-1, 0, width - 1), (0, 1, 0), (0, 0, 1))) @ part
    border = {"borderMode": cv2.BORDER_REPLICATE}
    image = cv2.warpAffine(image, part[:2], (width, height), flags=cv2.INTER_LINEAR, **border)
    depth = cv2.warpAffine(depth, part[:2], (width, height), flags=cv2.INTER_NEAREST, **border)
    K = part @ K
    K[0, 0] = abs(K[0, 0])  # what is mirrored is seen by a camera like the one before
    image = torch.from_numpy(_recoloured(image / 255, random)).permute(2, 0, 1)[None, None]
    image = apply_defects(image, [draw_defects(random)])[0, 0].clamp(0, 1) * 255
    return image.permute(1, 2, 0).numpy(), depth, K


def _recoloured(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """An image (H, W, 3) of 0…1 with other light and colours."""
    gamma, gain, contrast = np.exp(random.normal(0, (GAMMA, GAIN, CONTRAST)))
    image = np.clip(image, 0, 1) ** gamma * gain * np.exp(random.normal(0, TINT, 3))
    image = image.mean() + contrast * (image - image.mean())
    grey = image.mean(axis=2, keepdims=True)
    return np.clip(grey + random.uniform(*SATURATION) * (image - grey), 0, 1).astype(np.float32)
