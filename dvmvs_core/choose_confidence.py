# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which confidence suits a device: compiled loops on a CPU, a CUDA graph on a GPU, plain operators elsewhere."""

from __future__ import annotations

import logging
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
from dvmvs_core.errors import DeviceError, WeightsError, first_line
from dvmvs_core.runtime.cuda_graph import CudaGraphs

logger = logging.getLogger(__name__)

CHECK_TOLERANCE = 1e-2
"""Mean difference from the plain confidence up to which a captured one is trusted."""

_SEES_NOTHING = torch.tensor([[[[0.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, -1]]]])
"""K [R | t] of a camera that has every point behind it."""


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
        self._checked: set[int] = set()
        self._trusted = True

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
        if not self._trusted:
            return estimate_confidence(*arguments)
        try:
            packed = packed_geometry(K, world_T_ref, [T for _, T in measurements], [T for _, T in predictions])
            if self._device.type == "cuda":
                packed = packed.pin_memory()
            past = [earlier for earlier, _ in predictions] + [depth[:, None]] * (MOST_PREDICTIONS - len(predictions))
            confidence = self._step(packed, depth, matching, *(looks for looks, _ in measurements), *past)[0].clone()
            if len(measurements) not in self._checked:
                _check_confidence(confidence, estimate_confidence(*arguments))
                self._checked.add(len(measurements))
            return confidence
        except WeightsError:
            raise
        except Exception as error:  # capture and drivers fail in many ways, and a robot goes on
            logger.warning("confidence runs as separate steps, since its CUDA graph failed: %s", first_line(error))
            self._trusted = False
            return estimate_confidence(*arguments)


def packed_geometry(
    K: Tensor, world_T_ref: Tensor, world_T_meas: Sequence[Tensor], world_T_past: Sequence[Tensor]
) -> Tensor:
    """`ConfidenceGeometry.packed` for always MOST_PREDICTIONS; those missing are cameras with every point behind."""
    packed = confidence_geometry(K, world_T_ref, world_T_meas, world_T_past).packed()
    missing = MOST_PREDICTIONS - len(world_T_past)
    return torch.cat([packed, _SEES_NOTHING.expand(missing, len(K), 3, 4)])


def _check_confidence(found: Tensor, expected: Tensor) -> None:
    difference = float((found - expected).abs().mean())
    if not difference <= CHECK_TOLERANCE:
        raise DeviceError(f"it differs from the plain one by {difference:.3g} in the mean")
