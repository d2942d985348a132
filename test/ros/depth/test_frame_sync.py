# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Pairing images with camera_info and transforms: order, waiting, and a reason for each loss. No ROS needed."""

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.data.lens.camera_info import CameraModel
from dvmvs_core.errors import MessageError, TransformExtrapolationError, TransformLookupError
from dvmvs_ros.depth.frame_sync import FrameSync
from dvmvs_ros.depth.frame_timeline import DropReason, FrameTimeline

SECOND = 1_000_000_000
K = np.array(((50.0, 0.0, 4.0), (0.0, 50.0, 3.0), (0.0, 0.0, 1.0)))
CAMERA = CameraModel(K, 6, 8)


class Bench:
    """A FrameSync with a clock and transforms under the test's control."""

    def __init__(self, queue_size: int = 3, max_wait_s: float = 1.0) -> None:
        self.now_ns = 0
        self.known_ns: tuple[int, int] | None = None
        self.frames: list[int] = []
        self.drops: list[tuple[int, DropReason]] = []
        self.details: list[str] = []
        self.jumps = 0
        self.refusal = ""
        self.sync = FrameSync(
            self.lookup,
            "odom",
            view=self.view,
            on_frame=self.on_frame,
            on_drop=self.on_drop,
            on_jump=self.on_jump,
            now_ns=lambda: self.now_ns,
            queue_size=queue_size,
            max_wait_ns=int(max_wait_s * SECOND),
        )

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        assert (target, source) == ("odom", "camera")
        if self.known_ns is None:
            raise TransformLookupError("the frame 'odom' is not known")
        oldest, newest = self.known_ns
        if not oldest <= stamp_ns <= newest:
            raise TransformExtrapolationError("outside what is known", stamp_ns, oldest, newest)
        world_T_cam = np.eye(4)
        world_T_cam[0, 3] = stamp_ns / SECOND
        return world_T_cam

    def view(self, image, camera):
        if self.refusal:
            raise MessageError(self.refusal)
        return image[:3], camera.K

    def on_frame(self, frame, timeline) -> None:
        assert frame.image.shape[0] == 3, "the frame holds what the view made of the image"
        assert frame.stamp_ns == timeline.stamp_ns and frame.index == timeline.index
        assert frame.world_T_cam[0, 3] == pytest.approx(frame.stamp_ns / SECOND)
        self.frames.append(frame.stamp_ns)

    def on_drop(self, timeline, reason, detail) -> None:
        self.drops.append((timeline.stamp_ns, reason))
        self.details.append(detail)

    def on_jump(self) -> None:
        self.jumps += 1

    def image(self, stamp_s: float, height: int = 6, width: int = 8) -> None:
        image = np.zeros((height, width, 3), np.uint8)
        self.sync.add_image(image, FrameTimeline(int(stamp_s * SECOND), "camera", 0, self.now_ns))

    def camera_info(self, stamp_s: float, camera: CameraModel = CAMERA) -> None:
        self.sync.add_camera_info(int(stamp_s * SECOND), camera)

    def transforms(self, oldest_s: float, newest_s: float) -> None:
        self.known_ns = (int(oldest_s * SECOND), int(newest_s * SECOND))
        self.sync.update()


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def ready(bench) -> Bench:
    """A bench that has camera_info, and the poses of ten seconds."""
    bench.camera_info(1)
    bench.transforms(0, 10)
    return bench


def test_an_image_with_everything_there_is_a_frame_at_once(ready):
    ready.image(1)
    assert ready.frames == [1 * SECOND] and not ready.drops


def test_a_late_transform_is_answered_in_order(bench):
    bench.camera_info(1)
    bench.transforms(0, 0.5)
    bench.image(1)
    bench.image(2)
    bench.transforms(0, 0.9)
    assert not bench.frames, "nothing is extrapolated"
    bench.transforms(0, 1.5)
    assert bench.frames == [1 * SECOND]
    bench.transforms(0, 2)
    assert bench.frames == [1 * SECOND, 2 * SECOND] and not bench.drops


def test_a_late_camera_info_is_answered(bench):
    bench.transforms(0, 10)
    bench.image(1)
    assert not bench.frames and not bench.drops
    bench.camera_info(1)
    assert bench.frames == [1 * SECOND]


def test_a_transform_that_never_comes_ends_in_a_reason_after_the_waiting_time():
    bench = Bench(max_wait_s=1.0)
    bench.camera_info(1)
    bench.image(1)
    bench.now_ns = int(0.99 * SECOND)
    bench.sync.update()
    assert not bench.drops
    bench.now_ns = 1 * SECOND
    bench.sync.update()
    assert bench.drops == [(1 * SECOND, DropReason.NO_TRANSFORM)]
    assert "'odom' is not known" in bench.details[0]
    assert len(bench.sync) == 0


def test_a_camera_info_that_never_comes_ends_in_its_own_reason(bench):
    bench.transforms(0, 10)
    bench.image(1)
    bench.now_ns = 2 * SECOND
    bench.sync.update()
    assert bench.drops == [(1 * SECOND, DropReason.NO_CAMERA_INFO)]


def test_an_image_older_than_all_transforms_does_not_wait(bench):
    bench.camera_info(1)
    bench.transforms(5, 10)
    bench.image(1)
    assert bench.drops == [(1 * SECOND, DropReason.NO_TRANSFORM)]


def test_a_lost_image_does_not_hold_up_the_next(bench):
    bench.camera_info(1)
    bench.image(1)
    bench.image(6)
    bench.transforms(5, 10)
    assert bench.drops == [(1 * SECOND, DropReason.NO_TRANSFORM)]
    assert bench.frames == [6 * SECOND]


def test_the_queue_is_bounded_and_the_oldest_leaves():
    bench = Bench(queue_size=3)
    bench.camera_info(1)
    for stamp_s in (1, 2, 3, 4, 5):
        bench.image(stamp_s)
    assert bench.drops == [(1 * SECOND, DropReason.QUEUE_FULL), (2 * SECOND, DropReason.QUEUE_FULL)]
    assert len(bench.sync) == 3
    bench.transforms(0, 10)
    assert bench.frames == [3 * SECOND, 4 * SECOND, 5 * SECOND]


def test_a_camera_info_of_another_size_is_refused_with_both_sizes(ready):
    ready.image(1, height=12, width=16)
    assert ready.drops == [(1 * SECOND, DropReason.BAD_CAMERA_INFO)]
    assert "16×12" in ready.details[0] and "8×6" in ready.details[0]


def test_after_a_change_of_resolution_an_image_waits_for_its_own_camera_info(ready):
    ready.image(1)
    ready.image(2, height=12, width=16)
    assert not ready.drops
    ready.camera_info(2, CameraModel(K, 12, 16))
    assert ready.frames == [1 * SECOND, 2 * SECOND]


def test_repeated_and_late_images_are_refused_and_the_stream_goes_on(ready):
    for stamp_s in (1.0, 1.0, 0.95, 1.1):
        ready.image(stamp_s)
    assert [reason for _, reason in ready.drops] == [DropReason.OUT_OF_ORDER] * 2
    assert ready.frames == [1 * SECOND, int(1.1 * SECOND)] and ready.jumps == 0


def test_a_jump_back_in_time_clears_the_queue_and_starts_again(bench):
    bench.camera_info(1)
    bench.image(8)
    bench.image(9)
    bench.known_ns = (0, 2 * SECOND)
    bench.image(1)
    assert [reason for _, reason in bench.drops] == [DropReason.TIME_JUMP] * 2
    assert bench.jumps == 1
    assert bench.frames == [1 * SECOND]


def test_clear_gives_each_waiting_image_its_reason(bench):
    bench.camera_info(1)
    bench.image(1)
    bench.sync.clear(DropReason.STOPPED)
    assert bench.drops == [(1 * SECOND, DropReason.STOPPED)] and len(bench.sync) == 0
    bench.transforms(0, 10)
    bench.image(0.5)
    assert bench.frames == [int(0.5 * SECOND)], "after a clear, any stamp is a first stamp"


def test_a_broken_pose_is_dropped_and_the_next_is_answered(ready):
    good, scaled = ready.lookup, np.diag((2.0, 2.0, 2.0, 1.0))
    ready.sync._lookup = lambda *_: scaled
    ready.image(1)
    ready.sync._lookup = good
    ready.image(2)
    assert ready.drops == [(1 * SECOND, DropReason.BAD_FRAME)]
    assert ready.frames == [2 * SECOND]


def test_a_lens_that_cannot_be_rectified_is_a_camera_info_that_cannot_be_used(ready):
    ready.refusal = "nobody knows this lens"
    ready.image(1)
    assert ready.drops == [(1 * SECOND, DropReason.BAD_CAMERA_INFO)]
    assert ready.details == ["nobody knows this lens"]


def test_an_unforeseen_exception_costs_its_image_and_names_it(bench):
    unforeseen = []
    bench.sync._on_unforeseen = lambda error, doing: unforeseen.append((type(error), doing))
    bench.known_ns = (0, 100 * SECOND)
    bench.sync.add_camera_info(0, CAMERA)
    whole, bench.sync._view = bench.sync._view, lambda image, camera: 1 // 0
    bench.image(1.0)
    assert bench.drops == [(SECOND, DropReason.INTERNAL_ERROR)]
    assert "ZeroDivisionError" in bench.details[0]
    bench.sync._view, bench.sync._on_frame = whole, lambda frame, timeline: [][0]
    bench.image(2.0)
    assert bench.drops[1] == (2 * SECOND, DropReason.INTERNAL_ERROR)
    bench.sync._on_frame = bench.on_frame
    bench.image(3.0)
    assert bench.frames == [3 * SECOND]
    assert [kind for kind, _ in unforeseen] == [ZeroDivisionError, IndexError]


def test_it_knows_how_large_images_may_be(bench):
    assert bench.sync.largest_pixels() is None
    bench.sync.add_camera_info(0, CAMERA)
    bench.sync.add_camera_info(1, CameraModel(K, 12, 16))
    assert bench.sync.largest_pixels() == 12 * 16
