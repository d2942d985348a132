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

Symbols: (H, W) network resolution, (n, m) = (H/16, W/16) cells, V measurement frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.matching.gpu.packed import NUMBERS
from dvmvs_core.matching.gpu.torch_prior import parallax
from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.matching.relative_view import Grid, relative_views
from dvmvs_core.matching.self_calibration import SelfCalibration
from dvmvs_core.model.monocular import CELL, MonocularDepth, cell_rays, focal_length
from dvmvs_core.runtime.devices import to_device

BLIND_DEVIATION = 0.8
"""Deviation of the network's log depth without any parallax: in the root mean square over 12 places, 51 photographs in
all, that nothing was scored on. On rendered worlds, which the network was trained on, it is 0.45."""

MEASURED_DEVIATION = 0.1
"""The same with much parallax."""

LEAST_DEVIATION = 0.5
"""Deviation of monocular log depth at least, whatever the head expects: it has seen few places. The scale of fourteen
that were left out of its training, when it had even fewer, was off by 0.55 in the root mean square."""

REACH_PX, POSE_ERRORS = 0.5, 0.5
"""Parallax of a 25 % step at which the network's blindness has fallen to 1/e: pixels, where poses are exact, and
deviations of a pose, where they are rough. With 2 px and two deviations, as `matching.blindness` counts, worlds lost
what the network had measured. They would do without the second, recordings of cameras that turn would not."""

CELLS = Grid(CELL, CELL // 2)

MonocularAnswer = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], MonocularDepth]
"""From what `MonocularHead` takes to its answer."""


class MonocularPrior:
    """Informs network depth.

    Args:
        answer: runs the head, on the device of the depth.
    """

    def __init__(self, answer: MonocularAnswer) -> None:
        self._answer = answer

    def informed(
        self,
        network_depth: Tensor,
        reference: MatchingView,
        measurements: Sequence[MatchingView],
        calibration: SelfCalibration,
    ) -> Tensor:
        """Return depth (1, H, W) in metres.

        Args:
            network_depth: (1, H, W) metres of the network.
            reference: the keyframe, whose descriptors still have their levels.
            measurements: the measurement frames that the network saw, at least one.
            calibration: what is known of the camera.
        """
        reference, *measurements = (calibration.applied(view) for view in (reference, *measurements))
        K, matrices = _sent(reference, measurements, network_depth.device)
        # Where a GPU can no longer describe images, the CPU did.
        levels = (level.to(network_depth.device) for level in reference.descriptors.levels[1:])
        answer = self._answer(*levels, cell_rays(K, *network_depth.shape[1:]), focal_length(K))
        guess = functional.avg_pool2d(network_depth.log()[None], CELL)[0, 0]
        reach_px = max(POSE_ERRORS * calibration.pose_error_px(reference, measurements), REACH_PX)
        blind = (-parallax(guess.exp(), matrices, CELL, float(CELLS.margin)) / reach_px).exp()
        variance = MEASURED_DEVIATION**2 + blind * (BLIND_DEVIATION**2 - MEASURED_DEVIATION**2)
        # The head's is a Laplace distribution.
        monocular = (2 * (2 * answer.log_deviation[0]).exp()).clamp(min=LEAST_DEVIATION**2)
        change = (variance / (variance + monocular) * (answer.log_depth[0] - guess)).nan_to_num(0)
        return network_depth * functional.interpolate(change[None, None], scale_factor=CELL, mode="bilinear")[0].exp()


def _sent(reference: MatchingView, views: Sequence[MatchingView], device: torch.device) -> tuple[Tensor, Tensor]:
    """K (1, 3, 3), and homographies and translations (V, NUMBERS) to the cells of other views, on a device."""
    own = [reference.world_T_cam] * len(views), [reference.K] * len(views)
    homographies, translations = relative_views(*own, [v.world_T_cam for v in views], [v.K for v in views], CELLS)
    matrices = np.concatenate((homographies.reshape(-1, NUMBERS - 3), translations), axis=1)
    K = reference.K.astype(np.float32).ravel()
    K, matrices = to_device(torch.from_numpy(np.concatenate((K, matrices.ravel()))), device).split((9, matrices.size))
    return K.view(1, 3, 3), matrices.view(-1, NUMBERS)
