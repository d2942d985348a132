# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Single images with depth, from folders in the training layout, and what is made of them to learn from.

Poses are not looked at. Within a folder, scenes are drawn by the square root of their length, so that many short
recordings count for more than one long one.
"""

from __future__ import annotations

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

MAX_ZOOM = 1.4
"""Largest enlargement of a part of an image."""

GAMMA, GAIN, TINT, CONTRAST = 0.25, 0.2, 0.08, 0.25
"""Deviations of the logarithms of what images are recoloured by ..."""
SATURATION = 0.2, 1.3
"""... and the range of what their colours are multiplied by."""

NEAREST_M, FARTHEST_M = 0.15, 12.0
"""Depth beyond is not learned from: sensors measure it badly."""


class LabelledImages(NamedTuple):
    """B images with depth.

    Attributes:
        image: (B, 3, H, W) float32 RGB, 0…255.
        depth: (B, n, m) float32 metres at the middles of the cells; 0 where there is none to learn from.
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
        DataError: if a folder has no list, or there is nothing to learn from.
    """

    def __init__(self, parts: Sequence[DataPart], height: int, width: int, split: Split = "train") -> None:
        self._size = height, width
        self._scenes: list[TrainingScene] = []
        chances = []
        for part in parts:
            scenes, skipped = open_training_scenes(Path(part.name), split)
            warn_of_skipped(part.name, skipped)
            scenes = [scene for scene in scenes if scene.frames]
            lengths = np.sqrt([len(scene.frames) for scene in scenes])
            chances += list(float(part.weight) * lengths / (lengths.sum() or 1.0))
            self._scenes += scenes
        if split == "train" and not chances:
            raise DataError(f"{' and '.join(part.name for part in parts)} name no scene with frames to learn from")
        self._chances = np.array(chances) / (sum(chances) or 1.0)

    def __len__(self) -> int:
        """Return how many scenes there are."""
        return len(self._scenes)

    def drawn(self, random: np.random.Generator, count: int) -> LabelledImages:
        """Return so many images, each cut out and recoloured in its own way.

        Raises:
            DataError: if a frame cannot be read.
        """
        scenes = random.choice(len(self), count, p=self._chances)
        return _together([_changed(*self._read(scene, random.random()), random) for scene in scenes])

    def spread(self, count: int) -> LabelledImages:
        """Return at least so many images from all over the scenes, as they are and the same ones every time.

        Raises:
            DataError: if a frame cannot be read.
        """
        each = -(-count // len(self))
        return _together([self._read(scene, (k + 0.5) / each) for scene in range(len(self)) for k in range(each)])

    def _read(self, number: int, place: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The image (H, W, 3), depth (H, W) and intrinsics (3, 3) at a place, 0…1, of a scene."""
        scene = self._scenes[number]
        image, depth = read_training_frame(scene.frames[int(place * len(scene.frames))])
        preprocessor = Preprocessor(scene.K, depth.shape, self._size)
        return preprocessor.image(image), preprocessor.depth(depth).astype(np.float32) / MILLIMETRES, preprocessor.K


def _together(made: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> LabelledImages:
    image, depth, K = (torch.from_numpy(np.stack(parts).astype(np.float32)) for parts in zip(*made, strict=True))
    depth = depth[:, CELL // 2 :: CELL, CELL // 2 :: CELL]
    depth = torch.where((depth > NEAREST_M) & (depth < FARTHEST_M), depth, 0.0)
    return LabelledImages(image.permute(0, 3, 1, 2).contiguous(), depth, K)


def _changed(
    image: np.ndarray, depth: np.ndarray, K: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A part of an image, enlarged and perhaps mirrored, as another camera would have recorded it."""
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
