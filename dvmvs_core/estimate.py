# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the engine's stages worked out for one frame."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.past_keyframes import View
from dvmvs_core.preprocess import rounded
from dvmvs_core.temporal_fusion import FusedDepth
from dvmvs_core.types import DepthPrediction, Frame


class Estimate(NamedTuple):
    """Depth of a frame and all that came with it, on the runner's device.

    Attributes:
        image: (h, w, 3) the frame's image at the network's resolution, values 0…255.
        depth: (1, h, w) metres.
        network_depth: (1, h, w) metres, before matching; the same where that is off.
        state: the recurrent state; None from PairNet.
        confidence: (1, h, w) in 0…1; None if it was not estimated.
        fused: what later keyframes need of depth that was matched; None where it was not.
    """

    image: Tensor
    depth: Tensor
    network_depth: Tensor
    state: LSTMState | None
    confidence: Tensor | None
    fused: FusedDepth | None

    def prediction(self, frame: Frame, K: np.ndarray, measurements: list[View], started: float) -> DepthPrediction:
        """Return it as arrays on the host.

        Args:
            frame: the reference frame.
            K: (3, 3) intrinsics of the depth.
            measurements: the measurement frames, best first.
            started: time.perf_counter() when the frame came.
        """
        parts = [rounded(self.image), self.depth[0], *([] if self.confidence is None else [self.confidence[0]])]
        image, depth, *confidence = downloaded(parts)
        return DepthPrediction(
            depth=depth,
            K=K.astype(np.float64),
            image=image,
            world_T_cam=frame.world_T_cam,
            stamp_ns=frame.stamp_ns,
            frame_index=frame.index,
            measurement_index=tuple(view.index for view in measurements),
            measurement_stamps_ns=tuple(view.stamp_ns for view in measurements),
            latency_ms=(time.perf_counter() - started) * 1e3,
            confidence=confidence[0] if confidence else None,
        )


def downloaded(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """Return tensors of one device as arrays on the host, which waits once for all of them."""
    on_host = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
    if not tensors[0].is_cuda:
        return [tensor.numpy() for tensor in on_host]
    torch.cuda.current_stream(tensors[0].device).synchronize()
    # They came into pinned memory, of which whoever keeps depth must not keep any.
    return [tensor.numpy().copy() for tensor in on_host]
