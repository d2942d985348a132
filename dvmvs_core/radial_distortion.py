# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Radial distortion k1 that a camera's images still have: taken out of them, and put back into their depth.

A point at (x, y) of the plane at depth 1 is seen at (1 + k1 r²) (x, y), r² = x² + y²: below 0 as a barrel bends it.

Symbols: h×w network resolution, K intrinsics (3, 3).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

LARGEST_BEND = 0.25
"""Of k1 r² in the corners, at most: beyond a third, a lens would map two rays to a pixel."""

_INVERTING_STEPS = 8


def straightened(image: Tensor, K: np.ndarray, distortion: float) -> Tensor:
    """Return an image (h, w, C) as a camera without distortion sees it; what it does not show repeats its border."""
    rays = _rays(K, image.shape[:2])
    places = rays * (1 + _bounded(distortion, K, image.shape[:2]) * np.square(rays).sum(axis=0))
    return _sampled(image.permute(2, 0, 1), K, places, "bilinear", "border").permute(1, 2, 0)


def bent(maps: Tensor, K: np.ndarray, distortion: float, outside: str) -> Tensor:
    """Return maps (C, h, w) of a straightened image at the pixels of the distorted one, each from its nearest pixel.

    Args:
        maps: depth in metres, which stays, since it is measured along the axis; or confidence.
        K: of both images.
        distortion: k1 that was taken out.
        outside: "border" repeats it where the straightened image does not show the pixel; "zeros" puts zeros there.
    """
    seen = _rays(K, maps.shape[1:])
    bounded = _bounded(distortion, K, maps.shape[1:])
    straight = seen
    for _ in range(_INVERTING_STEPS):
        straight = seen / (1 + bounded * np.square(straight).sum(axis=0))
    return _sampled(maps, K, straight, "nearest", outside)


def _bounded(distortion: float, K: np.ndarray, size: tuple[int, int]) -> float:
    corners = _rays(K, size)[:, (0, 0, -1, -1), (0, -1, 0, -1)]
    largest = LARGEST_BEND / np.square(corners).sum(axis=0).max()
    return float(np.clip(distortion, -largest, largest))


def _rays(K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(2, h, w) places at depth 1 of all pixels."""
    v, u = np.mgrid[: size[0], : size[1]]
    return np.stack(((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]))


def _sampled(maps: Tensor, K: np.ndarray, places: np.ndarray, mode: str, outside: str) -> Tensor:
    """Maps (C, h, w) at places (2, h, w) of depth 1."""
    height, width = places.shape[1:]
    u, v = K[0, 0] * places[0] + K[0, 2], K[1, 1] * places[1] + K[1, 2]
    grid = np.stack((u * (2 / (width - 1)) - 1, v * (2 / (height - 1)) - 1), axis=-1).astype(np.float32)
    grid = torch.from_numpy(grid)[None].to(maps.device)
    return functional.grid_sample(maps[None], grid, mode=mode, padding_mode=outside, align_corners=True)[0]
