# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Grids brought to a finer one keep what is linear and what is sharp."""

from __future__ import annotations

import numpy as np

from dvmvs_core.matching.upsampling import add_upsampled, upsample_depth


def test_scores_of_the_pretrained_maps_land_where_their_cells_are_centred():
    """A score that is linear in the pixel stays so: cells at pixels 4x + 3 to cells at pixels 2x."""
    y, x = np.mgrid[:6, :8]
    coarse = np.stack((4.0 * x + 3, 4.0 * y + 3), axis=-1).astype(np.float32)
    scores = np.ones((12, 16, 2), np.float32)
    add_upsampled(0, 7, coarse, np.float32(0.5), scores)
    add_upsampled(7, 12, coarse, np.float32(0.5), scores)
    y, x = np.mgrid[:12, :16]
    expected = np.stack((2.0 * x, 2.0 * y), axis=-1).clip(3, (4 * 7 + 3, 4 * 5 + 3))
    np.testing.assert_allclose(scores, 1 + 0.5 * expected, atol=1e-4)


def _upsampled(log_depth, image):
    guide = image[::2, ::2].astype(np.float32)
    result = np.empty(image.shape[:2], np.float32)
    upsample_depth(0, len(image), log_depth.astype(np.float32), guide, image, np.float32(8), np.float32(0.06), result)
    return result


def test_a_slanted_surface_stays_smooth():
    y, x = np.mgrid[:10, :12]
    result = _upsampled(0.02 * x + 0.01 * y, np.full((20, 24, 3), 90, np.uint8))
    y, x = np.mgrid[:20, :24]
    inner = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(result[inner], (0.01 * x + 0.005 * y)[inner], atol=0.006)


def test_a_step_of_depth_goes_where_the_image_has_its_edge():
    """The image's edge lies between two cells, at a pixel of its own."""
    for edge in (11, 12):
        image = np.full((16, 24, 3), 60, np.uint8)
        image[:, edge:] = 180
        log_depth = np.where(np.arange(12) * 2 < edge, 0.0, 0.7)[None].repeat(8, axis=0)
        result = _upsampled(log_depth, image)
        np.testing.assert_allclose(result[:, :edge], 0, atol=1e-6)
        np.testing.assert_allclose(result[:, edge:], 0.7, atol=1e-6)
