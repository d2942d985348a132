# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which kernels a device gets: Triton's where they run and agree with the plain ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dvmvs_core.errors import DeviceError, first_line
from dvmvs_core.matching.gpu.plain_kernels import plain_median, plain_paths, plain_sweep

logger = logging.getLogger(__name__)

_TOLERANCE, _MAX_WRONG = 1e-3, 0.01


class Kernels(NamedTuple):
    """What the functions of `plain` do, in one way or another."""

    sweep: Callable[..., tuple[Tensor, Tensor]]
    paths: Callable[..., Tensor]
    median_bins: Callable[..., Tensor]


PLAIN = Kernels(plain_sweep, plain_paths, plain_median)


def choose_kernels(device: torch.device) -> Kernels:
    """Return the fastest kernels that can be trusted on a device."""
    if device.type != "cuda":
        return PLAIN
    try:
        from dvmvs_core.matching.gpu.triton_kernels import triton_median, triton_paths, triton_sweep

        fused = Kernels(triton_sweep, triton_paths, triton_median)
        with torch.cuda.device(device):
            check_kernels(fused, device)
        return fused
    except Exception as error:  # missing, no C compiler to load kernels with, an unknown chip, …
        logger.warning(
            "matching's fused kernels cannot run (%s: %s): it takes several times as long",
            type(error).__name__,
            first_line(error),
        )
        return PLAIN


def check_kernels(kernels: Kernels, device: torch.device) -> None:
    """Compare kernels with the plain ones on a small example.

    Raises:
        DeviceError: if they differ.
    """
    for arguments in example_sweeps(device):
        # A sample on a border to the last digit may fall on either side of it.
        for found, expected in zip(kernels.sweep(*arguments), plain_sweep(*arguments), strict=True):
            _compare("sweep", found, expected)
    for arguments in example_paths(device):
        _compare("semi-global matching", kernels.paths(*arguments), plain_paths(*arguments))
    medians = example_medians(device)
    _compare("the median", kernels.median_bins(*medians), plain_median(*medians))


def example_sweeps(device: torch.device) -> list[tuple]:
    """Return arguments of a sweep at the same planes for all cells, and of one at planes of each cell."""
    noise = torch.Generator().manual_seed(0)
    height, width, planes, views = 12, 20, 5, 3
    matrices = torch.randn(views, 12, generator=noise) * 0.01
    matrices[:, :9] += torch.eye(3).flatten()
    matrices[:, 9:11] += torch.tensor(((8.0, 1.0), (-6.0, 3.0), (0.0, 0.0)))
    matrices[2, 11] = -2.0  # the last camera has the nearer planes behind it
    shared = torch.linspace(0.1, 2, planes).expand(height, width, planes)
    own = torch.rand(height, width, planes, generator=noise) + 0.1
    examples = []
    for channels, depths, margin in ((16, shared, 0.5), (64, own, 0.75)):
        descriptors = torch.randint(-90, 91, (views + 1, height, width, channels), generator=noise).to(torch.int8)
        descriptors = descriptors.to(device)
        moved = depths.to(device) if depths is own else shared[0, 0].to(device).expand(height, width, planes)
        examples.append((descriptors[0], descriptors[1:], matrices.to(device), moved, margin))
    return examples


def example_paths(device: torch.device) -> list[tuple]:
    """Return arguments of semi-global matching, for few planes and for more than a warp has lanes."""
    noise = torch.Generator().manual_seed(0)
    height, width = 7, 11
    return [
        (
            torch.randn(height, width, planes, generator=noise).to(device),
            torch.rand(2, height, width, generator=noise).to(device) * 3,
            0.3,
        )
        for planes in (8, 48)
    ]


def example_medians(device: torch.device) -> tuple[Tensor, ...]:
    """Return arguments of a median, with halves that are equal to the last digit."""
    noise = torch.Generator().manual_seed(0)
    bins = torch.randint(0, 6, (9, 13, 7), generator=noise, dtype=torch.int32)
    weights = torch.tensor((2.0, 0.3, 1.0, 0.0))[torch.randint(0, 4, bins.shape, generator=noise)]
    in_order, order = bins.sort(dim=-1, stable=True)
    return tuple(part.to(device) for part in (in_order, weights.gather(-1, order), weights))


def _compare(what: str, found: Tensor, expected: Tensor) -> None:
    wrong = ~((found - expected).abs() <= _TOLERANCE)
    if not float(wrong.float().mean()) < _MAX_WRONG:
        raise DeviceError(f"{what} differs from the plain one")
