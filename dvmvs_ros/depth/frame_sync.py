# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""image + camera_info + transform → Frame, in the order of the images, with a reason for each image that is dropped.

An image waits in a bounded queue until the transform at its own stamp can be computed; an older or the latest transform
is never used in its place. No ROS in here: the node hands in decoded messages and a lookup, and is called back.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dvmvs_core.data.lens.camera_info import CameraModel
from dvmvs_core.errors import FrameError, MessageError, TransformError, TransformExtrapolationError
from dvmvs_core.foreign import reason
from dvmvs_core.types import Frame
from dvmvs_ros.depth.frame_timeline import DropReason, FrameTimeline
from dvmvs_ros.process.node_log import log_unforeseen

JUMP_NS = 100_000_000
"""Stamps that go back by less are late deliveries, by more a bag that starts over."""

Lookup = Callable[[str, str, int], np.ndarray]
"""(target frame, source frame, stamp_ns) → target_T_source (4, 4), raising TransformError."""

View = Callable[[np.ndarray, CameraModel], tuple[np.ndarray, np.ndarray]]
"""(image, its camera) → the image and the intrinsics (3, 3) of the frame, raising MessageError."""


class _WaitingImage(NamedTuple):
    """An image, (H, W, 3) uint8 RGB, that has no pose yet."""

    image: np.ndarray
    timeline: FrameTimeline


class _Obstacle(NamedTuple):
    """What keeps an image from being a frame."""

    reason: DropReason
    detail: str
    may_pass: bool


class FrameSync:
    """Pairs images with camera_info and transforms.

    Not thread-safe: call it from one callback group.

    Args:
        lookup: gives the transform between two frames at a time.
        world_frame: the frame that poses are expressed in.
        view: makes an image that fits a pinhole camera of what came.
        on_frame: called with each complete frame.
        on_drop: called for each image that is given up, the reason and a sentence for a person.
        on_jump: called when the images' stamps go back in time, after the queue was cleared.
        on_unforeseen: told of an exception that cost an image, and of what was being done.
        now_ns: the clock that `max_wait_ns` is measured by.
        queue_size: images that may wait; one more pushes the oldest out.
        max_wait_ns: longest time that an image waits.
    """

    def __init__(
        self,
        lookup: Lookup,
        world_frame: str,
        *,
        view: View,
        on_frame: Callable[[Frame, FrameTimeline], None],
        on_drop: Callable[[FrameTimeline, DropReason, str], None],
        on_jump: Callable[[], None],
        on_unforeseen: Callable[[Exception, str], None] = log_unforeseen,
        now_ns: Callable[[], int],
        queue_size: int,
        max_wait_ns: int,
    ) -> None:
        self._lookup = lookup
        self._world_frame = world_frame
        self._view = view
        self._on_frame = on_frame
        self._on_drop = on_drop
        self._on_jump = on_jump
        self._on_unforeseen = on_unforeseen
        self._now_ns = now_ns
        self._queue_size = queue_size
        self._max_wait_ns = max_wait_ns
        self._waiting: deque[_WaitingImage] = deque()
        self._cameras: OrderedDict[int, CameraModel] = OrderedDict()
        self._camera_fault = ""
        self._newest_stamp_ns: int | None = None

    def __len__(self) -> int:
        """Return the number of images that wait."""
        return len(self._waiting)

    def add_camera_info(self, stamp_ns: int, camera: CameraModel) -> None:
        """Take a camera_info; images without one of their own stamp use the newest."""
        self._cameras[stamp_ns] = camera
        self._cameras.move_to_end(stamp_ns)
        while len(self._cameras) > self._queue_size + 1:
            self._cameras.popitem(last=False)
        self.update()

    def refuse_camera_info(self, fault: str) -> None:
        """Take note of a camera_info that cannot be used, and why; images use an older one if there is one."""
        self._camera_fault = fault

    def add_image(self, image: np.ndarray, timeline: FrameTimeline) -> None:
        """Take an image (H, W, 3) uint8 RGB; it comes out as a frame now, later, or never with a reason."""
        newest_ns = self._newest_stamp_ns
        if newest_ns is not None and timeline.stamp_ns <= newest_ns:
            if newest_ns - timeline.stamp_ns < JUMP_NS:
                self._on_drop(timeline, DropReason.OUT_OF_ORDER, "it is not newer than the one before it")
                return
            self.clear(DropReason.TIME_JUMP)
            self._on_jump()
        self._newest_stamp_ns = timeline.stamp_ns
        self._waiting.append(_WaitingImage(image, timeline))
        self.update()
        if len(self._waiting) > self._queue_size:
            oldest = self._waiting.popleft()
            detail = f"{self._queue_size} others wait already. The oldest: {self._try(oldest).detail}"
            self._on_drop(oldest.timeline, DropReason.QUEUE_FULL, detail)

    def update(self) -> None:
        """Let out every frame that is complete; call it when transforms arrive, and regularly to end the waiting."""
        while self._waiting:
            waiting = self._waiting[0]
            outcome = self._try(waiting)
            waited_ns = self._now_ns() - waiting.timeline.received_ns
            if isinstance(outcome, _Obstacle) and outcome.may_pass and waited_ns < self._max_wait_ns:
                return
            self._waiting.popleft()
            if isinstance(outcome, Frame):
                outcome = self._pass_on(outcome, waiting.timeline)
            if isinstance(outcome, _Obstacle):
                self._on_drop(waiting.timeline, outcome.reason, outcome.detail)

    def clear(self, reason: DropReason) -> None:
        """Drop every waiting image; camera_infos stay, since intrinsics do not depend on time."""
        self._newest_stamp_ns = None
        while self._waiting:
            self._on_drop(self._waiting.popleft().timeline, reason, "it was still waiting for its transform")

    def largest_pixels(self) -> int | None:
        """Return the pixels of the largest image that a camera_info speaks of; None before the first."""
        return max((camera.height * camera.width for camera in self._cameras.values()), default=None)

    def _pass_on(self, frame: Frame, timeline: FrameTimeline) -> _Obstacle | None:
        try:
            self._on_frame(frame, timeline)
        except Exception as error:
            return self._unforeseen(error, "handing a frame on")
        return None

    def _try(self, waiting: _WaitingImage) -> Frame | _Obstacle:
        try:
            return self._frame(waiting)
        except Exception as error:
            return self._unforeseen(error, "making a frame of an image")

    def _unforeseen(self, error: Exception, doing: str) -> _Obstacle:
        self._on_unforeseen(error, doing)
        return _Obstacle(DropReason.INTERNAL_ERROR, f"{type(error).__name__}: {reason(error)}", False)

    def _frame(self, waiting: _WaitingImage) -> Frame | _Obstacle:
        image, timeline = waiting
        if not self._cameras and self._camera_fault:
            return _Obstacle(DropReason.BAD_CAMERA_INFO, self._camera_fault, True)
        if not self._cameras:
            return _Obstacle(DropReason.NO_CAMERA_INFO, "no camera_info was received", True)
        own = self._cameras.get(timeline.stamp_ns)
        camera = own or next(reversed(self._cameras.values()))
        height, width = image.shape[:2]
        if (camera.height, camera.width) != (height, width):
            return _Obstacle(
                DropReason.BAD_CAMERA_INFO,
                f"camera_info must be of the image's size {width}×{height}; got {camera.width}×{camera.height}."
                " Check that both topics come from one camera at one resolution",
                own is None,
            )
        try:
            world_T_cam = self._lookup(self._world_frame, timeline.camera_frame_id, timeline.stamp_ns)
            return Frame(*self._view(image, camera), world_T_cam, timeline.stamp_ns, timeline.index)
        except TransformExtrapolationError as error:
            gone = error.oldest_ns is not None and timeline.stamp_ns < error.oldest_ns
            return _Obstacle(DropReason.NO_TRANSFORM, str(error), not gone)
        except TransformError as error:
            return _Obstacle(DropReason.NO_TRANSFORM, str(error), True)
        except MessageError as error:
            return _Obstacle(DropReason.BAD_CAMERA_INFO, str(error), own is None)
        except FrameError as error:
            return _Obstacle(DropReason.BAD_FRAME, str(error), False)
