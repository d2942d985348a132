# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which poses are believed, and what the node asks of tf2.

What is stamped far ahead of the images would make a buffer refuse all that come later.
"""

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.errors import TransformError, TransformLookupError
from dvmvs_ros.poses import transform_listener
from dvmvs_ros.poses.pose_admission import FASTEST, PoseAdmission
from dvmvs_ros.poses.transform_listener import Tf2Tree, tf2_frames

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


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def after_an_image(bench) -> Bench:
    """A bench that has heard of an image at 50 s."""
    assert bench.admission.note_image(50 * SECOND), "the first"
    return bench


def test_an_hour_ahead_of_the_images_is_refused_and_named(after_an_image):
    bench = after_an_image
    assert not bench.admission.note_image(51 * SECOND)
    assert not bench.refused(51 * SECOND + 5 * SECOND)
    assert bench.refused(51 * SECOND + HOUR)
    assert "'base' is stamped 3600.0 s after the last image; more than 5 s" in bench.admission.recent
    assert bench.admission.latest_stamp_ns == 51 * SECOND + HOUR
    bench.wall_s += 60
    assert bench.admission.recent == ""
    assert bench.admission.refused == 1


def test_while_no_image_comes_poses_may_go_on(after_an_image):
    after_an_image.wall_s += 30
    assert not after_an_image.refused(80 * SECOND)
    assert not after_an_image.refused(50 * SECOND + 30 * FASTEST * SECOND)
    assert after_an_image.refused(50 * SECOND + HOUR)


def test_before_the_first_image_the_clock_counts_unless_it_stands(bench):
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


def test_silence_is_counted_from_what_came_of_whatever_stamp(bench):
    assert bench.admission.silence_s is None
    bench.admission.hear()
    bench.wall_s += 7
    assert bench.admission.silence_s == pytest.approx(7.0)


def test_images_and_poses_that_jump_together_lose_none(after_an_image):
    assert after_an_image.refused(90 * SECOND), "it came before its image"
    assert after_an_image.refused(HOUR)
    after_an_image.admission.note_image(50 * SECOND)
    assert after_an_image.added == []
    after_an_image.admission.note_image(90 * SECOND)
    assert after_an_image.added == [90 * SECOND]
    after_an_image.admission.clear()
    after_an_image.admission.note_image(HOUR)
    assert after_an_image.added == [90 * SECOND], "what was held before a jump is forgotten"
    with pytest.raises(TransformError, match="older than the buffer"):
        after_an_image.admission.admit("base", HOUR, lambda: False)


def test_poses_that_came_ahead_of_an_image_that_jumps_back_stay(after_an_image):
    assert not after_an_image.refused(50 * SECOND + 1), "of before the jump"
    assert not after_an_image.refused(20 * SECOND - 1)
    assert not after_an_image.refused(20 * SECOND)
    after_an_image.admission.note_image(20 * SECOND)
    after_an_image.added.clear()  # as the buffer is
    after_an_image.admission.follow_jump()
    assert after_an_image.added == [20 * SECOND - 1, 20 * SECOND]
    assert after_an_image.refused(50 * SECOND), "time is that of the image"


def test_a_reset_forgets_them(after_an_image):
    assert not after_an_image.refused(20 * SECOND)
    after_an_image.admission.note_image(20 * SECOND)
    after_an_image.admission.clear()
    after_an_image.added.clear()
    after_an_image.admission.follow_jump()
    assert not after_an_image.added


NO_MOTION = (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)
YAML = """base_link:\x20
  parent: 'odom'
  broadcaster: 'default_authority'
  rate: 31.012
  most_recent_transform: 12.300000
  oldest_transform: 2.300000
  buffer_length: 10.000
camera_color_optical_frame:\x20
  parent: 'base_link'
  broadcaster: 'default_authority'
  rate: 10000.000
  most_recent_transform: 0.000000
  oldest_transform: 0.000000
  buffer_length: 0.000
"""


def test_every_frame_of_tf2_is_named_the_root_too():
    assert tf2_frames(YAML) == ["base_link", "camera_color_optical_frame", "odom"]
    assert tf2_frames("{}") == [] == tf2_frames("")


@pytest.fixture
def tree() -> Tf2Tree:
    """tf2_ros itself, where a distribution has it."""
    pytest.importorskip("tf2_ros")
    return Tf2Tree(10.0)


def test_tf2_keeps_what_is_not_later_than_asked(tree):
    tree.set_transform("odom", "camera", 5 * SECOND, *NO_MOTION)
    tree.forget_after(6 * SECOND)
    assert tree.newest_ns("odom", "camera") == 5 * SECOND
    tree.forget_after(4 * SECOND)
    with pytest.raises(TransformLookupError):
        tree.lookup("odom", "camera", 5 * SECOND)


def test_names_without_end_fill_no_buffer_of_tf2_and_static_transforms_stay(tree, monkeypatch):
    monkeypatch.setattr(transform_listener, "MAX_FRAMES", 10)
    tree.set_transform("base", "camera", 0, *NO_MOTION, static=True)
    for i in range(100):
        tree.set_transform("odom", f"f{i}", SECOND, *NO_MOTION)
        assert len(tree.frames()) <= 13
    tree.set_transform("odom", "base", SECOND, *NO_MOTION)
    np.testing.assert_array_equal(tree.lookup("odom", "camera", SECOND), np.eye(4))
