# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""ROS 1 bags: a recording is the same as a .bag and as a rosbag2."""

from __future__ import annotations

import numpy as np
import pytest
from rosbags.convert import convert
from rosbags.typesys import Stores, get_typestore

from dvmvs_core.cli.main import main
from dvmvs_core.data.bags.bag_files import typestore
from dvmvs_core.data.bags.bag_writer import write_bag
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DataError


@pytest.fixture
def bags(make_scene, tmp_path):
    """A recording as a rosbag2 and, by rosbags' own converter, as a ROS 1 bag."""
    write_bag(open_sequence(make_scene(frames=3)), tmp_path / "two")
    target = get_typestore(Stores.ROS1_NOETIC)
    convert([tmp_path / "two"], tmp_path / "one.bag", "mcap", 8, None, "file", typestore(), target, (), (), (), ())
    return tmp_path / "two", tmp_path / "one.bag"


def test_a_ros_1_bag_is_read_as_it_is(bags):
    two, one = (open_sequence(path) for path in bags)
    assert len(one) == len(two) == 3
    for a, b in zip(one.items(), two.items(), strict=True):
        np.testing.assert_array_equal(a.frame.image, b.frame.image)
        np.testing.assert_array_equal(a.frame.K, b.frame.K)
        np.testing.assert_allclose(a.frame.world_T_cam, b.frame.world_T_cam, atol=1e-12)
        np.testing.assert_array_equal(a.sensor_depth, b.sensor_depth)
        assert a.frame.stamp_ns == b.frame.stamp_ns
    assert not one.faults and not one.dropped


def test_a_ros_1_bag_that_was_cut_off_says_so(bags):
    path = bags[1]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="cannot be read as a ROS 1 bag: .*reindex"):
        open_sequence(path)


def test_what_is_no_bag_says_so(tmp_path, capsys):
    (tmp_path / "old.bag").write_bytes(b"nothing")
    assert main(["check", str(tmp_path / "old.bag")]) == 1
    assert "cannot be read as a ROS 1 bag" in capsys.readouterr().err
