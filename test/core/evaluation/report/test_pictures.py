# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Charts, depth, errors and clouds as pictures."""

from __future__ import annotations

from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvmvs_core.data.encodings.pictures import colour_depth, encode_png
from dvmvs_core.evaluation.prediction.depth_pictures import (
    CAPTION_HEIGHT,
    GAP,
    LEGEND_HEIGHT,
    colourise_error,
    depth_strip,
)
from dvmvs_core.evaluation.prediction.virtual_camera import VirtualCamera
from dvmvs_core.evaluation.report.charts import (
    MAX_DOTS,
    Bars,
    Line,
    Strip,
    bar_chart,
    line_chart,
    nice_ticks,
)
from dvmvs_core.evaluation.report.cloud_picture import (
    BACKGROUND,
    PATH_COLOUR,
    SIDES_DEG,
    Cloud,
    draw_cloud,
    draw_sides,
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


def test_near_is_red_far_is_blue_and_invalid_is_black():
    depth = np.array(((0.1, 0.5, 10.0, 50.0), (0.0, np.nan, np.inf, -1.0)), np.float32)
    picture = colour_depth(depth, near_m=0.5, far_m=10.0).astype(int)
    near, far = picture[0, 1], picture[0, 2]
    assert near[0] > 2 * near[2] and far[2] > far[0]
    assert picture[0, 0].tolist() == near.tolist() and picture[0, 3].tolist() == far.tolist(), "clipped at the ends"
    assert not picture[1].any()


def test_a_distance_has_one_colour_whatever_else_the_image_holds():
    alone = colour_depth(np.array([[2.0]]), 0.5, 10.0)[0, 0]
    among_others = colour_depth(np.array([[2.0, 0.3, 19.0]]), 0.5, 10.0)[0, 0]
    assert alone.tolist() == among_others.tolist()
    assert alone.tolist() != colour_depth(np.array([[2.5]]), 0.5, 10.0)[0, 0].tolist()


def test_a_larger_error_is_brighter_and_unknown_truth_is_grey():
    picture = colourise_error(np.array(((2.0, 2.2, 3.0, 2.0),)), np.array(((2.0, 2.0, 2.0, 0.0),))).astype(int)
    brightness = picture.sum(axis=2)[0]
    assert brightness[0] < brightness[1] < brightness[2]
    assert set(picture[0, 3]) == {70}


def test_a_strip_has_two_panels_or_four_and_shows_the_image_as_it_is():
    image = np.random.default_rng(0).integers(0, 255, (32, 40, 3), dtype=np.uint8)
    depth = np.full((32, 40), 2.0, np.float32)
    assert depth_strip(image, depth).shape == (32 + CAPTION_HEIGHT, 2 * 40 + GAP, 3)
    strip = depth_strip(image, depth, np.zeros_like(depth))
    assert strip.shape == (32 + CAPTION_HEIGHT, 4 * 40 + 3 * GAP, 3)
    assert np.array_equal(strip[CAPTION_HEIGHT:, :40], image)


def test_a_strip_with_confidence_and_legend_names_the_depths_of_its_colours():
    image, depth = np.zeros((32, 120, 3), np.uint8), np.tile(np.linspace(1, 4, 120, dtype=np.float32), (32, 1))
    plain = depth_strip(image, depth, depth, np.full_like(depth, 0.5))
    assert plain.shape == (32 + CAPTION_HEIGHT, 5 * 120 + 4 * GAP, 3)
    strip = depth_strip(image, depth, depth, np.full_like(depth, 0.5), legend=True)
    assert np.array_equal(strip[: len(plain)], plain)
    legend = strip[len(plain) :]
    assert len(legend) == LEGEND_HEIGHT
    assert (legend[:, :120] == 255).all()  # the image has no colours to explain
    bar = legend[8, 120 + GAP + 10 : 2 * 120 + GAP - 10].astype(int)
    assert bar[0, 2] > bar[0, 0] and bar[-1, 0] > bar[-1, 2]  # from far and blue to near and red


def test_png_keeps_the_colours():
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[..., 0] = 200
    decoded = cv2.imdecode(np.frombuffer(encode_png(picture), np.uint8), cv2.IMREAD_COLOR)
    assert decoded[0, 0].tolist() == [0, 0, 200]


RED, BLUE = (200, 20, 20), (20, 20, 200)
SIZE = (240, 320)


def poses() -> list[np.ndarray]:
    """A camera that moves 1 m to the right and looks along the world's y, z up."""
    found = []
    for x in np.linspace(-0.5, 0.5, 5):
        world_T_cam = np.eye(4)
        world_T_cam[:3, :3] = np.array(((1, 0, 0), (0, 0, 1), (0, -1, 0)))
        world_T_cam[:3, 3] = (x, 0.0, 1.0)
        found.append(world_T_cam)
    return found


def wall(x0: float, x1: float, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A patch 3 m in front of the camera, 1 m high, as points of the camera and colours."""
    x, y = np.meshgrid(np.arange(x0, x1, 0.014), np.arange(-0.5, 0.5, 0.014))
    points = np.stack((x, y, np.full_like(x, 3.0)), axis=-1).reshape(-1, 3)
    return points, np.tile(np.array(colour, np.uint8), (len(points), 1))


def two_walls() -> Cloud:
    cloud = Cloud()
    for patch in (wall(-1.0, 0.0, RED), wall(0.0, 1.0, BLUE)):
        cloud.add(*patch, poses()[2])
    return cloud


def pixels_of(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere((picture == colour).all(axis=-1))


def test_points_go_into_the_world_and_one_stays_of_each_cube():
    cloud = Cloud()
    points = np.array(((0.205, 0.1, 2.0), (0.2051, 0.1, 2.0), (0.305, 0.1, 2.0)))
    cloud.add(points, np.zeros((3, 3), np.uint8), poses()[0])
    assert len(cloud.points) == 2
    np.testing.assert_allclose(sorted(cloud.points.tolist()), [[-0.295, 2.0, 0.9], [-0.195, 2.0, 0.9]], atol=2e-4)
    cloud.add(points[:1], np.full((1, 3), 7, np.uint8), poses()[0])
    assert len(cloud.points) == 2 and (cloud.colours == 7).all(axis=1).sum() == 1  # the latest


def test_cubes_of_negative_coordinates_are_told_apart():
    grid = np.stack(np.meshgrid(*[np.arange(-3, 3) * 0.1 + 0.007] * 3), axis=-1).reshape(-1, 3)
    cloud = Cloud()
    cloud.add(grid, np.zeros((len(grid), 3), np.uint8), np.eye(4))
    assert len(cloud.points) == len(grid)


def test_each_side_shows_the_whole_cloud_upright_and_the_path():
    cloud = two_walls()
    for side in SIDES_DEG:
        picture = draw_cloud(cloud, VirtualCamera.of_side(cloud.points, poses(), side, SIZE), poses())
        assert picture.shape == (*SIZE, 3)
        red, blue, path = (pixels_of(picture, colour) for colour in (RED, BLUE, PATH_COLOUR))
        assert len(red) > 300 and len(blue) > 300 and len(path) > 20
        assert red[:, 1].mean() < blue[:, 1].mean()  # left stays left
        view = VirtualCamera.of_side(cloud.points, poses(), side, SIZE)
        top, bottom = view.project(np.array(((0.0, 3.0, 1.5), (0.0, 3.0, 0.5))))[0][:, 1]
        assert top < bottom
        assert (picture[:2] == BACKGROUND).all()  # nothing is cut off


def test_near_points_cover_far_ones():
    cloud = Cloud()
    far, near = wall(-1.0, 1.0, RED), wall(-0.2, 0.2, BLUE)
    cloud.add(far[0], far[1], poses()[2])
    cloud.add(near[0] * (0.5, 0.5, 0.5), near[1], poses()[2])
    view = VirtualCamera.of_side(cloud.points, poses(), 0.0, SIZE)
    (x, y), *_ = view.project(np.array(((0.0, 1.5, 1.0),)))[0].round().astype(int)
    assert tuple(draw_cloud(cloud, view, poses())[y, x]) == BLUE


def test_the_two_sides_stand_next_to_each_other():
    picture = draw_sides(two_walls(), poses(), SIZE)
    assert picture.shape == (*SIZE, 3)
    assert len(pixels_of(picture[:, :160], RED)) > 100 and len(pixels_of(picture[:, 160:], RED)) > 100


def test_an_empty_cloud_is_a_picture_all_the_same():
    view = VirtualCamera(np.eye(4), 100.0, np.array((160.0, 120.0)), SIZE)
    assert draw_cloud(Cloud(), view, poses()).shape == (*SIZE, 3)
