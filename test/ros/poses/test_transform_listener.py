# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the node asks of tf2, read from tf2's own text."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy  # noqa: E402

from dvmvs_core.errors import TransformLookupError  # noqa: E402
from dvmvs_ros.messages.conversions import transform_message  # noqa: E402
from dvmvs_ros.poses import transform_listener as distro  # noqa: E402
from dvmvs_ros.poses.pose_admission import PoseAdmission  # noqa: E402
from dvmvs_ros.poses.transform_listener import Tf2Transforms, tf2_frames  # noqa: E402

SECOND = 10**9
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
def transforms():
    """tf2_ros itself, where a distribution has it."""
    pytest.importorskip("tf2_ros")
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("listens", context=context)
    warned = []
    made = Tf2Transforms(node, 10.0, lambda: None, warned.append, PoseAdmission(10.0, now_ns=lambda: 0))
    yield made
    made.close()
    node.destroy_node()
    context.shutdown()


def test_tf2_keeps_what_is_not_later_than_asked(transforms):
    transforms._add(transform_message(5 * SECOND, "odom", "camera", np.eye(4)), static=False)
    transforms.forget_after(6 * SECOND)
    assert transforms.newest_ns("odom", "camera") == 5 * SECOND
    transforms.forget_after(4 * SECOND)
    with pytest.raises(TransformLookupError):
        transforms.lookup("odom", "camera", 5 * SECOND)


def test_names_without_end_fill_no_buffer_of_tf2_and_static_transforms_stay(transforms, monkeypatch):
    monkeypatch.setattr(distro, "MAX_FRAMES", 10)
    transforms._add(transform_message(0, "base", "camera", np.eye(4)), static=True)
    for i in range(100):
        transforms._add(transform_message(SECOND, "odom", f"f{i}", np.eye(4)), static=False)
        assert len(transforms.frames()) <= 13
    transforms._add(transform_message(SECOND, "odom", "base", np.eye(4)), static=False)
    np.testing.assert_array_equal(transforms.lookup("odom", "camera", SECOND), np.eye(4))
