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

from dvmvs_core.errors import TransformLookupError
from dvmvs_ros.poses import transform_listener
from dvmvs_ros.poses.transform_listener import Tf2Tree, tf2_frames

SECOND = 10**9
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
