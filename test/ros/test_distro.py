# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the node asks of tf2, read from tf2's own text."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from dvmvs_ros.distro import tf2_frames  # noqa: E402

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
