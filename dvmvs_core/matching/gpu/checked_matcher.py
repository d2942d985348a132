# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Matching on a GPU as long as it can be trusted, and on the CPU otherwise.

A robot never starts blind, and never dies of its GPU: before the first frame, depth that was matched on the GPU is
compared with the CPU's, and what fails later is done again by the CPU.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import islice
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.config import MatchingConfig, ModelConfig
from dvmvs_core.errors import DeviceError, first_line
from dvmvs_core.matching.descriptors import Descriptors
from dvmvs_core.matching.gpu.torch_matcher import TorchMatcher
from dvmvs_core.matching.keyframe import MatchedDepth, MatchingView, on_host
from dvmvs_core.matching.matcher import Matcher
from dvmvs_core.runtime.wall_frames import WALL_M, wall_frames
from dvmvs_core.types import Frame

logger = logging.getLogger(__name__)

WITHIN, MAX_BEYOND = 0.02, 0.05
"""Relative difference from the CPU's depth, and the share of pixels that may be beyond it. The CPU may compute in half
precision, and a pixel may take another of two planes that are equally good."""

_KEYFRAMES = 4


class CheckedMatcher:
    """A matcher for a network on CUDA.

    Args:
        on_cpu: matches where the GPU does not.
        model: of the network.
        device: of the network.
        mode: as in `EngineConfig`: "fast" raises where "auto" goes on with the CPU.

    Raises:
        DeviceError: in mode fast, if the GPU cannot be used.
    """

    def __init__(self, on_cpu: Matcher, model: ModelConfig, device: torch.device, mode: str = "auto") -> None:
        self.config = on_cpu.config
        self._on_cpu = on_cpu
        self._device = device
        self._on_gpu: TorchMatcher | None = None
        self._downloaded: WeakKeyDictionary[MatchingView, MatchingView] = WeakKeyDictionary()
        try:
            self._on_gpu = checked_matcher(self.config, model.height, model.width, device, on_cpu)
        except Exception as error:  # capture, drivers and compilers fail in many ways
            # Its traceback would keep what was captured so far in memory.
            failure = error.with_traceback(None)
            if mode == "fast":
                raise DeviceError(f"{self._reason(failure)}; mode fast does not go on without it") from failure
            self._fall_back(failure)

    @property
    def description(self) -> str:
        """What matches now, for a person."""
        return f"{self.config.preset} on {'the CPU' if self._on_gpu is None else self._device}"

    def describe(self, image: Tensor) -> Descriptors:
        """Return the descriptors of an image (H, W, 3) of 0…255 on the device."""
        if self._on_gpu is not None:
            try:
                return self._on_gpu.describe(image)
            except Exception as error:
                self._fall_back(error)
        return self._on_cpu.describe(image)

    def describe_beside(self, image: Tensor) -> Callable[[], Descriptors]:
        """Return what describes an image; where that is the CPU, it has begun in a thread beside."""
        return self._on_cpu.describe_beside(image) if self._on_gpu is None else partial(self.describe, image)

    def match(self, reference: MatchingView, past: Sequence[MatchingView], network_depth: Tensor) -> MatchedDepth:
        """Return the depth of a keyframe, see `Matcher.match`."""
        if self._on_gpu is not None:
            try:
                return self._on_gpu.match(reference, past, network_depth)
            except Exception as error:
                self._fall_back(error)
        on_cpu = [self._view_on_host(view) for view in (*past, reference)]
        return self._on_cpu.match(on_cpu[-1], on_cpu[:-1], network_depth)

    def _view_on_host(self, view: MatchingView) -> MatchingView:
        """A view as the CPU matches it; what was described or matched on the device is downloaded once."""
        if isinstance(view.descriptors.patches, np.ndarray) and not isinstance(
            getattr(view.matched, "depth", None), Tensor
        ):
            return view
        if view not in self._downloaded:
            self._downloaded[view] = view_on_host(view)
        return self._downloaded[view]

    def _fall_back(self, error: Exception) -> None:
        """Go on with the CPU, and say so once."""
        logger.warning("%s; matching goes on on the CPU", self._reason(error))
        self._on_gpu = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _reason(self, error: Exception) -> str:
        return f"{self._device} cannot match ({type(error).__name__}: {first_line(error)})"


def view_on_host(view: MatchingView) -> MatchingView:
    """Return a view of any device as the CPU's matcher takes it."""
    d = view.descriptors
    arrays = {field.name: on_host(getattr(d, field.name)) for field in fields(d) if field.name != "levels"}
    levels = None if d.levels is None else tuple(level.cpu() for level in d.levels)
    return replace(
        view, descriptors=Descriptors(**arrays, levels=levels), matched=view.matched and view.matched.on_host()
    )


_trusted: dict[tuple, TorchMatcher] = {}


def checked_matcher(
    config: MatchingConfig, height: int, width: int, device: torch.device, on_cpu: Matcher
) -> TorchMatcher:
    """Return a matcher on a device that agrees with the CPU's; one for all engines of a process.

    Raises:
        DeviceError: if it does not agree.
    """
    key = (config, height, width, device)
    if key not in _trusted:
        matcher = TorchMatcher(config, height, width, device)
        _check(matcher, on_cpu, height, width, device)
        _trusted[key] = matcher
    return _trusted[key]


def _check(on_gpu: TorchMatcher, on_cpu: Matcher, height: int, width: int, device: torch.device) -> None:
    frames = list(islice(wall_frames((height, width)), _KEYFRAMES))
    found, expected = _walk(on_gpu, frames, device), _walk(on_cpu, frames, torch.device("cpu"))
    for one, other in zip(found, expected, strict=True):
        # NaN is beyond, too.
        beyond = float((~(np.abs(one / other - 1) <= WITHIN)).mean())
        if not beyond <= MAX_BEYOND:
            raise DeviceError(f"depth of {beyond:.0%} of the pixels differs from the CPU's by over {WITHIN:.0%}")


@torch.inference_mode()
def _walk(matcher: TorchMatcher | Matcher, frames: Sequence[Frame], device: torch.device) -> list[np.ndarray]:
    """Depth (H, W) of each of the frames, of a wall that is nearer than a network says."""
    past: list[MatchingView] = []
    depths = []
    for frame in frames:
        image = torch.from_numpy(frame.image).to(device).float()
        view = MatchingView(matcher.describe(image), frame.K, frame.world_T_cam)
        matched = matcher.match(view, past, torch.full(image.shape[:2], 1.2 * WALL_M, device=device))
        past.append(view.with_depth(matched.settled(torch.as_tensor(matched.depth)[::2, ::2])))
        depths.append(on_host(matched.depth))
    return depths
