# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What an image goes through in the node, when, and how that ended. No ROS in here."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum

from dvmvs_core.keyframes import KeyframeDecision


class DropReason(Enum):
    """One reason for each way to lose an image. The values are keys of `/diagnostics` and of `~/frame_status`."""

    BAD_IMAGE = "bad_image"
    """Unknown encoding, fewer bytes than it claims, damaged, too large, or no stamp."""
    BAD_CAMERA_INFO = "bad_camera_info"
    """The camera_info is of another size than the image, or of a lens that cannot be rectified."""
    NO_CAMERA_INFO = "no_camera_info"
    """No camera_info came within the waiting time."""
    NO_TRANSFORM = "no_transform"
    """No transform came within the waiting time, or all that are known are newer than the image."""
    BAD_FRAME = "bad_frame"
    """Image, intrinsics and pose are there, but cannot be a frame."""
    QUEUE_FULL = "queue_full"
    """Too many images were waiting for their transform, and this one was the oldest."""
    OUT_OF_ORDER = "out_of_order"
    """Not newer than the image before it."""
    TIME_JUMP = "time_jump"
    """Time went backwards while it was waiting."""
    WORKER_BUSY = "worker_busy"
    """A newer frame took its place before the engine was free."""
    ENGINE_ERROR = "engine_error"
    """The engine failed on this frame."""
    INTERNAL_ERROR = "internal_error"
    """Something unforeseen happened on the way to the engine; the log has it."""
    RESET = "reset"
    """The node was reset while it was waiting."""
    STOPPED = "stopped"
    """The node was deactivated while it was waiting."""


BEFORE_POSE = (DropReason.BAD_IMAGE, DropReason.BAD_CAMERA_INFO, DropReason.NO_CAMERA_INFO, DropReason.BAD_FRAME)
"""Losses that say nothing of whether poses come."""

NO_FAULT = (DropReason.WORKER_BUSY, DropReason.STOPPED, DropReason.TIME_JUMP, DropReason.RESET)
"""Losses that nobody needs to be warned of: a slow engine takes the newest image, and whoever stops wants it so."""


class FrameStage(Enum):
    """What an image goes through, in order. The values are keys of `/diagnostics`."""

    DECODE = "decode"
    """Message to pixels."""
    POSE = "wait for pose"
    """From there to the frame: the wait for its transform, then rectification."""
    QUEUE = "wait for engine"
    """From the frame to the start of the engine."""
    ENGINE = "engine"
    """Image to depth."""
    PUBLISH = "publish"
    """Depth to messages."""
    TOTAL = "latency"
    """From the image's arrival to the end of publication."""


@dataclass(eq=False)
class FrameTimeline:
    """Everything about an image but its pixels: it goes with the image from the message to the answer or the drop.

    Attributes:
        stamp_ns: the image's time.
        camera_frame_id: the optical frame of its camera.
        index: running number of the images received.
        received_ns: when it arrived, by the clock that `FrameSync` is given.
        outcome: the engine's decision, or why there is none; None while it is on its way.
        received_s: when it arrived, by `time.perf_counter`.
        ends_s: when each stage so far was over, by `time.perf_counter`, in order.
    """

    stamp_ns: int
    camera_frame_id: str
    index: int
    received_ns: int
    outcome: KeyframeDecision | DropReason | None = None
    received_s: float = field(default_factory=time.perf_counter)
    ends_s: dict[FrameStage, float] = field(default_factory=dict)

    def end(self, stage: FrameStage) -> None:
        """Note that a stage is over."""
        self.ends_s[stage] = time.perf_counter()

    @property
    def age_ms(self) -> float:
        """Time since it arrived."""
        return (time.perf_counter() - self.received_s) * 1e3

    def stages_ms(self) -> dict[FrameStage, float]:
        """Return how long each stage took; all of them together, once its depth is published."""
        begins_s = (self.received_s, *self.ends_s.values())
        stages = {
            stage: (end - begin) * 1e3 for begin, (stage, end) in zip(begins_s, self.ends_s.items(), strict=False)
        }
        if FrameStage.PUBLISH in stages:
            stages[FrameStage.TOTAL] = (self.ends_s[FrameStage.PUBLISH] - self.received_s) * 1e3
        return stages
