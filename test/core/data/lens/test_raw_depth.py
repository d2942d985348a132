# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth on raw pixels, against a plane whose depth is known on every ray."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_core.data.lens.camera_info import camera_model
from dvmvs_core.data.lens.raw_depth import raw_depth_points, rectify_depth

SIZE = (36, 48)
RAW_K = (30.0, 0.0, 24.5, 0.0, 31.0, 17.0, 0.0, 0.0, 1.0)
P = (27.0, 0.0, 23.0, 0.0, 0.0, 27.5, 18.0, 0.0, 0.0, 0.0, 1.0, 0.0)
LENSES = {
    "plumb_bob": (-0.28, 0.09, 0.001, -0.002, -0.01),
    "rational_polynomial": (0.4, -2.1, 0.0004, -0.0003, 1.2, 0.3, -1.9, 1.1),
    "equidistant": (-0.02, 0.01, -0.004, 0.001),
}
TURN = cv2.Rodrigues(np.array((0.05, -0.08, 0.02)))[0]
NORMAL, OFFSET_M = np.array((0.2, -0.1, 0.95)), 2.0
"""The plane NORMAL · point = OFFSET_M of the rectified camera."""


def camera(model: str, R: np.ndarray):
    return camera_model(*SIZE, RAW_K, P, LENSES[model], model, R.reshape(-1))


def on_plane(rays: np.ndarray) -> np.ndarray:
    """How far along rays (..., 3) of the rectified camera the plane is."""
    return OFFSET_M / (rays @ NORMAL)


def raw_depth(raw) -> np.ndarray:
    """What the raw camera sees of the plane: for each of its pixels, the ray that the lens bends onto it."""
    row, column = np.indices(SIZE, dtype=np.float64)
    pixels = np.stack((column, row), axis=-1).reshape(-1, 2)
    rays = np.column_stack((pixels, np.ones(len(pixels))))
    rays = rays @ np.linalg.inv(raw.lens.K).T
    fisheye = raw.lens.model == "equidistant"
    for _ in range(100):  # undo the lens by going back along its error until none is left
        if fisheye:
            bent = cv2.fisheye.distortPoints(rays[:, None, :2].copy(), raw.lens.K, raw.lens.coefficients)
        else:
            none = np.zeros(3)
            bent = cv2.projectPoints(rays, none, none, raw.lens.K, raw.lens.coefficients)[0]
        rays[:, :2] += 0.7 * (pixels - bent.reshape(-1, 2)) / (raw.lens.K[0, 0], raw.lens.K[1, 1])
    return on_plane(rays @ raw.lens.R.T).reshape(SIZE).astype(np.float32)


@pytest.mark.parametrize("R", (np.eye(3), TURN), ids=("straight", "turned"))
@pytest.mark.parametrize("model", LENSES)
def test_depth_of_a_plane_is_that_of_the_plane_for_the_rectified_camera(model, R):
    raw = camera(model, R)
    depth = rectify_depth(raw_depth(raw), raw)
    row, column = np.indices(SIZE)
    rays = np.stack((column, row, np.ones(SIZE)), axis=-1) @ np.linalg.inv(raw.K).T
    expected = on_plane(rays)
    seen = depth > 0
    assert seen.mean() > 0.7
    assert depth.dtype == np.float32
    # The nearest raw pixel is up to 0.7 pixels away, and the plane falls by up to 2 % a pixel.
    np.testing.assert_allclose(depth[seen], expected[seen], rtol=1.5e-2)
    unrectified = raw_depth(raw)
    assert np.abs(unrectified / expected - 1).max() > 0.02, "the lens of this test bends enough to be seen"


@pytest.mark.parametrize("R", (np.eye(3), TURN), ids=("straight", "turned"))
@pytest.mark.parametrize("model", LENSES)
def test_points_of_a_plane_lie_on_it(model, R):
    raw = camera(model, R)
    depth = raw_depth(raw)
    depth[:20] = 0
    points = raw_depth_points(depth, raw)
    assert len(points) == depth[20:].size
    np.testing.assert_allclose(points @ NORMAL, OFFSET_M, rtol=1e-5)
