# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The depth node in its own process, over DDS: the same depth as offline, and no message that takes it down."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from camera_poses import pose_at

from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_core.types import Frame
from dvmvs_ros.depth.frame_timeline import DropReason
from dvmvs_ros.messages.conversions import depth_from_message, points_from_message, stamp_to_ns

STEP_NS = 33_333_333
WAIT_S = 5.0
"""`transform_timeout_s` of the node under test: a busy machine sends a transform sooner than that after its image."""


@pytest.fixture(scope="module")
def node(start_depth_node, client):
    """An active node, and the client connected to it."""
    node = start_depth_node(transform_timeout_s=WAIT_S)
    client.wait_until_connected()
    yield node
    node.process.send_signal(signal.SIGINT)
    assert node.stop() == 0, node.log()  # a second SIGINT: Ctrl-C comes twice, from the terminal and from ros2 launch
    assert node.lines("inactive:"), node.log()
    assert "terminate called" not in node.log() and "Traceback" not in node.log(), node.log()


def pose(i: int) -> np.ndarray:
    """The i-th pose of a walk of 6 cm steps, turning a little: every second frame is a keyframe."""
    return pose_at(0.06 * i, 0.01 * np.sin(i), turned=0.02 * i)


class Walk:
    """Stamps and poses that go on from test to test, as one camera's life does."""

    def __init__(self, client) -> None:
        self.client = client
        self.i = 0

    @property
    def stamp_ns(self) -> int:
        return 5_000_000_000 + self.i * STEP_NS

    def step(self) -> int:
        """Advance to the next frame; returns its stamp."""
        self.i += 1
        return self.stamp_ns

    def good_frame(self):
        """Send a complete frame, and return the node's answer."""
        stamp_ns = self.step()
        return self.client.frame(stamp_ns, pose(self.i))


@pytest.fixture(scope="module")
def walk(client) -> Walk:
    return Walk(client)


def test_depth_is_that_of_the_engine_offline(node, client, walk, make_manager, engine):
    assert make_manager("depth_node").trigger("reset").success
    received = (client.depths, client.depth_infos, client.clouds)
    for messages in received:
        messages.clear()
    first = walk.i + 1
    answers = [walk.good_frame() for _ in range(14)]
    expected = {}
    for i, answer in enumerate(answers, start=first):
        frame = Frame(client.picture(answer.stamp_ns), client.K, pose(i), answer.stamp_ns, answer.index)
        prediction = engine.step(frame)
        assert answer.outcome is engine.last_decision
        if prediction is not None:
            expected[frame.stamp_ns] = prediction
            assert answer.measurement_stamps_ns == prediction.measurement_stamps_ns
    assert len(expected) == 6
    client.wait(lambda: min(map(len, received)) >= len(expected))
    assert {stamp_to_ns(m.header.stamp) for m in client.depths} == set(expected)
    for depth, info, cloud in zip(*received, strict=True):
        prediction = expected[stamp_to_ns(depth.header.stamp)]
        np.testing.assert_allclose(depth_from_message(depth), prediction.depth, rtol=1e-5)
        assert depth.header == info.header == cloud.header
        assert depth.header.frame_id == "camera"
        assert (info.height, info.width) == (depth.height, depth.width) == (64, 96)
        np.testing.assert_allclose(np.reshape(info.k, (3, 3)), prediction.K)
        points, _ = points_from_message(cloud)
        assert np.isfinite(points).all() and len(points) == np.count_nonzero(prediction.confidence >= 0.5)


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"encoding": "yuv411"}, DropReason.BAD_IMAGE, "encoding must be one of"),
        ({"step": 10}, DropReason.BAD_IMAGE, "step must be at least"),
        ({"height": 480}, DropReason.BAD_IMAGE, "data must hold height × step"),
        ({"width": 0}, DropReason.BAD_IMAGE, "must not be empty"),
    ],
)
def test_a_bad_image_is_one_clear_line_and_the_next_frame_is_answered(node, client, walk, changes, reason, said):
    for _ in range(10):
        stamp_ns = walk.step()
        client.send_pose(stamp_ns, pose(walk.i))
        client.send_image(stamp_ns, **changes)
        answer = client.answer(stamp_ns)
        assert answer.outcome is reason and said in answer.detail
    assert len(node.lines(said)) == 1, node.log()
    assert not walk.good_frame().dropped


def test_a_camera_info_of_another_size_is_one_clear_line(node, client, walk):
    stamp_ns = walk.step()
    client.send_pose(stamp_ns, pose(walk.i))
    client.send_camera_info(stamp_ns, height=40, width=56)
    client.send_image(stamp_ns)
    answer = client.answer(stamp_ns)
    assert answer.outcome is DropReason.BAD_CAMERA_INFO
    assert "64×48" in answer.detail and "56×40" in answer.detail
    assert len(node.lines("bad_camera_info")) == 1
    assert not walk.good_frame().dropped


def test_a_transform_with_nan_is_ignored_and_said(node, client, walk):
    lost = np.eye(4)
    lost[:3, 3] = np.nan
    stamp_ns = walk.step()
    client.send_pose(stamp_ns, lost)
    client.send_camera_info(stamp_ns)
    client.send_image(stamp_ns)
    node.wait_for("must be finite")
    assert not [status for status in client.statuses if status.stamp_ns == stamp_ns], "it waits for a better one"
    client.send_pose(stamp_ns, pose(walk.i))
    assert not client.answer(stamp_ns).dropped
    assert len([line for line in node.lines("must be finite") if "a transform was ignored" in line]) == 1
    assert not walk.good_frame().dropped


def test_a_late_transform_is_answered(node, client, walk):
    stamp_ns, late = walk.step(), pose(walk.i)
    client.send_camera_info(stamp_ns)
    client.send_image(stamp_ns)
    # Once a bad image that was sent after it is refused, the good one is known to wait.
    bad_ns = walk.step()
    client.send_image(bad_ns, encoding="yuv411")
    assert client.answer(bad_ns).outcome is DropReason.BAD_IMAGE
    assert not [status for status in client.statuses if status.stamp_ns == stamp_ns]
    client.send_pose(stamp_ns, late)
    assert not client.answer(stamp_ns).dropped


def test_an_image_between_two_transforms_gets_the_pose_between(node, client, walk):
    start = pose(walk.i)
    start[:3, 3] += 5.0
    end = start.copy()
    end[0, 3] += 0.18

    def answer(stamp_ns: int):
        client.send_camera_info(stamp_ns)
        client.send_image(stamp_ns)
        return client.answer(stamp_ns).outcome

    start_ns = walk.step()
    client.send_pose(start_ns, start)
    assert answer(start_ns) is KeyframeDecision.KEYFRAME
    client.send_pose(start_ns + STEP_NS, end)
    # A keyframe needs 0.1 m. Half the way is 0.09 m, where the latest pose would do; two thirds are 0.12 m, where
    # the older one would not.
    assert answer(start_ns + STEP_NS // 2) is KeyframeDecision.TOO_CLOSE
    assert answer(start_ns + STEP_NS * 2 // 3) is KeyframeDecision.KEYFRAME
    walk.i += 1


def test_a_transform_that_never_comes_is_a_drop_that_names_the_frames(node, client, walk):
    stamp_ns = walk.step()
    client.send_camera_info(stamp_ns)
    client.send_image(stamp_ns)
    answer = client.answer(stamp_ns)
    assert answer.outcome is DropReason.NO_TRANSFORM
    assert "camera" in answer.detail and "odom" in answer.detail
    assert not walk.good_frame().dropped


def test_a_jump_back_in_time_starts_again(node, client, walk):
    walk.good_frame()
    walk.i = -100
    answers = [walk.good_frame() for _ in range(4)]
    assert [answer.outcome for answer in answers][0] is KeyframeDecision.FIRST, "not an image is lost"
    assert "went back" in node.log()
