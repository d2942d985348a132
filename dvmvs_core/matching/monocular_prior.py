# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Network depth brought to where the image itself says that things are, as far as parallax cannot tell.

Without parallax the plane sweep that the network sees is flat, and its depth a guess: of photographs it then is twice
too far on average. What one image shows is less far off (`model.monocular`). Both are combined by their variances, on a
coarse grid, so that edges stay the network's.

Symbols: (H, W) network resolution, (n, m) = (H/16, W/16) cells, V past keyframes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.matching.blindness import POSE_ERRORS
from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.matching.relative_view import Grid, relative_views
from dvmvs_core.matching.self_calibration import known_from
from dvmvs_core.model.monocular import CELL, MonocularDepth, cell_rays, focal_length
from dvmvs_core.runtime.devices import to_device

BLIND_DEVIATION = 0.8
"""Deviation of the network's log depth without any parallax: in the root mean square over 12 places, 51 photographs in
all, that nothing was scored on. On rendered worlds, which the network was trained on, it is 0.45."""

MEASURED_DEVIATION = 0.1
"""The same with much parallax."""

LEAST_DEVIATION = 0.5
"""Deviation of monocular log depth at least, whatever the head expects: it has seen few places. In fourteen that were
left out of its training its scale was off by 0.55 in the root mean square."""

CELLS = Grid(CELL, CELL // 2)

_STEP = 0.8  # inverse depth after the step whose parallax counts, over that before it, see `matching.prior`
_TINY = 1e-6

MonocularAnswer = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], MonocularDepth]
"""From what `MonocularHead` takes to its answer."""


class MonocularPrior:
    """Informs network depth.

    Args:
        answer: runs the head, on the device of the depth.
        parallax_px: pixels of parallax at which blindness has fallen to 1/e, where poses are exact.
    """

    def __init__(self, answer: MonocularAnswer, parallax_px: float) -> None:
        self._answer = answer
        self._parallax_px = parallax_px

    def informed(self, network_depth: Tensor, reference: MatchingView, past: Sequence[MatchingView]) -> Tensor:
        """Return depth (1, H, W) in metres.

        Args:
            network_depth: (1, H, W) metres of the network.
            reference: the keyframe, whose descriptors still have their levels.
            past: earlier keyframes, at least one, the newest last.
        """
        calibration = known_from(past)
        reference, *past = (calibration.applied(view) for view in (reference, *past))
        K, matrices = _sent(reference, past, network_depth.device)
        # Where a GPU can no longer describe images, the CPU did.
        levels = (level.to(network_depth.device) for level in reference.descriptors.levels[1:])
        answer = self._answer(*levels, cell_rays(K, *network_depth.shape[1:]), focal_length(K))
        guess = functional.avg_pool2d(network_depth.log()[None], CELL)[0, 0]
        # As in `matching.blindness`, but that nothing has been matched yet.
        reach_px = max(POSE_ERRORS * calibration.pose_error_px(reference, past), self._parallax_px)
        blind = (-_parallax(guess, matrices) / reach_px).exp()
        variance = MEASURED_DEVIATION**2 + blind * (BLIND_DEVIATION**2 - MEASURED_DEVIATION**2)
        # The head's is a Laplace distribution.
        monocular = (2 * (2 * answer.log_deviation[0]).exp()).clamp(min=LEAST_DEVIATION**2)
        change = variance / (variance + monocular) * (answer.log_depth[0] - guess)
        return network_depth * functional.interpolate(change[None, None], scale_factor=CELL, mode="bilinear")[0].exp()


def _sent(reference: MatchingView, past: Sequence[MatchingView], device: torch.device) -> tuple[Tensor, Tensor]:
    """K (1, 3, 3), and homographies next to translations (V, 3, 4) to the past keyframes' cells, on a device."""
    own = [reference.world_T_cam] * len(past), [reference.K] * len(past)
    homographies, translations = relative_views(*own, [v.world_T_cam for v in past], [v.K for v in past], CELLS)
    matrices = np.concatenate((homographies, translations[..., None]), axis=2)
    K = np.zeros((1, 3, 4), np.float32)
    K[0, :, :3] = reference.K
    packed = to_device(torch.from_numpy(np.concatenate((K, matrices))), device)
    return packed[:1, :, :3], packed[1:]


def _parallax(log_depth: Tensor, matrices: Tensor) -> Tensor:
    """Pixels (n, m) by which a depth step of 25 % moves a cell in the keyframe where it moves most; 0 out of view.

    Args:
        log_depth: (n, m) of the cells.
        matrices: (V, 3, 4) of `_sent`.
    """
    height, width = log_depth.shape
    rows, columns = (torch.arange(side, device=log_depth.device, dtype=log_depth.dtype) for side in (height, width))
    cells = torch.stack(torch.broadcast_tensors(columns, rows[:, None], log_depth.new_ones(()))).flatten(1)
    turned, inverse = matrices[..., :3] @ cells, (-log_depth).exp().flatten()  # (V, 3, N), (N,)
    here, there = (turned + matrices[..., 3:] * step * inverse for step in (1.0, _STEP))
    in_front = (here[:, 2] > _TINY) & (there[:, 2] > _TINY)
    at, moved = (point[:, :2] / point[:, 2:].clamp(min=_TINY) for point in (here, there))
    x, y = at.unbind(dim=1)
    in_view = in_front & (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    return (CELL * (moved - at).norm(dim=1) * in_view).amax(dim=0).view(height, width)
