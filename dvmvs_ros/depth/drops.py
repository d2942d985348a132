# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Why an image that came in gave no answer from the engine."""

from __future__ import annotations

from enum import Enum


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
