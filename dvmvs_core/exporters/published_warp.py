# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where the published ScanNet export takes each pixel of its colour images from.

K_colour K_depth⁻¹ maps a pixel of the depth image to one of the colour image, as if both cameras stood at one place.
The result is normalised by half the size where the sampler expects half of one less, so the image is squeezed by up
to one pixel: kept, with float32 throughout, since that is what the published training data look like.
"""

from __future__ import annotations

import numpy as np


def colour_samples(
    K_colour: np.ndarray, K_depth: np.ndarray, colour_size: tuple[int, int], depth_size: tuple[int, int]
) -> np.ndarray:
    """Return for each pixel of the depth image the index of its colour pixel.

    Args:
        K_colour: (3, 3) float32 intrinsics of the colour image.
        K_depth: (3, 3) float32 intrinsics of the depth image.
        colour_size: (H, W).
        depth_size: (h, w).

    Returns:
        (h, w) indices into the flattened colour image; -1 outside of it.
    """
    import torch  # only this mode needs it: rounding at ties must be the sampler's own

    (height, width), (depth_height, depth_width) = colour_size, depth_size
    colour_H_depth = torch.from_numpy(K_colour.dot(np.linalg.inv(K_depth))).float()
    y, x = torch.meshgrid(torch.arange(depth_height).float(), torch.arange(depth_width).float(), indexing="ij")
    pixels = torch.stack((x, y, torch.ones_like(x))).reshape(1, 3, -1)
    projected = torch.bmm(colour_H_depth[None], pixels)[0]  # (3, h·w)
    half = torch.tensor((width / 2, height / 2)).reshape(2, 1)
    grid = (projected[:2] / (projected[2] + 1e-8) - half) / half
    # One sampled image of row numbers and one of column numbers, from 1, say where every later image is sampled.
    rows = torch.arange(1, height + 1).float()[:, None].expand(height, width)
    columns = torch.arange(1, width + 1).float().expand(height, width)
    row, column = (
        torch.nn.functional.grid_sample(
            torch.stack((rows, columns))[None],
            grid.T.reshape(1, depth_height, depth_width, 2),
            mode="nearest",
            padding_mode="zeros",
            align_corners=True,
        )[0]
        .long()
        .numpy()
    )
    return np.where(row > 0, (row - 1) * width + column - 1, -1)


def take_samples(image: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return the pixels of a colour image (H, W, 3) with these indices (h, w) as an image; black where one is -1."""
    warped = image.reshape(-1, 3)[samples]
    warped[samples < 0] = 0
    return warped
