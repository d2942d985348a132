# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Rays that a lens model does not speak of are outside the field of view: black in images, no depth, and no points."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_core.data.lens.camera_info import camera_model
from dvmvs_core.data.lens.lens_domain import is_beyond, widest_ray
from dvmvs_core.data.lens.raw_depth import raw_depth_points, rectify_depth
from dvmvs_core.data.lens.rectification import NOWHERE, Rectifier, undistort_maps

SIZE = (120, 160)
RAW_K = (82.5, 0.0, 80.0, 0.0, 82.5, 60.0, 0.0, 0.0, 1.0)
LENSES = {
    "barrel": ("plumb_bob", (-0.32, 0.0, 0.0, 0.0, 0.0)),
    "barrel that swings back": ("plumb_bob", (-0.36, 0.14, 0.001, 0.0, -0.02)),
    "a ratio that turns": ("rational_polynomial", (-0.2, -0.05, 0.0, 0.0, 0.0, 0.1, 0.05, 0.0)),
    "a ratio with a pole": ("rational_polynomial", (0.1, 0.0, 0.0, 0.0, 0.0, -0.35, 0.0, 0.0)),
    "fisheye": ("equidistant", (-0.3, 0.0, 0.0, 0.0)),
    "fisheye that swings back": ("equidistant", (-0.35, -0.1, 0.08, 0.0)),
}
FOCAL = {"as the raw image": 82.5, "wide": 30.0}


def camera(lens: str, focal: float):
    model, d = LENSES[lens]
    return camera_model(*SIZE, RAW_K, (focal, 0, 80, 0, 0, focal, 60, 0, 0, 0, 1, 0), d, model)


def radius(tangents: np.ndarray, lens: str) -> np.ndarray:
    """Distance from the middle, in focal lengths, of rays in the plane y = 0, by OpenCV itself."""
    model, d = LENSES[lens]
    flat = np.stack((tangents, np.zeros_like(tangents)), axis=-1)[:, None]
    if model == "equidistant":
        return cv2.fisheye.distortPoints(flat, np.eye(3), np.array(d))[:, 0, 0]
    radial = np.array(d)
    radial[2:4] = 0.0
    rays = cv2.convertPointsToHomogeneous(flat)
    return cv2.projectPoints(rays, np.zeros(3), np.zeros(3), np.eye(3), radial)[0][:, 0, 0]


def turn(lens: str) -> float:
    """The tangent at which the distance from the middle stops growing, by trying them all."""
    tangents = np.arange(1, 60_000) * 1e-4
    return float(tangents[np.argmax(np.diff(radius(tangents, lens)) <= 0)])


@pytest.mark.parametrize("lens", LENSES)
def test_the_widest_ray_is_where_the_model_turns(lens):
    assert widest_ray(camera(lens, 30.0).lens) == pytest.approx(turn(lens), abs=3e-4)


@pytest.mark.parametrize(("model", "d"), (("plumb_bob", (0.1, 0.05, 0, 0)), ("equidistant", (0.0, 0.0, 0.0, 0.0))))
def test_a_lens_that_goes_on_growing_has_no_widest_ray(model, d):
    assert widest_ray(camera_model(*SIZE, RAW_K, np.zeros(12), d, model).lens or pytest.fail()) == np.inf


@pytest.mark.parametrize(
    ("lens", "focal"),
    (*((lens, "wide") for lens in LENSES), *((lens, "as the raw image") for lens in ("barrel", "a ratio that turns"))),
)
def test_beyond_it_images_are_black_and_nothing_has_depth(lens, focal):
    raw = camera(lens, FOCAL[focal])
    row, column = np.indices(SIZE)
    beyond = np.hypot(column - 80.0, row - 60.0) / FOCAL[focal] > turn(lens) + 1e-3
    rectifier = Rectifier(raw, SIZE)
    image = rectifier.image(np.full((*SIZE, 3), 200, np.uint8))
    assert beyond.any()
    assert not image[beyond].any()
    assert rectifier.in_view is None or not rectifier.in_view[beyond].any()
    assert not rectify_depth(np.ones(SIZE, np.float32), raw)[beyond].any()


@pytest.mark.parametrize("lens", LENSES)
def test_points_of_raw_depth_are_shown_where_their_pixels_are(lens):
    raw = camera(lens, 82.5)
    points = raw_depth_points(np.ones(SIZE, np.float32), raw)
    tangents = np.hypot(points[:, 0], points[:, 1]) / points[:, 2]
    assert tangents.max() <= turn(lens) + 1e-3
    reach = radius(np.array((turn(lens) - 1e-3,)), lens)[0] * 82.5
    row, column = np.indices(SIZE)
    inside = np.hypot(column - 80.0, row - 60.0) < reach - 2.0
    assert 0.98 * inside.sum() < len(points) <= inside.sum() + 0.05 * inside.size, "every pixel with a ray has a point"


def test_of_the_issues_camera_one_pixel_in_sixteen_was_mirrored():
    """k1 = −0.32, fx = 330, 640×480: 6 % of the image is past the turning point, 76 % of a view twice as wide."""
    k, d = (330.0, 0, 320.0, 0, 330.0, 240.0, 0, 0, 1), (-0.32, 0, 0, 0, 0)
    for focal, hidden in ((330.0, 0.060), (150.0, 0.760)):
        p = (focal, 0, 320.0, 0, 0, focal, 240.0, 0, 0, 0, 1, 0)
        in_view = Rectifier(camera_model(480, 640, k, p, d), (480, 640)).in_view
        assert 1 - in_view.mean() == pytest.approx(hidden, abs=0.002)


DECENTRED = {
    "tangential": ("plumb_bob", (-0.32, 0.0, 0.0, -0.05, 0.0)),
    "tangential alone": ("plumb_bob", (0.0, 0.0, 0.12, 0.05)),
    "thin prism": ("rational_polynomial", (-0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.2, 0.0, 0.05, 0.0)),
}


@pytest.mark.parametrize("lens", DECENTRED)
def test_a_lens_that_folds_in_some_directions_shows_no_pixel_mirrored(lens):
    model, d = DECENTRED[lens]
    raw = camera_model(*SIZE, RAW_K, (30.0, 0, 80, 0, 0, 30.0, 60, 0, 0, 0, 1, 0), d, model)
    x, y = undistort_maps(raw.lens, raw.K, SIZE)
    shown = x != NOWHERE
    inside = cv2.erode(shown.astype(np.uint8), np.ones((3, 3)), borderValue=0).astype(bool)
    (x_row, x_column), (y_row, y_column) = np.gradient(x.astype(float)), np.gradient(y.astype(float))
    assert inside.any() and not shown.all()
    assert (x_column * y_row > x_row * y_column)[inside].all(), "a mirrored pixel is shown"
    assert not Rectifier(raw, SIZE).image(np.full((*SIZE, 3), 200, np.uint8))[~shown].any()
    assert not rectify_depth(np.ones(SIZE, np.float32), raw)[~shown].any()
    points = raw_depth_points(np.ones(SIZE, np.float32), raw)
    assert not is_beyond(raw.lens, points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]).any()
    column, row = np.rint(points[:, :2].T / points[:, 2] * 30.0 + ((80,), (60,))).astype(int)
    within = (column > 0) & (column < SIZE[1] - 1) & (row > 0) & (row < SIZE[0] - 1)
    near = cv2.dilate(shown.astype(np.uint8), np.ones((3, 3))).astype(bool)
    assert near[row[within], column[within]].all(), "points are where the image is black"
