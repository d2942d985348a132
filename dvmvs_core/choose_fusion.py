# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How a device fuses depth with that of past keyframes and sharpens edges: by a CUDA graph, or by plain operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dvmvs_core.choose_confidence import SEES_NOTHING
from dvmvs_core.edge_sharpening import sharpen_edges
from dvmvs_core.runtime.checked_step import CheckedStep
from dvmvs_core.runtime.cuda_graph import CudaGraphs
from dvmvs_core.runtime.threads import one_thread
from dvmvs_core.temporal_fusion import PAST_DEPTHS, FusedDepth, fuse_depth, fusion_step, to_past

CHECK_TOLERANCE = 1e-3
"""Mean difference from plain depth in metres, and from plain confidence, up to which captured ones are trusted."""


def choose_fusion(device: torch.device) -> Callable[..., tuple[Tensor, Tensor, FusedDepth]]:
    """Return the fastest function with the arguments and the result of `fuse_and_sharpen` for a device."""
    return CapturedFusion(CudaGraphs(captured_step, device), device) if device.type == "cuda" else fuse_and_sharpen


def fuse_and_sharpen(
    depth: Tensor, confidence: Tensor, image: Tensor, K: Tensor, world_T_cam: Tensor, past: Sequence[FusedDepth]
) -> tuple[Tensor, Tensor, FusedDepth]:
    """As `temporal_fusion.fuse_depth`, with sharpened edges in the depth that it returns, but not in what is kept.

    Args:
        depth: (1, H, W) float32 metres.
        confidence: (1, H, W).
        image: (H, W, 3) float32, 0…255, on the same device.
        K: (1, 3, 3), on the CPU.
        world_T_cam: (1, 4, 4), on the CPU.
        past: of past keyframes of the same camera.
    """
    with one_thread():
        depth, confidence, fused = fuse_depth(depth, confidence, K, world_T_cam, past)
        return sharpen_edges(depth, image), confidence, fused


class CapturedFusion:
    """`fuse_and_sharpen` as one CUDA graph, whatever the number of past keyframes.

    Args:
        step: runs `captured_step`.
        device: where.
    """

    def __init__(self, step: Callable[..., tuple[Tensor, ...]], device: torch.device) -> None:
        self._step = step
        self._device = device
        self._either_way = CheckedStep("temporal fusion", CHECK_TOLERANCE)

    def __call__(
        self,
        depth: Tensor,
        confidence: Tensor,
        image: Tensor,
        K: Tensor,
        world_T_cam: Tensor,
        past: Sequence[FusedDepth],
    ) -> tuple[Tensor, Tensor, FusedDepth]:
        """As `fuse_and_sharpen`; of past keyframes, the last PAST_DEPTHS count."""
        past = list(past)[-PAST_DEPTHS:]

        def captured() -> tuple[Tensor, ...]:
            matrices = padded_matrices(K, world_T_cam, past)
            if self._device.type == "cuda":
                matrices = matrices.pin_memory()
            # Of a camera that sees nothing, any depth will do.
            unknown = [depth[:, ::2, ::2]] * (PAST_DEPTHS - len(past))
            maps = *(mean.depth for mean in past), *unknown, *(mean.weight for mean in past), *unknown
            full, mean = (result.clone() for result in self._step(matrices, depth, confidence, image, *maps))
            return full[:1], full[1:], mean[:1], mean[1:]

        def plain() -> tuple[Tensor, ...]:
            *full, mean = fuse_and_sharpen(depth, confidence, image, K, world_T_cam, past)
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
    fused, doubted, *mean = fusion_step(matrices, depth, confidence, maps[:PAST_DEPTHS], maps[PAST_DEPTHS:])
    return torch.cat([sharpen_edges(fused, image), doubted]), torch.cat(mean)
