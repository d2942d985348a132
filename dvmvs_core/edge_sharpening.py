# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth edges made steps where the image has its edge: a pixel belongs to one of the surfaces around it.

Averages of all kinds leave ramps where depth has a step, and a cloud of such a ramp hangs in the air between object and
background. Where depth changes more than on a slanted surface, the nearest and the farthest depth around a pixel stand
for two surfaces. The pixel goes to the one whose colours it has and whose depth is closer to its own: each surface has
a mean colour and a variance, of the pixels near its depth, and the log odds by colour are added to those by depth.
Where colours say nothing, the ramp stays as it is. On a slanted surface the range of depth doubles with the reach, at
a step it does not: that tells them apart.

That two surfaces and their colours explain what is between them is the idea of natural image matting: Chuang et al.,
"A Bayesian Approach to Digital Matting", CVPR 2001. All constants were chosen on rendered worlds.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

REACHES = (4, 2, 1)
"""Pixels to each side among which the two surfaces are looked for, round after round."""

MIN_RANGE = 0.05
"""Range of log depth up to which nothing changes; from twice of it on, all that there is to change does."""

SLANTED, STEPPED = 2.0, 1.7
"""Range within twice the reach over that within it: of a slanted surface (or more), and of a step (or less)."""

NOISE = 0.055
"""Standard deviation of a surface's colour (0…1) that is added to what it has."""

COLOUR_WEIGHT, MAX_LOG_ODDS, CERTAIN_PLACE = 2.0, 4.0, 0.02
"""Weight of the log odds by colour, and their limit; place between the surfaces from which on none is more certain."""


def sharpen_edges(depth: Tensor, image: Tensor) -> Tensor:
    """Return depth (1, H, W) in metres with steps for ramps; no value is beyond those that were around it.

    Args:
        depth: (1, H, W) float32 metres, above 0.
        image: (H, W, 3) float32, 0…255, on the same device.
    """
    logs = depth.log()
    colours = image.permute(2, 0, 1) / 255
    features = torch.cat((colours, (colours * colours).sum(dim=0, keepdim=True), torch.ones_like(depth)))
    for reach in REACHES:
        logs = _to_surfaces(logs, features, reach)
    return logs.exp()


def compiled_edges(depth: Tensor, image: Tensor) -> Tensor:
    """As `sharpen_edges`, on a CPU with numba: in a third of the time."""
    from dvmvs_core.runtime import edge_kernels as kernels
    from dvmvs_core.runtime.threads import parallel_rows

    logs = np.log(depth[0].contiguous().numpy())
    moved, features = np.empty_like(logs), np.empty((4, *logs.shape), np.float32)
    np.multiply(image.numpy().transpose(2, 0, 1), np.float32(1 / 255), out=features[:3])
    np.square(features[:3]).sum(axis=0, out=features[3])
    ranges = np.empty((4, *logs.shape), np.float32)
    surfaces = (*np.empty((3, *logs.shape), np.float32), np.empty((2, 5, *logs.shape), np.float32))
    of_a_step = [np.float32(x) for x in (MIN_RANGE, SLANTED, STEPPED)]
    of_colours = [np.float32(x) for x in (NOISE * NOISE, COLOUR_WEIGHT, MAX_LOG_ODDS, CERTAIN_PLACE)]
    for reach in REACHES:
        parallel_rows(_extremes, 4, logs, (reach, 2 * reach), ranges)
        parallel_rows(kernels.surface_rows, len(logs), logs, features, *ranges, *of_a_step, *surfaces)
        parallel_rows(_average, 10, surfaces[-1].reshape(10, *logs.shape), reach + 1)
        parallel_rows(kernels.sharpen_rows, len(logs), logs, features, *surfaces, *of_colours, moved)
        logs, moved = moved, logs
    return torch.from_numpy(np.exp(logs))[None]


def _extremes(first: int, last: int, logs: np.ndarray, reaches: tuple[int, int], found: np.ndarray) -> None:
    """Writes maps first…last of found (4, H, W): lowest and highest within the first reach, and within the second."""
    for i in range(first, last):
        side = 2 * reaches[i // 2] + 1
        extreme = cv2.dilate if i % 2 else cv2.erode
        extreme(logs, np.ones((side, side), np.uint8), dst=found[i])


def _average(first: int, last: int, maps: np.ndarray, reach: int) -> None:
    """Replaces maps first…last (C, H, W) by their means as `_means` gives them. OpenCV releases the GIL."""
    side = 2 * reach + 1
    for one in maps[first:last]:
        cv2.blur(one, (side, side), dst=one, borderType=cv2.BORDER_REPLICATE)


def _to_surfaces(logs: Tensor, features: Tensor, reach: int) -> Tensor:
    """Log depth (1, H, W) of which each pixel near a step has moved towards one of the two surfaces.

    Args:
        logs: (1, H, W) log depth.
        features: (5, H, W) colours, their squared norm, and 1.
        reach: pixels to each side.
    """
    nearest, span = _lowest_and_range(logs, reach)
    _, wide_span = _lowest_and_range(logs, 2 * reach)
    strength = (span / MIN_RANGE - 1).clamp(0, 1)
    span = span.clamp(min=1e-6)
    strength = strength * ((SLANTED - wide_span / span) / (SLANTED - STEPPED)).clamp(0, 1)
    place = (logs - nearest) / span  # 0 at the near surface, 1 at the far one

    weights = strength * torch.cat((place, 1 - place)).square() + 1e-4
    means = _means((weights[:, None] * features).flatten(0, 1), reach + 1).unflatten(0, (2, len(features)))
    colours, squares = (means[:, :4] / means[:, 4:]).split((3, 1), dim=1)
    norms = colours.square().sum(dim=1)
    variance = (squares[:, 0] - norms).clamp(min=0).mean(dim=0) + NOISE * NOISE
    # Half the difference of the squared distances to both means.
    closer_to_far = (features[:3] * (colours[0] - colours[1])).sum(dim=0) + 0.5 * (norms[1] - norms[0])
    by_colour = (COLOUR_WEIGHT * closer_to_far / variance).clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS)
    certain = place.clamp(CERTAIN_PLACE, 1 - CERTAIN_PLACE)
    move = torch.sigmoid(torch.logit(certain) + by_colour) - certain
    return logs + strength * span * ((place + move).clamp(0, 1) - place)


def _lowest_and_range(values: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """The lowest value (1, H, W) of the square around each, and how far the highest is above it."""
    lowest = -_largest(-values, reach)
    return lowest, _largest(values, reach) - lowest


def _largest(values: Tensor, reach: int) -> Tensor:
    """The largest value (1, H, W) of the square around each."""
    side = 2 * reach + 1
    if not values.is_cuda:  # ten times as fast there as torch's
        return torch.from_numpy(cv2.dilate(values[0].numpy(), np.ones((side, side), np.uint8)))[None]
    rows = functional.max_pool2d(values, (1, side), stride=1, padding=(0, reach))
    return functional.max_pool2d(rows, (side, 1), stride=1, padding=(reach, 0))


def _means(maps: Tensor, reach: int) -> Tensor:
    """The means (C, H, W) of the square around each; beyond the border the nearest values count."""
    side = 2 * reach + 1
    if not maps.is_cuda:
        blurred = [cv2.blur(x.numpy(), (side, side), borderType=cv2.BORDER_REPLICATE) for x in maps]
        return torch.from_numpy(np.stack(blurred))
    padded = functional.pad(maps[None], (reach,) * 4, "replicate")
    rows = functional.avg_pool2d(padded, (1, side), stride=1)
    return functional.avg_pool2d(rows, (side, 1), stride=1)[0]
