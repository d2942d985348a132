# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The coloured preview of depth. No ROS needed."""

from __future__ import annotations

import numpy as np

from dvmvs_ros.messages.preview import colour_depth


def test_near_is_red_far_is_blue_and_invalid_is_black():
    depth = np.array(((0.1, 0.5, 10.0, 50.0), (0.0, np.nan, np.inf, -1.0)), np.float32)
    picture = colour_depth(depth, near_m=0.5, far_m=10.0).astype(int)
    near, far = picture[0, 1], picture[0, 2]
    assert near[0] > 2 * near[2] and far[2] > far[0]
    assert picture[0, 0].tolist() == near.tolist() and picture[0, 3].tolist() == far.tolist(), "clipped at the ends"
    assert not picture[1].any()


def test_a_distance_has_one_colour_whatever_else_the_image_holds():
    alone = colour_depth(np.array([[2.0]]), 0.5, 10.0)[0, 0]
    beside = colour_depth(np.array([[2.0, 0.3, 19.0]]), 0.5, 10.0)[0, 0]
    assert alone.tolist() == beside.tolist()
    assert alone.tolist() != colour_depth(np.array([[2.5]]), 0.5, 10.0)[0, 0].tolist()
