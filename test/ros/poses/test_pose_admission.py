# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which poses are believed: what is stamped far ahead of the images would make a buffer refuse all that come later."""

from __future__ import annotations

import pytest

from dvmvs_core.errors import TransformError
from dvmvs_ros.poses.pose_admission import FASTEST, PoseAdmission

SECOND = 10**9
HOUR = 3600 * SECOND


class Bench:
    def __init__(self, cache_s: float = 10.0) -> None:
        self.wall_s, self.now_ns = 100.0, 0
        self.added: list[int] = []
        self.admission = PoseAdmission(cache_s, lambda: self.now_ns, clock=lambda: self.wall_s)

    def refused(self, stamp_ns: int) -> bool:
        try:
            self.admission.admit("base", stamp_ns, lambda: self.added.append(stamp_ns))
        except TransformError as error:
            self.admission.note_refused(str(error))
            return True
        return False


def test_an_hour_ahead_of_the_images_is_refused_and_named():
    bench = Bench()
    assert bench.admission.note_image(50 * SECOND), "the first"
    assert not bench.admission.note_image(51 * SECOND)
    assert not bench.refused(51 * SECOND + 5 * SECOND)
    assert bench.refused(51 * SECOND + HOUR)
    assert "'base' is stamped 3600.0 s after the last image; more than 5 s" in bench.admission.recent
    assert bench.admission.latest_stamp_ns == 51 * SECOND + HOUR
    bench.wall_s += 60
    assert bench.admission.recent == ""
    assert bench.admission.refused == 1


def test_while_no_image_comes_poses_may_go_on():
    bench = Bench()
    bench.admission.note_image(50 * SECOND)
    bench.wall_s += 30
    assert not bench.refused(80 * SECOND)
    assert not bench.refused(50 * SECOND + 30 * FASTEST * SECOND)
    assert bench.refused(50 * SECOND + HOUR)


def test_before_the_first_image_the_clock_counts_unless_it_stands():
    bench = Bench()
    assert not bench.refused(HOUR), "simulated time has not begun"
    bench.now_ns = 10 * SECOND
    assert bench.refused(HOUR)
    assert not bench.refused(12 * SECOND)
    bench.admission.note_image(HOUR)
    assert not bench.refused(HOUR), "the robot's clock is ahead of this computer's, and images and poses agree"
    bench.admission.clear()
    assert bench.refused(HOUR)


def test_a_short_buffer_leaves_a_second():
    bench = Bench(cache_s=0.1)
    bench.admission.note_image(SECOND)
    assert not bench.refused(2 * SECOND)
    assert bench.refused(2 * SECOND + 1)


def test_silence_is_counted_from_what_came_of_whatever_stamp():
    bench = Bench()
    assert bench.admission.silence_s is None
    bench.admission.hear()
    bench.wall_s += 7
    assert bench.admission.silence_s == pytest.approx(7.0)


def test_images_and_poses_that_jump_together_lose_none():
    bench = Bench()
    bench.admission.note_image(50 * SECOND)
    assert bench.refused(90 * SECOND), "it came before its image"
    assert bench.refused(HOUR)
    bench.admission.note_image(50 * SECOND)
    assert bench.added == []
    bench.admission.note_image(90 * SECOND)
    assert bench.added == [90 * SECOND]
    bench.admission.clear()
    bench.admission.note_image(HOUR)
    assert bench.added == [90 * SECOND], "what was held before a jump is forgotten"
    with pytest.raises(TransformError, match="older than the buffer"):
        bench.admission.admit("base", HOUR, lambda: False)


def test_poses_that_came_ahead_of_an_image_that_jumps_back_stay():
    bench = Bench()
    bench.admission.note_image(50 * SECOND)
    assert not bench.refused(50 * SECOND + 1), "of before the jump"
    assert not bench.refused(20 * SECOND - 1)
    assert not bench.refused(20 * SECOND)
    bench.admission.note_image(20 * SECOND)
    bench.added.clear()  # as the buffer is
    bench.admission.follow_jump()
    assert bench.added == [20 * SECOND - 1, 20 * SECOND]
    assert bench.refused(50 * SECOND), "time is that of the image"


def test_a_reset_forgets_them():
    bench = Bench()
    bench.admission.note_image(50 * SECOND)
    assert not bench.refused(20 * SECOND)
    bench.admission.note_image(20 * SECOND)
    bench.admission.clear()
    bench.added.clear()
    bench.admission.follow_jump()
    assert not bench.added
