# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Confidence and the last steps of depth as fast as a device allows: by a CUDA graph, compiled loops or operators.

What a graph gives is compared with the plain step before it is trusted; where it fails, the plain one goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from dvmvs_core.confidence import (
    MAX_MEASUREMENTS,
    MAX_PREDICTIONS,
    compiled_confidence,
    confidence_geometry,
    confidence_step,
    estimate_confidence,
)
from dvmvs_core.edge_sharpening import compiled_edges, sharpen_edges
from dvmvs_core.errors import DeviceError, WeightsError, first_line
from dvmvs_core.plane_propagation import compiled_planes, propagate_planes
from dvmvs_core.runtime.cuda_graph import CudaGraphs
from dvmvs_core.runtime.threads import one_thread
from dvmvs_core.temporal_fusion import PAST_DEPTHS, FusedDepth, compiled_fusion, fuse_depth, fusion_step, to_past

logger = logging.getLogger(__name__)

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


def choose_fusion(device: torch.device) -> Callable[..., tuple[Tensor, Tensor, FusedDepth]]:
    """Return the fastest function with the arguments and the result of `propagate_fuse_sharpen` for a device."""
    if device.type == "cuda":
        return CapturedFusion(CudaGraphs(captured_step, device), device)
    try:
        import dvmvs_core.runtime.plane_kernels  # noqa: F401
    except ImportError:  # numba is missing
        return propagate_fuse_sharpen
    return compiled_propagate_fuse_sharpen


def propagate_fuse_sharpen(
    depth: Tensor, confidence: Tensor, image: Tensor, K: Tensor, world_T_cam: Tensor, past: Sequence[FusedDepth]
) -> tuple[Tensor, Tensor, FusedDepth]:
    """As `temporal_fusion.fuse_depth`, after plane propagation; what it returns, but not what is kept, has sharp edges.

    Args:
        depth: (1, H, W) float32 metres.
        confidence: (1, H, W).
        image: (H, W, 3) float32, 0…255, on the same device.
        K: (1, 3, 3), on the CPU.
        world_T_cam: (1, 4, 4), on the CPU.
        past: of past keyframes of the same camera.
    """
    with one_thread():
        depth = propagate_planes(depth, confidence, image)
        depth, confidence, fused = fuse_depth(depth, confidence, K, world_T_cam, past)
        return sharpen_edges(depth, image), confidence, fused


def compiled_propagate_fuse_sharpen(
    depth: Tensor, confidence: Tensor, image: Tensor, K: Tensor, world_T_cam: Tensor, past: Sequence[FusedDepth]
) -> tuple[Tensor, Tensor, FusedDepth]:
    """As `propagate_fuse_sharpen`, on a CPU with numba: in a quarter of the time."""
    depth = compiled_planes(depth, confidence, image)
    depth, confidence, fused = compiled_fusion(depth, confidence, K, world_T_cam, past)
    return compiled_edges(depth, image), confidence, fused


class _CapturedStep:
    """A step as a CUDA graph for as long as it can be trusted, and the plain step otherwise: a robot goes on.

    One line in the log says why it no longer runs the first way.

    Args:
        step: runs the function that is captured.
        device: where.
    """

    name: str
    """Of the step, for a person."""
    tolerance: float
    """Mean difference from the results of the plain step, in their own unit, up to which a captured one is trusted."""

    def __init__(self, step: Callable[..., tuple[Tensor, ...]], device: torch.device) -> None:
        self._step = step
        self._device = device
        self._checked: set[Hashable] = set()
        self._trusted = True

    def _either_way(
        self, kind: Hashable, captured: Callable[[], tuple[Tensor, ...]], plain: Callable[[], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """Return the results of the captured step, compared with the plain one's at the first call of each kind.

        Raises:
            WeightsError: if either step does.
        """
        if self._trusted:
            try:
                results = captured()
                if kind not in self._checked:
                    self._compare(results, plain())
                    self._checked.add(kind)
                return results
            except WeightsError:
                raise
            except Exception as error:  # capture and drivers fail in many ways
                logger.warning(
                    "%s runs as separate steps, since its CUDA graph failed: %s", self.name, first_line(error)
                )
                self._trusted = False
        return plain()

    def _compare(self, found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
        for one, other in zip(found, expected, strict=True):
            difference = float((one - other).abs().mean())
            if not difference <= self.tolerance:
                raise DeviceError(f"it differs from the plain one by {difference:.3g} in the mean")

    def _sent(self, packed: Tensor) -> Tensor:
        return packed.pin_memory() if self._device.type == "cuda" else packed


class CapturedConfidence(_CapturedStep):
    """`estimate_confidence` as a CUDA graph of `confidence_step` for each number of measurement frames."""

    name, tolerance = "confidence", 1e-2

    def __call__(
        self,
        depth: Tensor,
        K: Tensor,
        world_T_ref: Tensor,
        matching: Tensor,
        measurements: Sequence[tuple[Tensor, Tensor]],
        predictions: Sequence[tuple[Tensor, Tensor]],
    ) -> Tensor:
        """As `estimate_confidence`; of the predictions, the last MAX_PREDICTIONS count."""
        measurements, predictions = measurements[:MAX_MEASUREMENTS], predictions[-MAX_PREDICTIONS:]
        arguments = (depth, K, world_T_ref, matching, measurements, predictions)

        def captured() -> tuple[Tensor]:
            packed = packed_geometry(K, world_T_ref, [T for _, T in measurements], [T for _, T in predictions])
            past = [earlier for earlier, _ in predictions] + [depth[:, None]] * (MAX_PREDICTIONS - len(predictions))
            maps = (others for others, _ in measurements)
            return self._step(self._sent(packed), depth, matching, *maps, *past)

        return self._either_way(len(measurements), captured, lambda: (estimate_confidence(*arguments),))[0]


def packed_geometry(
    K: Tensor, world_T_ref: Tensor, world_T_meas: Sequence[Tensor], world_T_past: Sequence[Tensor]
) -> Tensor:
    """`ConfidenceGeometry.packed` for always MAX_PREDICTIONS; those missing are cameras with every point behind."""
    packed = confidence_geometry(K, world_T_ref, world_T_meas, world_T_past).packed()
    missing = MAX_PREDICTIONS - len(world_T_past)
    return torch.cat([packed, SEES_NOTHING.expand(missing, len(K), 3, 4)])


class CapturedFusion(_CapturedStep):
    """`propagate_fuse_sharpen` as one CUDA graph of `captured_step`, whatever the number of past keyframes."""

    name, tolerance = "temporal fusion", 1e-3  # metres, and confidence

    def __call__(
        self,
        depth: Tensor,
        confidence: Tensor,
        image: Tensor,
        K: Tensor,
        world_T_cam: Tensor,
        past: Sequence[FusedDepth],
    ) -> tuple[Tensor, Tensor, FusedDepth]:
        """As `propagate_fuse_sharpen`; of past keyframes, the last PAST_DEPTHS count."""
        past = list(past)[-PAST_DEPTHS:]

        def captured() -> tuple[Tensor, ...]:
            matrices = self._sent(padded_matrices(K, world_T_cam, past))
            # Of a camera that sees nothing, any depth will do.
            unknown = [depth[:, ::2, ::2]] * (PAST_DEPTHS - len(past))
            maps = *(mean.depth for mean in past), *unknown, *(mean.weight for mean in past), *unknown
            full, mean = self._step(matrices, depth, confidence, image, *maps)
            return full[:1], full[1:], mean[:1], mean[1:]

        def plain() -> tuple[Tensor, ...]:
            *full, mean = propagate_fuse_sharpen(depth, confidence, image, K, world_T_cam, past)
            return *full, mean.depth, mean.weight

        depth_, confidence_, *mean = self._either_way(len(past), captured, plain)
        return depth_, confidence_, FusedDepth(*mean, world_T_cam)


def padded_matrices(K: Tensor, world_T_cam: Tensor, past: Sequence[FusedDepth]) -> Tensor:
    """`to_past` for always PAST_DEPTHS; those missing are cameras with every point behind."""
    missing = SEES_NOTHING.expand(PAST_DEPTHS - len(past), 3, 4)
    return torch.cat([to_past(K, world_T_cam, past), missing]) if past else missing.contiguous()


def captured_step(
    matrices: Tensor, depth: Tensor, confidence: Tensor, image: Tensor, *maps: Tensor
) -> tuple[Tensor, Tensor]:
    """Return depth and confidence (2, H, W), and depth and weight of the new mean (2, h, w).

    Args:
        matrices: (PAST_DEPTHS, 3, 4).
        depth: (1, H, W).
        confidence: (1, H, W).
        image: (H, W, 3), 0…255.
        maps: depths (1, h, w) of past keyframes, then their weights.
    """
    depth = propagate_planes(depth, confidence, image)
    fused, doubted, *mean = fusion_step(matrices, depth, confidence, maps[:PAST_DEPTHS], maps[PAST_DEPTHS:])
    return torch.cat([sharpen_edges(fused, image), doubted]), torch.cat(mean)
