# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Directions for convolutions of low rank, from what comes into them in rendered worlds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from dvmvs_core.config import EngineConfig
from dvmvs_core.engine import DepthEngine
from dvmvs_core.errors import ConfigError
from dvmvs_core.model.dvmvs import FusionNet, PairNet, ending_at_quarter
from dvmvs_core.model.low_rank import Directions, Moments, directions
from dvmvs_core.runtime.plain_runner import PlainRunner
from dvmvs_core.synthetic.clips import SyntheticClips, clip_frame, with_misaligned_poses
from dvmvs_core.synthetic.defects import with_defects

SEED = 2**31 - 3
"""Worlds of this seed are neither trained on nor validated with."""

KEYFRAMES, TEXTURES, POSE_NOISE = 10, 96, 1.0
"""Of a clip; that the worlds share; see `SyntheticClips`."""

MISALIGNED = 0.6
"""Part of the clips that `with_misaligned_poses` gets, which turns three cameras of five."""


def find_directions(
    network: PairNet | FusionNet, clips: int, error: float, advance: Callable[[int], None] | None = None
) -> dict[str, Directions]:
    """Return directions for a network where matching follows it, by the names of convolutions.

    Args:
        network: in evaluation mode.
        clips: how many worlds to walk through.
        error: largest mean squared error of what a convolution puts out, of its variance.
        advance: called with 1 after each clip.

    Raises:
        ConfigError: if there is no clip, or an error of 0 is asked for.
    """
    if clips < 1 or not error > 0:
        raise ConfigError(f"compression needs at least one clip and an error above 0; got {clips} and {error}")
    whole = copy.copy(network)
    whole.low_rank = {}
    whole = ending_at_quarter(whole)
    size = network.config.height, network.config.width
    engine = DepthEngine(PlainRunner(whole, keeps_features=True), EngineConfig(matching="fast"))
    worlds = SyntheticClips(*size, KEYFRAMES, seed=SEED, textures=TEXTURES, pose_noise=POSE_NOISE)
    with _collected(whole) as sums:
        for number in range(clips):
            random = np.random.default_rng(number)
            clip = with_defects(worlds.batch(1, number), random)
            if random.random() < MISALIGNED:
                clip = with_misaligned_poses(clip, random)
            engine.reset()
            for index in range(KEYFRAMES):
                engine.step(clip_frame(clip, index))
            if advance:
                advance(1)
    found = {
        name: directions(whole.get_submodule(name), one.moments(), error) for name, one in sums.items() if one.count
    }
    return {name: one for name, one in found.items() if one is not None}


class _Sums:
    """Over all pixels that came into a convolution; `count` is their number."""

    def __init__(self, channels: int) -> None:
        self._squares = torch.zeros(channels, channels, dtype=torch.float64)
        self._sum = torch.zeros(channels, dtype=torch.float64)
        self.count = 0

    def add(self, _module: nn.Module, inputs: tuple[Tensor], _output: Tensor) -> None:
        pixels = inputs[0][0].flatten(1).double()
        self._squares += pixels @ pixels.T
        self._sum += pixels.sum(dim=1)
        self.count += pixels.shape[1]

    def moments(self) -> Moments:
        return Moments(self._squares / self.count, self._sum / self.count)


@contextmanager
def _collected(network: nn.Module) -> Iterator[dict[str, _Sums]]:
    """What comes into each convolution of more than one pixel and one group while this lasts."""
    sums, hooks = {}, []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1) and module.groups == 1:
            sums[name] = _Sums(module.in_channels)
            hooks.append(module.register_forward_hook(sums[name].add))
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()
