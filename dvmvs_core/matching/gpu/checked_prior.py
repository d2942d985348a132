# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The monocular prior on a GPU as long as it works there, and on the CPU from its first failure on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dvmvs_core.errors import first_line
from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.matching.monocular_prior import MonocularPrior
from dvmvs_core.matching.self_calibration import SelfCalibration

logger = logging.getLogger(__name__)


class CheckedMonocularPrior:
    """Informs depth of a network on CUDA.

    Args:
        on_gpu: informs it there.
        on_cpu: returns what informs it where the GPU fails; asked for each keyframe from then on.
    """

    def __init__(self, on_gpu: MonocularPrior, on_cpu: Callable[[], MonocularPrior]) -> None:
        self._on_gpu: MonocularPrior | None = on_gpu
        self._on_cpu = on_cpu

    def informed(
        self,
        network_depth: Tensor,
        reference: MatchingView,
        measurements: Sequence[MatchingView],
        calibration: SelfCalibration,
    ) -> Tensor:
        """Return depth on the device of the network's, see `MonocularPrior.informed`."""
        if self._on_gpu is not None:
            try:
                return self._on_gpu.informed(network_depth, reference, measurements, calibration)
            except Exception as error:  # drivers and kernels fail in many ways
                reason = f"{type(error).__name__}: {first_line(error)}"
                logger.warning("%s cannot tell depth from one image (%s); the CPU does", network_depth.device, reason)
                self._on_gpu = None
                if network_depth.is_cuda:
                    torch.cuda.empty_cache()
        depth = self._on_cpu().informed(network_depth.cpu(), reference, measurements, calibration)
        return depth.to(network_depth.device)
