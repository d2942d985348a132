# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Frames to check and measure with: a textured wall seen from a camera that moves on by one keyframe at a time."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from dvmvs_core.types import Frame

WALL_M = 3.0
STEP_M = 0.12
SWING = 8
"""Frames after which the camera turns back, so that any number of them stays before the wall."""


def wall_frames(size: tuple[int, int] = (480, 640), seed: int = 0) -> Iterator[Frame]:
    """Yield frames without end; each is a keyframe of the default rule.

    Args:
        size: (H, W) of the images.
        seed: chooses the texture.
    """
    height, width = size
    focal = 0.9 * width
    K = np.array(((focal, 0.0, width / 2), (0.0, focal, height / 2), (0.0, 0.0, 1.0)))
    shift = focal * STEP_M / WALL_M
    texture = _texture(height, int(width + shift * SWING) + 2, seed)
    index = 0
    while True:
        place = SWING - abs(index % (2 * SWING) - SWING)
        world_T_cam = np.eye(4)
        world_T_cam[0, 3] = place * STEP_M
        left = round(place * shift)
        image = np.ascontiguousarray(texture[:, left : left + width])
        yield Frame(image, K, world_T_cam, stamp_ns=(index + 1) * 100_000_000, index=index)
        index += 1


def _texture(height: int, width: int, seed: int) -> np.ndarray:
    """Noise at several scales, (height, width, 3) uint8."""
    noise = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cells in (8, 32, 128):
        grid = noise.standard_normal((cells, cells * 2, 3)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 40 * total, 0, 255).astype(np.uint8)
