# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.data.lens.camera_info import Window, camera_model, resolution_doubt
from dvmvs_core.errors import MessageError

RAW = (500.0, 0, 320, 0, 501.0, 240, 0, 0, 1)
RECTIFIED = (480.0, 0, 310, 0, 0, 481.0, 235, 0, 0, 0, 1, 0)


def test_the_rectified_camera_is_in_p():
    camera = camera_model(480, 640, RAW, RECTIFIED, (0.1, 0, 0, 0, 0))
    assert camera.K.tolist() == [[480, 0, 310], [0, 481, 235], [0, 0, 1]]
    assert (camera.height, camera.width, camera.distorted) == (480, 640, True)


def test_a_driver_that_leaves_p_empty_means_k():
    camera = camera_model(480, 640, np.array(RAW), np.zeros(12), ())
    assert camera.K.tolist() == [[500, 0, 320], [0, 501, 240], [0, 0, 1]]
    assert not camera.distorted


def test_an_image_of_no_height_is_refused():
    with pytest.raises(MessageError, match="height 0"):
        camera_model(0, 640, RAW, RECTIFIED, ())


def test_an_equidistant_lens_bends_lines_with_zeros_too():
    assert camera_model(480, 640, RAW, RECTIFIED, (0.0,) * 4, "equidistant").distorted
    assert not camera_model(480, 640, RAW, RECTIFIED, (0.0,) * 5, "plumb_bob").distorted
    assert not camera_model(480, 640, RAW, RECTIFIED, (), "equidistant").distorted


def test_a_rotation_of_zeros_is_none():
    assert camera_model(480, 640, RAW, RECTIFIED, (0.1,) * 5, r=np.zeros(9)).lens.R.tolist() == np.eye(3).tolist()


@pytest.mark.parametrize("binning", (0, 1))
def test_a_window_of_the_whole_sensor_changes_nothing(binning):
    for window in (Window(binning_x=binning, binning_y=binning), Window(0, 0, 640, 480, binning, binning)):
        camera = camera_model(480, 640, RAW, RECTIFIED, (0.1,) * 5, window=window)
        assert camera.K.tolist() == [[480, 0, 310], [0, 481, 235], [0, 0, 1]]
        assert (camera.height, camera.width) == (480, 640)


def test_a_window_moves_the_principal_point_and_binning_scales():
    camera = camera_model(480, 640, RAW, RECTIFIED, (0.1,) * 5, window=Window(100, 50, 400, 300, 4, 2))
    assert (camera.height, camera.width) == (150, 100)
    assert camera.K.tolist() == [[120, 0, 52.5], [0, 240.5, 92.5], [0, 0, 1]]
    assert camera.lens.K.tolist() == [[125, 0, 55], [0, 250.5, 95], [0, 0, 1]]


@pytest.mark.parametrize(
    ("model", "padded", "left"),
    (
        ("equidistant", (0.1, 0.2, 0.3, 0.4, 0.0), 4),
        ("plumb_bob", (0.1, 0, 0, 0, 0, 0, 0), 5),
        ("rational_polynomial", (0.1,) * 8 + (0,) * 3, 8),
    ),
)
def test_zeros_behind_the_coefficients_of_a_model_are_padding(model, padded, left):
    K = (5.0, 0, 3, 0, 5, 2, 0, 0, 1)
    assert camera_model(4, 6, K, np.zeros(12), padded, model).lens.coefficients.tolist() == list(padded[:left])
    assert camera_model(4, 6, K, np.zeros(12), (*padded[:-1], 0.1), model).lens.coefficients.size == len(padded)


def test_intrinsics_of_another_resolution_are_refused_unless_the_image_is_a_window():
    K = (500.0, 0, 320, 0, 500, 240, 0, 0, 1)
    with pytest.raises(MessageError, match=r"\(320, 240\) must be within .* 320×240; K looks like that of 641×481"):
        camera_model(240, 320, K, np.zeros(12), ())
    corner = camera_model(480, 640, K, np.zeros(12), (), window=Window(400, 300, 160, 120))
    assert corner.K[0, 2] == -80


@pytest.mark.parametrize(
    ("k", "p", "said"),
    (
        (
            (500, 0, 0, 0, 501, 0, 320, 240, 1),
            np.zeros(12),
            r"row 0 0 1; got \[320.0, 240.0, 1.0\]. It is .* transpose",
        ),
        ((500, 501, 320, 240, 0, 0, 0, 0, 1), np.zeros(12), "fy=0. Its numbers are fx fy cx cy one after another"),
        ((500, 320, 0, 0, 501, 240, 0, 0, 1), np.zeros(12), "the rows fx 0 cx and 0 fy cy; got"),
        (np.zeros(9), np.zeros(12), "positive focal lengths"),
        ((-1.0, *RAW[1:]), np.zeros(12), "positive focal lengths"),
        ((np.nan, *RAW[1:]), np.zeros(12), "finite"),
        (np.eye(3).ravel(), np.zeros(12), "must be in pixels, .*; got fx=1. .* not calibrated"),
        ((3.6, 0, 2.4, 0, 3.6, 1.8, 0, 0, 1), np.zeros(12), "got fx=3.6. Millimetres"),
        (RAW, np.ravel(np.reshape(RECTIFIED, (3, 4)).T), "p must be 3 rows of 4 numbers; .* written column by column"),
        (RAW, (*RAW, 0, 0, 0), "p must be 3 rows of 4 numbers; .* written as the 9 numbers of k"),
    ),
    ids=(
        *("transposed", "in a row", "one column off", "zeros", "negative", "NaN"),
        *("identity", "millimetres", "p transposed", "p from k"),
    ),
)
def test_a_camera_info_that_is_filled_wrongly_is_said_to_be_so(k, p, said):
    with pytest.raises(MessageError, match=said):
        camera_model(480, 640, k, p, ())


@pytest.mark.parametrize(
    ("k", "d", "r", "said"),
    (
        (RAW, (1e300, 0, 0, 0, 0), None, "camera_info: d must be finite coefficients of at most 1e.06 .*1e.300"),
        (RAW, (0.1, 0, 0, 0, -1e10), None, "camera_info: d must be .* got .*-10000000000"),
        (RAW, (0.1, np.nan, 0, 0, 0), None, "camera_info: d must be .* got .*nan"),
        ((1e300, *RAW[1:]), (0.1,) * 5, None, "camera_info: K must have"),
        ((1e8, *RAW[1:]), (0.1,) * 5, None, "the focal length must be in pixels, .* got fx=1e.08"),
        (RAW, (0.1,) * 5, np.full(9, 1e300), "camera_info: r must be a rotation"),
        (RAW, (0.1,) * 5, 2 * np.eye(3).ravel(), "camera_info: r must be a rotation"),
    ),
    ids=("D of 1e300", "k3 of 1e10", "D of NaN", "K of 1e300", "a focal length of 1e8", "R of 1e300", "R that scales"),
)
def test_a_lens_that_none_has_is_refused_even_where_p_is_right(k, d, r, said):
    with pytest.raises(MessageError, match=f"^{said}"):
        camera_model(480, 640, k, RECTIFIED, d, r=r)


@pytest.mark.parametrize(
    ("focal", "d"),
    (
        (500, (-0.3, 0.1, 1e-3, 1e-3, -0.02)),
        (504, (80.0, -300.0, 1e-3, 1e-3, 900.0, 79.0, -290.0, 880.0)),  # a rational fit whose parts cancel
        (30_000, (50.0, -2e4, 1e-3, 1e-3, 3e8)),  # a telephoto lens
    ),
)
def test_a_lens_that_calibrations_give_is_taken(focal, d):
    K = (focal, 0, 320, 0, focal, 240, 0, 0, 1)
    assert camera_model(480, 640, K, np.zeros(12), d, "rational_polynomial").lens.coefficients.tolist() == list(d)


def test_a_swapped_principal_point_is_doubted():
    K = np.array(((500.0, 0, 240), (0, 500, 320), (0, 0, 1)))
    assert "cx and cy look swapped" in resolution_doubt(K, (480, 640))
    assert not resolution_doubt(np.array(RAW).reshape(3, 3), (480, 640))
