# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth at the image's size, edges where the image has them and nothing invented; and in colours. No ROS needed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_ros.messages.depth_images import colour_depth, upsample_depth

NEAR, FAR = 1.0, 3.0


def scene(edge: int) -> tuple[np.ndarray, np.ndarray]:
    """A near bright wall left of a far dark one: depth (480, 640) and image."""
    rng = np.random.default_rng(0)
    depth = np.full((480, 640), FAR, np.float32)
    depth[:, :edge] = NEAR
    grey = np.where(depth == NEAR, 170.0, 60.0) + rng.normal(0.0, 4.0, depth.shape)
    return depth, np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def soft(depth: np.ndarray) -> np.ndarray:
    """Depth as the network gives it: small, and soft at edges."""
    small = cv2.resize(1.0 / depth, (320, 256), interpolation=cv2.INTER_AREA)
    return 1.0 / cv2.GaussianBlur(small, (0, 0), 1.5)


def test_an_edge_is_sharper_than_by_enlarging_alone():
    truth, image = scene(edge=301)
    small = soft(truth)
    near_edge = np.zeros(truth.shape, bool)
    near_edge[:, 301 - 6 : 301 + 6] = True

    def error(depth: np.ndarray) -> float:
        return float(np.abs(depth - truth)[near_edge].mean())

    guided = upsample_depth(small, image)
    assert guided.shape == truth.shape and guided.dtype == np.float32
    assert error(guided) < 0.7 * error(cv2.resize(small, (640, 480)))


def test_texture_on_a_plane_leaves_no_print():
    rng = np.random.default_rng(1)
    texture = cv2.resize(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    rows, columns = np.mgrid[0:256, 0:320].astype(np.float32)
    plane = 1.0 / (0.3 + columns / 1000.0 + rows / 2000.0)
    guided = upsample_depth(plane, texture)
    exact = 1.0 / cv2.resize(1.0 / plane, (640, 480))
    assert np.abs(guided / exact - 1.0).max() < 0.02


@pytest.mark.parametrize("size", [(480, 640), (256, 320), (120, 160)])
def test_every_depth_lies_between_those_around_it(size):
    rng = np.random.default_rng(2)
    small = rng.uniform(0.5, 10.0, (256, 320)).astype(np.float32)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    guided = upsample_depth(small, image)
    assert guided.shape == size
    assert small.min() * 0.999 <= guided.min() and guided.max() <= small.max() * 1.001


def test_near_is_red_far_is_blue_and_invalid_is_black():
    depth = np.array(((0.1, 0.5, 10.0, 50.0), (0.0, np.nan, np.inf, -1.0)), np.float32)
    picture = colour_depth(depth, near_m=0.5, far_m=10.0).astype(int)
    near, far = picture[0, 1], picture[0, 2]
    assert near[0] > 2 * near[2] and far[2] > far[0]
    assert picture[0, 0].tolist() == near.tolist() and picture[0, 3].tolist() == far.tolist(), "clipped at the ends"
    assert not picture[1].any()


def test_a_distance_has_one_colour_whatever_else_the_image_holds():
    alone = colour_depth(np.array([[2.0]]), 0.5, 10.0)[0, 0]
    among = colour_depth(np.array([[2.0, 0.3, 19.0]]), 0.5, 10.0)[0, 0]
    assert alone.tolist() == among.tolist()
    assert alone.tolist() != colour_depth(np.array([[2.5]]), 0.5, 10.0)[0, 0].tolist()
