# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How far away things are, by what one image shows: coarse metric depth, for where parallax cannot measure any.

A plane sweep tells nothing of depth where the camera hardly moves, and the network that is trained on sweeps guesses
then. What an image shows has a usual size, a keyboard like a kitchen, and EfficientNet-Lite0 has learned from
photographs to tell them apart. A small head on its maps, which describe every keyframe anyway, says the logarithm of
depth, and how far that may be off.

The same thing looks the same to a camera of twice the focal length at twice the distance, so the head answers for one
focal length, and the camera's own is counted in afterwards. Source: the canonical camera of Yin et al., "Metric3D",
ICCV 2023.

The maps are joined cell by cell, though Lite0's lie up to 16 pixels right of and below the middles of the cells; the
convolutions have learned that.

Symbols: B batch, H×W network resolution, n×m = H/16×W/16 cells.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dvmvs_core.model.lite0 import LEVEL_CHANNELS, scaled_level
from dvmvs_core.model.part_files import load_part

WEIGHTS = Path(__file__).parents[1] / "weights" / "monocular.safetensors"

CELL = 16
"""Pixels from one cell to the next."""

CANONICAL_FOCAL_PX = 280.0
"""The focal length that the head answers for."""

_USUAL_LOG_DEPTH = math.log(2.0)
_LOG_DEVIATION = (-3.0, 1.5)


class MonocularDepth(NamedTuple):
    """What one image says of depth.

    Attributes:
        log_depth: (B, n, m) median of the logarithm of metres.
        log_deviation: (B, n, m) logarithm of its mean absolute deviation.
    """

    log_depth: Tensor
    log_deviation: Tensor


class MonocularHead(nn.Module):
    """Convolutions over the cells at 1/16 of the resolution, and what all of the image has in common.

    Args:
        width: channels.
        dropout: share of the channels that training leaves out.
    """

    def __init__(self, width: int = 96, dropout: float = 0.2) -> None:
        super().__init__()
        _, lite8, lite16, lite32 = LEVEL_CHANNELS
        self.squeeze8, self.squeeze16, self.squeeze32 = (
            nn.Conv2d(channels, squeezed, 1) for channels, squeezed in ((lite8, 32), (lite16, 64), (lite32, 96))
        )
        self.join = nn.Conv2d(32 + 64 + 96 + 2, width, 1)
        self.whole = nn.Linear(2 * width, width)
        self.blocks = nn.ModuleList(DilatedBlock(width, dilations, dropout) for dilations in ((1, 1), (2, 4)))
        self.answer = nn.Conv2d(width, 2, 1)
        self.dropout = nn.Dropout2d(dropout)

    def forward(
        self, level8: Tensor, level16: Tensor, level32: Tensor, rays: Tensor, focal_px: Tensor
    ) -> MonocularDepth:
        """Return coarse depth.

        Args:
            level8: (B, 40, H/8, W/8) Lite0's map.
            level16: (B, 112, n, m).
            level32: (B, 320, H/32, W/32).
            rays: (B, 2, n, m) x and y of the viewing rays at z = 1, see `cell_rays`.
            focal_px: (B,) focal length, pixels.
        """
        level8, level16, level32 = (scaled_level(level) for level in (level8, level16, level32))
        maps = (
            self.squeeze8(functional.avg_pool2d(level8, 2)),
            self.squeeze16(level16),
            functional.interpolate(self.squeeze32(level32), scale_factor=2.0, mode="bilinear"),
        )
        x = self.dropout(torch.cat(maps, dim=1).relu())
        x = self.join(torch.cat((x, rays), dim=1)).relu()
        whole = self.whole(torch.cat((x.mean(dim=(2, 3)), x.amax(dim=(2, 3))), dim=1))
        x = (x + whole[..., None, None]).relu()
        for block in self.blocks:
            x = block(x)
        log_depth, log_deviation = self.answer(x).float().unbind(dim=1)
        longer = (focal_px / CANONICAL_FOCAL_PX).log()
        return MonocularDepth(
            log_depth + _USUAL_LOG_DEPTH + longer[:, None, None], log_deviation.clamp(*_LOG_DEVIATION)
        )


class DilatedBlock(nn.Module):
    """Two 3×3 convolutions and a skip connection.

    Args:
        width: channels that come in and go out.
        dilations: of the two.
        dropout: share of the channels that training leaves out between them.
    """

    def __init__(self, width: int, dilations: tuple[int, int], dropout: float) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation) for dilation in dilations
        )
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape."""
        return (x + self.second(self.dropout(self.first(x).relu()))).relu()


def cell_rays(K: Tensor, height: int, width: int) -> Tensor:
    """Return x and y (B, 2, n, m) of the rays through the middles of the cells, at z = 1.

    Args:
        K: (B, 3, 3) intrinsics, pixels.
        height: of the image.
        width: of the image.
    """
    middle = (CELL - 1) / 2
    x = (torch.arange(width // CELL, device=K.device) * CELL + middle - K[:, :1, 2]) / K[:, :1, 0]  # (B, m)
    y = (torch.arange(height // CELL, device=K.device) * CELL + middle - K[:, 1:2, 2]) / K[:, 1:2, 1]
    return torch.stack(torch.broadcast_tensors(x[:, None], y[:, :, None]), dim=1)


def focal_length(K: Tensor) -> Tensor:
    """Return the geometric mean (B,) of the two focal lengths of intrinsics (B, 3, 3)."""
    return (K[:, 0, 0] * K[:, 1, 1]).sqrt()


def load_monocular(path: Path = WEIGHTS) -> MonocularHead:
    """Return the head with trained weights, in evaluation mode.

    Raises:
        WeightsError: if the file is missing, broken or not of this network.
    """
    return load_part(MonocularHead(), path, "the weights of monocular depth", "dvmvs train monocular")
