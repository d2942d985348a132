# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvmvs_core.evaluation.report.charts import (
    MAX_DOTS,
    Bars,
    Line,
    Strip,
    bar_chart,
    line_chart,
    nice_ticks,
)


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def of_class(svg: str, tag: str, css: str) -> list[ElementTree.Element]:
    return [e for e in parse(svg).iter(tag) if css in e.get("class", "").split()]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    ((0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 23, [0, 5, 10, 15, 20]), (7, 7, [7]), (-3, 3, [-2, 0, 2])),
)
def test_ticks_are_round_and_inside(low, high, ticks):
    assert nice_ticks(low, high) == ticks


@settings(deadline=None)
@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5))
def test_ticks_stay_inside_any_range_and_are_neither_none_nor_many(low, span):
    ticks = nice_ticks(low, low + span)
    assert 2 <= len(ticks) <= 9
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in ticks)


def test_a_larger_value_lies_higher_and_a_later_one_further_right():
    svg = line_chart([Line("a", [0, 1, 2], [0.0, 0.5, 0.25], ["zero", "half", "quarter"])], "x", "y")
    dots = of_class(svg, "circle", "dot")
    x, y = ([float(dot.get(key)) for dot in dots] for key in ("cx", "cy"))
    assert x[0] < x[1] < x[2]
    assert y[1] < y[2] < y[0]
    assert [dot.find("title").text for dot in dots] == ["zero", "half", "quarter"]


def test_a_missing_value_is_a_gap_and_not_a_zero():
    svg = line_chart([Line("a", [0, 1, 2, 3], [0.5, None, 0.5, 0.5], list("abcd"))], "x", "y")
    (path,) = of_class(svg, "path", "curve")
    assert path.get("d").count("M") == 2
    assert len(of_class(svg, "circle", "dot")) == 3


def test_many_points_are_a_line_without_dots():
    n = MAX_DOTS + 1
    svg = line_chart([Line("a", range(n), [1.0] * n, ["."] * n)], "x", "y")
    assert of_class(svg, "path", "curve")
    assert not of_class(svg, "circle", "dot")


def test_a_strip_covers_what_its_parts_say_below_the_curve():
    line = Line("a", [0, 10], [1.0, 1.0])
    svg = line_chart([line], "x", "y", strip=Strip([("keyframe", 0, 5, "first half"), ("lost", 5, 10, "second")]))
    left, right = (e for e in parse(svg).iter("rect"))
    assert float(left.get("x")) + float(left.get("width")) == pytest.approx(float(right.get("x")), abs=0.1)
    assert float(left.get("width")) == pytest.approx(float(right.get("width")), abs=0.1)
    assert left.find("title").text == "first half"


def test_bars_are_as_high_as_their_values_and_cut_off_ones_say_theirs():
    groups = [Bars("a", [0.25, 0.5, 3.0], ["", "", "much"]), Bars("b", [None, 1.0, 0.5], ["", "", ""])]
    svg = bar_chart([("near", "10%"), ("far", "20%"), ("farther", "70%")], groups, "x", "y", y_max=1.0)
    a, b = ([float(e.get("height")) for e in of_class(svg, "rect", css)] for css in "ab")
    assert a[1] == pytest.approx(2 * a[0], abs=0.2)
    assert len(b) == 2
    assert a[2] == b[0]  # 3.0 is drawn as high as 1.0 …
    assert [e.text for e in of_class(svg, "text", "cut")] == ["3"]  # … and says so


def test_text_is_escaped():
    svg = bar_chart([("<1", "&")], [Bars("a", [1.0], ["<b>"])], "a<b", "c&d")
    assert parse(svg).get("aria-label") == "c&d"
    assert {"<1", "&", "a<b"} <= {e.text for e in parse(svg).iter("text")}


def test_nothing_to_draw_is_still_a_drawing():
    parse(line_chart([], "x", "y"))
    parse(line_chart([Line("a", [1], [None])], "x", "y"))
