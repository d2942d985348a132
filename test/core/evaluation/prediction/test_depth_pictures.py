# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import cv2
import numpy as np

from dvmvs_core.data.encodings.pictures import colour_depth, encode_png
from dvmvs_core.evaluation.prediction.depth_pictures import (
    CAPTION_HEIGHT,
    GAP,
    LEGEND_HEIGHT,
    colourise_error,
    depth_strip,
)


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
