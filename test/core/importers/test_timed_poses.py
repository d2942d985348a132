# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvmvs_core.errors import DataError
from dvmvs_core.importers.timed_poses import Trajectory, nearest, pair, read_stamped_lines

PATH = Path("groundtruth.txt")
HALF = np.sqrt(0.5)

stamps = st.lists(st.integers(0, 60), min_size=1, max_size=12, unique=True).map(sorted).map(np.array)


@given(stamps, stamps)
def test_nearest_is_the_nearest_and_at_a_tie_the_earlier(a, b):
    expected = [int(np.argmin(np.abs(b - stamp))) for stamp in a]
    assert nearest(a, b).tolist() == expected


@given(stamps, stamps, st.integers(0, 20))
def test_pairs_are_close_used_once_and_nearest_both_ways(a, b, gap):
    partners = pair(a, b, gap)
    used = [int(partner) for partner in partners if partner >= 0]
    assert len(used) == len(set(used))
    for stamp, partner in zip(a, partners, strict=True):
        best = int(np.argmin(np.abs(b - stamp)))
        mutual = a[int(np.argmin(np.abs(a - b[best])))] == stamp
        assert (partner == best) == bool(mutual and abs(b[best] - stamp) <= gap)
        assert partner in (best, -1)


def test_stamps_are_exact_nanoseconds_where_a_float_would_be_off_by_a_hundred(tmp_path):
    path = tmp_path / "rgb.txt"
    path.write_text("# time file\n\n1305031102.175304 rgb/a.png\n1305031102.211214123 rgb/b.png\n")
    stamps_ns, lines = read_stamped_lines(path, 2)
    assert stamps_ns.tolist() == [1305031102175304000, 1305031102211214123]
    assert lines == [["rgb/a.png"], ["rgb/b.png"]]
    assert int(float("1305031102.211214123") * 1e9) != stamps_ns[1]


def test_of_lines_with_one_stamp_the_first_counts(tmp_path):
    path = tmp_path / "rgb.txt"
    path.write_text("1.0 a\n1.0 b\n2.0 c\n")
    assert read_stamped_lines(path, 2)[1] == [["a"], ["c"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2.5 a\n1.5 b\n", r"line 2: stamps must not go back; got 1.5 s after 2.5 s"),
        ("# c\n1.5\n", r"line 2 must hold 2 words; got 1: 1.5"),
        ("now a\n", r"line 1 must begin with a time in seconds; got now"),
        ("nan a\n", r"line 1 must begin with a time in seconds; got nan"),
        ("# nothing\n", r"must hold at least one line of 2 words; got none"),
    ],
)
def test_wrong_lines_are_named(tmp_path, text, message):
    path = tmp_path / "rgb.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_stamped_lines(path, 2)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_stamped_lines(tmp_path / "missing.txt", 2)


def quarter_turn():
    """Stamps 100 and 200: one metre along x while turning by 90° about z."""
    quaternions = np.array(((0, 0, 0, 1), (0, 0, HALF, HALF)))
    return Trajectory(np.array((100, 200)), np.array(((0, 0, 0), (1.0, 0, 0))), quaternions, PATH)


def test_a_pose_between_two_is_linear_in_place_and_angle():
    (pose,) = quarter_turn().interpolate(np.array((125,)), 75)
    c, s = np.cos(np.pi / 8), np.sin(np.pi / 8)
    np.testing.assert_allclose(pose, ((c, -s, 0, 0.25), (s, c, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)), atol=1e-15)


def test_the_turn_takes_the_shorter_way_whatever_the_sign_of_the_quaternion():
    quaternions = np.array(((0, 0, 0, 1), (0, 0, -HALF, -HALF)))
    flipped = Trajectory(np.array((100, 200)), np.array(((0, 0, 0), (1.0, 0, 0))), quaternions, PATH)
    times = np.array((110, 150, 190))
    np.testing.assert_allclose(flipped.interpolate(times, 100), quarter_turn().interpolate(times, 100), atol=1e-15)


def test_a_pose_at_a_recorded_time_is_the_recorded_one_even_with_no_gap_allowed():
    poses = quarter_turn().interpolate(np.array((100, 200)), 0)
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-15)
    np.testing.assert_allclose(poses[1, :, 0], (0, 1, 0, 0), atol=1e-15)
    assert poses[1, 0, 3] == 1


@pytest.mark.parametrize(("stamp", "gap"), [(99, 1000), (201, 1000), (125, 74), (175, 74)])
def test_nothing_is_invented_outside_or_across_a_gap(stamp, gap):
    assert np.isnan(quarter_turn().interpolate(np.array((stamp,)), gap)).all()


def test_quaternions_that_are_none_are_refused():
    with pytest.raises(DataError, match=r"groundtruth.txt must hold quaternions of length 1; pose 2 has 0\. "):
        Trajectory(np.array((1, 2)), np.zeros((2, 3)), np.array(((0, 0, 0, 1.0), (0, 0, 0, 0))), PATH)
    with pytest.raises(DataError, match="pose 1 has nan"):
        Trajectory(np.array((1,)), np.zeros((1, 3)), np.full((1, 4), np.nan), PATH)
    with pytest.raises(DataError, match="must hold finite positions"):
        Trajectory(np.array((1,)), np.full((1, 3), np.inf), np.array(((0, 0, 0, 1.0),)), PATH)
