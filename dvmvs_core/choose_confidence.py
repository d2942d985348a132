# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which confidence suits a device: compiled loops on a CPU, a CUDA graph on a GPU, plain operators elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dvmvs_core.confidence import (
    MOST_MEASUREMENTS,
    MOST_PREDICTIONS,
    compiled_confidence,
    confidence_geometry,
    confidence_step,
    estimate_confidence,
)
from dvmvs_core.runtime.checked_step import CheckedStep
from dvmvs_core.runtime.cuda_graph import CudaGraphs

CHECK_TOLERANCE = 1e-2
"""Mean difference from the plain confidence up to which a captured one is trusted."""

SEES_NOTHING = torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, -1]])
"""K [R | t] (3, 4) of a camera that has every point behind it."""


def choose_confidence(device: torch.device) -> Callable[..., Tensor]:
    """Return the fastest function with the arguments and the result of `estimate_confidence` for a device."""
    if device.type == "cuda":
        return CapturedConfidence(CudaGraphs(confidence_step, device), device)
    try:
        import dvmvs_core.runtime.confidence_kernels  # noqa: F401
    except ImportError:  # numba is missing
        return estimate_confidence
    return compiled_confidence


class CapturedConfidence:
    """`estimate_confidence` as a CUDA graph for each number of measurement frames.

    Args:
        step: runs `confidence_step`.
        device: where.
    """

    def __init__(self, step: Callable[..., tuple[Tensor, ...]], device: torch.device) -> None:
        self._step = step
        self._device = device
        self._either_way = CheckedStep("confidence", CHECK_TOLERANCE)

    def __call__(
        self,
        depth: Tensor,
        K: Tensor,
        world_T_ref: Tensor,
        matching: Tensor,
        measurements: Sequence[tuple[Tensor, Tensor]],
        predictions: Sequence[tuple[Tensor, Tensor]],
    ) -> Tensor:
        """As `estimate_confidence`; of the predictions, the last MOST_PREDICTIONS count."""
        measurements, predictions = measurements[:MOST_MEASUREMENTS], predictions[-MOST_PREDICTIONS:]
        arguments = (depth, K, world_T_ref, matching, measurements, predictions)

        def captured() -> tuple[Tensor]:
            packed = packed_geometry(K, world_T_ref, [T for _, T in measurements], [T for _, T in predictions])
            if self._device.type == "cuda":
                packed = packed.pin_memory()
            past = [earlier for earlier, _ in predictions] + [depth[:, None]] * (MOST_PREDICTIONS - len(predictions))
            return (self._step(packed, depth, matching, *(looks for looks, _ in measurements), *past)[0].clone(),)

        return self._either_way(len(measurements), captured, lambda: (estimate_confidence(*arguments),))[0]


def packed_geometry(
    K: Tensor, world_T_ref: Tensor, world_T_meas: Sequence[Tensor], world_T_past: Sequence[Tensor]
) -> Tensor:
    """`ConfidenceGeometry.packed` for always MOST_PREDICTIONS; those missing are cameras with every point behind."""
    packed = confidence_geometry(K, world_T_ref, world_T_meas, world_T_past).packed()
    missing = MOST_PREDICTIONS - len(world_T_past)
    return torch.cat([packed, SEES_NOTHING.expand(missing, len(K), 3, 4)])
