# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the engine works out for one frame, and what it keeps of keyframes for those to come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.matching.self_calibration import SelfCalibration, known_from
from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.preprocess import rounded
from dvmvs_core.runtime.runner import PreviousKeyframe
from dvmvs_core.temporal_fusion import PAST_DEPTHS, FusedDepth
from dvmvs_core.types import DepthPrediction, Frame


@dataclass(eq=False)
class StoredView:
    """A frame as the engine keeps it. A stage that remembers more of a keyframe adds a field here.

    The first frame after a reset gets no depth and may never become a measurement frame, so its features wait until
    they are needed. Every other keyframe gets them as a reference frame.

    Attributes:
        index: `Frame.index`.
        stamp_ns: time of exposure.
        world_T_cam: (1, 4, 4) float32 pose, on the CPU.
        image: (H, W, 3) uint8 RGB of the camera; None once the features are kept.
        matching: (1, C, h/2, w/2) its map of `ImageFeatures.matching`, on the runner's device; None until needed.
        depth: (1, 1, h, w) float32 metres, as the network predicted it, on the runner's device; None before that.
        matching_view: its descriptors and what was matched for it; None where matching is off.
    """

    index: int
    stamp_ns: int
    world_T_cam: Tensor
    image: np.ndarray | None
    matching: Tensor | None = None
    depth: Tensor | None = None
    matching_view: MatchingView | None = None

    @classmethod
    def of(cls, frame: Frame) -> StoredView:
        """Return a frame of which nothing has been worked out."""
        world_T_cam = torch.from_numpy(frame.world_T_cam.astype(np.float32))[None]
        return cls(frame.index, frame.stamp_ns, world_T_cam, frame.image)


class PastKeyframes:
    """All that keyframes leave for those to come.

    Args:
        size: how many are kept; the oldest leaves first.

    Attributes:
        views: the keyframes so far, oldest first; with index files also frames that were measured against.
        previous: what the network needs of the last one that got a depth; None if none has.
        fused: depth of the last ones where it was matched, as `temporal_fusion` needs it, oldest first.
    """

    def __init__(self, size: int) -> None:
        self.views: deque[StoredView] = deque(maxlen=size)
        self.previous: PreviousKeyframe | None = None
        self.fused: deque[FusedDepth] = deque(maxlen=PAST_DEPTHS)

    def clear(self) -> None:
        """Forget all, as after lost tracking."""
        self.views.clear()
        self.previous = None
        self.fused.clear()

    def add(self, view: StoredView) -> None:
        """Keep a view, unless it is kept already."""
        if view not in self.views:
            self.views.append(view)

    def remember(
        self, reference: StoredView, depth: Tensor, state: LSTMState | None, fused: FusedDepth | None = None
    ) -> None:
        """Keep a keyframe with the network's depth (1, h, w) in metres, and what else it left."""
        reference.depth = depth[:, None]
        self.add(reference)
        self.previous = PreviousKeyframe(reference.depth, reference.world_T_cam, state)
        if fused is not None:
            self.fused.append(fused)

    def view_of(self, frame: Frame) -> StoredView:
        """Return the view of a frame's time, or a new one, which is kept."""
        for view in self.views:
            if view.stamp_ns == frame.stamp_ns:
                return view
        self.add(StoredView.of(frame))
        return self.views[-1]

    def described(self, reference: StoredView) -> list[MatchingView]:
        """Return what matching knows of the views, oldest first, without that of the reference frame."""
        return [view.matching_view for view in self._other_than(reference) if view.matching_view]

    @property
    def calibration(self) -> SelfCalibration:
        """What the views that were matched have told of their camera."""
        return known_from([view.matching_view for view in self.views if view.matching_view])

    def predictions(self, reference: StoredView) -> list[tuple[Tensor, Tensor]]:
        """Return the network's depth and the pose of the views, oldest first, without that of the reference frame."""
        return [(view.depth, view.world_T_cam) for view in self._other_than(reference) if view.depth is not None]

    def _other_than(self, reference: StoredView) -> list[StoredView]:
        return [view for view in self.views if view is not reference]


class FrameEstimate(NamedTuple):
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

    def prediction(
        self, frame: Frame, K: np.ndarray, measurements: list[StoredView], started: float
    ) -> DepthPrediction:
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
