# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvmvs_core.errors import DataError
from dvmvs_core.exporters.stamps import nearest, pair, read_stamped_lines

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
