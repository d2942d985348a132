# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Rectification against OpenCV's own undistortion, and of depth against a plane that is known on every ray."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_core.data.lens.camera_info import Lens, Window, camera_model
from dvmvs_core.data.lens.raw_depth import raw_depth_points, rectify_depth
from dvmvs_core.data.lens.rectification import Rectifier
from dvmvs_core.errors import FrameError, MessageError
from dvmvs_core.preprocess import Preprocessor

SIZE = (240, 320)
RAW_K = np.array(((200.0, 0.0, 163.0), (0.0, 205.0, 118.0), (0.0, 0.0, 1.0)))
NEW_K = np.array(((180.0, 0.0, 158.0), (0.0, 182.0, 121.0), (0.0, 0.0, 1.0)))
P = np.hstack((NEW_K, np.zeros((3, 1))))
TURN = cv2.Rodrigues(np.array((0.02, -0.03, 0.01)))[0]

LENSES = {
    "plumb_bob": (-0.28, 0.09, 0.001, -0.002, -0.01),
    "rational_polynomial": (0.4, -2.1, 0.0004, -0.0003, 1.2, 0.3, -1.9, 1.1),
    "equidistant": (-0.02, 0.01, -0.004, 0.001),
    "fisheye": (-0.02, 0.01, -0.004, 0.001),
}


def camera(model: str, R: np.ndarray = TURN, window: Window | None = None):
    """A camera of SIZE with one of the lenses."""
    return camera_model(*SIZE, RAW_K, P, LENSES[model], model, R, window or Window())


@pytest.fixture(scope="module")
def raw() -> np.ndarray:
    """A smooth RGB picture of SIZE."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return cv2.resize(noise, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


def opencv(raw: np.ndarray, model: str, R: np.ndarray = TURN) -> np.ndarray:
    """The raw image undistorted by OpenCV, at its own size."""
    room = cv2.fisheye if model in ("equidistant", "fisheye") else cv2
    maps = room.initUndistortRectifyMap(RAW_K, np.array(LENSES[model]), R, NEW_K, SIZE[::-1], cv2.CV_32FC1)
    return cv2.remap(raw, *maps, interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize("model", LENSES)
def test_at_its_own_size_an_image_is_exactly_what_opencv_makes_of_it(model, raw):
    rectifier = Rectifier(camera(model), SIZE)
    np.testing.assert_array_equal(rectifier.image(raw), opencv(raw, model))
    np.testing.assert_allclose(rectifier.K, NEW_K)
    assert np.abs(rectifier.image(raw).astype(int) - raw).mean() > 10, "the lens of this test bends enough to be seen"


@pytest.mark.parametrize("crop", (False, True))
@pytest.mark.parametrize("new_size", ((96, 128), (128, 128), (256, 320)))
@pytest.mark.parametrize("model", LENSES)
def test_one_remap_equals_rectifying_cropping_and_resizing(model, new_size, crop, raw):
    rectifier = Rectifier(camera(model), new_size, crop)
    preprocessor = Preprocessor(NEW_K, SIZE, new_size, crop=crop)
    np.testing.assert_array_equal(rectifier.K, preprocessor.K)
    difference = np.abs(rectifier.image(raw) - preprocessor.image(opencv(raw, model)))
    # Interpolating once is not interpolating twice, nor is rounding; a shift of half a pixel would give 4 on average.
    assert difference[3:-3, 3:-3].mean() < 1.2


def test_a_point_of_the_world_is_where_the_intrinsics_say():
    """Spots drawn where OpenCV projects points through the lens come out where K, rectified, projects them."""
    lens_R, new_size = TURN, (120, 160)
    points = np.array(((-0.5, 0.2, 2.0), (0.4, -0.3, 1.5), (0.1, 0.1, 3.0), (0.6, 0.4, 2.5)))
    coefficients = np.array(LENSES["rational_polynomial"])
    rectifier = Rectifier(camera("rational_polynomial"), new_size)
    for point in points:
        ((u, v),) = cv2.projectPoints((lens_R.T @ point)[None], np.zeros(3), np.zeros(3), RAW_K, coefficients)[0][0]
        y, x = np.mgrid[: SIZE[0], : SIZE[1]]
        spot = 255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 50.0)
        image = rectifier.image(np.repeat(spot[..., None], 3, axis=2).astype(np.uint8))[..., 0].astype(float)
        y, x = np.mgrid[: new_size[0], : new_size[1]]
        seen = np.array(((x * image).sum(), (y * image).sum())) / image.sum()
        projected = (NEW_K @ point)[:2] / point[2]
        np.testing.assert_allclose(seen, (projected + 0.5) / 2 - 0.5, atol=0.15)


def test_a_window_and_binning_show_the_same_pixels_of_the_sensor(raw):
    """The raw window [40:200, 60:300], every second pixel, rectifies to the same picture, cut out the same way."""
    window = Window(60, 40, 240, 160, 2, 2)
    part = camera("plumb_bob", np.eye(3), window)
    assert (part.height, part.width) == (80, 120)
    np.testing.assert_allclose(part.K, ((90, 0, 49), (0, 91, 40.5), (0, 0, 1)))
    smooth = cv2.GaussianBlur(raw, (0, 0), 4)
    got = Rectifier(part, (80, 120)).image(np.ascontiguousarray(smooth[40:200:2, 60:300:2]))
    expected = opencv(smooth, "plumb_bob", np.eye(3))[40:200:2, 60:300:2]
    assert np.abs(got.astype(int) - expected)[8:-8, 8:-8].max() <= 3


def test_rays_outside_the_raw_image_are_black(raw):
    wide = camera_model(*SIZE, RAW_K, np.zeros(12), (0.5, 0.3, 0.0, 0.0))
    rectifier = Rectifier(wide, SIZE)
    image = rectifier.image(np.full_like(raw, 200))
    assert not image[0, 0].any() and not rectifier.in_view[0, 0] and rectifier.in_view[120, 160]
    np.testing.assert_array_equal(image[rectifier.in_view], 200)
    assert image[~rectifier.in_view].mean() < 5.0, "half seen pixels at the edge are no pixels of the camera either"


def test_a_lens_that_shows_every_pixel_hides_none():
    narrow = camera_model(*SIZE, RAW_K, np.zeros(12), (-0.1, 0.0, 0.0, 0.0))
    assert Rectifier(narrow, SIZE).in_view is None


@pytest.mark.parametrize(
    ("k", "model", "coefficients", "said"),
    (
        (RAW_K, "omnidirectional", (0.1,), "got 'omnidirectional'"),
        (RAW_K, "plumb_bob", (0.1, 0.2), "must have 4 or 5"),
        (RAW_K, "equidistant", (0.1,) * 5, "must have 4 finite coefficients"),
        (RAW_K, "plumb_bob", (0.1, np.nan, 0.0, 0.0), "finite coefficients"),
        (np.zeros(9), "plumb_bob", LENSES["plumb_bob"], "k of the raw image"),
    ),
    ids=("unknown model", "too few", "too many", "NaN", "no raw intrinsics"),
)
def test_a_lens_that_nobody_knows_or_that_lacks_intrinsics_is_refused(k, model, coefficients, said):
    with pytest.raises(MessageError, match=said):
        Rectifier(camera_model(*SIZE, k, P, coefficients, model), SIZE)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(FrameError, match=r"\(240, 320\)"):
        Rectifier(camera("plumb_bob"), SIZE).image(np.zeros((120, 160, 3), np.uint8))


def test_the_lens_keeps_the_raw_intrinsics():
    lens = camera("plumb_bob").lens
    assert isinstance(lens, Lens) and lens.model == "plumb_bob"
    np.testing.assert_array_equal(lens.K, RAW_K)


DEPTH_SIZE = (36, 48)
NORMAL, OFFSET_M = np.array((0.2, -0.1, 0.95)), 2.0
"""The plane NORMAL · point = OFFSET_M of the rectified camera."""


def depth_camera(model: str, R: np.ndarray):
    k, p = (30.0, 0, 24.5, 0, 31, 17, 0, 0, 1), (27.0, 0, 23, 0, 0, 27.5, 18, 0, 0, 0, 1, 0)
    return camera_model(*DEPTH_SIZE, k, p, LENSES[model], model, R.reshape(-1))


def on_plane(rays: np.ndarray) -> np.ndarray:
    """How far along rays (..., 3) of the rectified camera the plane is."""
    return OFFSET_M / (rays @ NORMAL)


def raw_depth(raw) -> np.ndarray:
    """What the raw camera sees of the plane: for each of its pixels, the ray that the lens bends onto it."""
    row, column = np.indices(DEPTH_SIZE, dtype=np.float64)
    pixels = np.stack((column, row), axis=-1).reshape(-1, 2)
    rays = cv2.convertPointsToHomogeneous(pixels)[:, 0] @ np.linalg.inv(raw.lens.K).T
    bend = cv2.fisheye.projectPoints if raw.lens.model == "equidistant" else cv2.projectPoints
    for _ in range(100):  # undo the lens by going back along its error until none is left
        bent = bend(rays[:, None], np.zeros(3), np.zeros(3), raw.lens.K, raw.lens.coefficients)[0]
        rays[:, :2] += 0.7 * (pixels - bent.reshape(-1, 2)) / (raw.lens.K[0, 0], raw.lens.K[1, 1])
    return on_plane(rays @ raw.lens.R.T).reshape(DEPTH_SIZE).astype(np.float32)


@pytest.mark.parametrize("R", (np.eye(3), TURN), ids=("straight", "turned"))
@pytest.mark.parametrize("model", ("plumb_bob", "rational_polynomial", "equidistant"))
def test_depth_of_a_plane_is_that_of_the_plane_for_the_rectified_camera(model, R):
    raw = depth_camera(model, R)
    depth = rectify_depth(raw_depth(raw), raw)
    row, column = np.indices(DEPTH_SIZE)
    rays = np.stack((column, row, np.ones(DEPTH_SIZE)), axis=-1) @ np.linalg.inv(raw.K).T
    expected = on_plane(rays)
    seen = depth > 0
    assert seen.mean() > 0.7
    assert depth.dtype == np.float32
    # The nearest raw pixel is up to 0.7 pixels away, and the plane falls by up to 2 % a pixel.
    np.testing.assert_allclose(depth[seen], expected[seen], rtol=1.5e-2)
    unrectified = raw_depth(raw)
    assert np.abs(unrectified / expected - 1).max() > 0.02, "the lens of this test bends enough to be seen"


@pytest.mark.parametrize("R", (np.eye(3), TURN), ids=("straight", "turned"))
@pytest.mark.parametrize("model", ("plumb_bob", "rational_polynomial", "equidistant"))
def test_points_of_a_plane_lie_on_it(model, R):
    raw = depth_camera(model, R)
    depth = raw_depth(raw)
    depth[:20] = 0
    points = raw_depth_points(depth, raw)
    assert len(points) == depth[20:].size
    np.testing.assert_allclose(points @ NORMAL, OFFSET_M, rtol=1e-5)
