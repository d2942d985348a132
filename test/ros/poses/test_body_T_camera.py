# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The camera's place on its body, as a parameter writes it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

from dvmvs_core.errors import ConfigError  # noqa: E402
from dvmvs_ros.poses.body_T_camera import parse_mounting  # noqa: E402

LOOKING_AHEAD = np.array(((0.0, 0, 1, 0.2), (-1, 0, 0, 0), (0, -1, 0, 0.5), (0, 0, 0, 1)))
"""Optical axis z along the body's x; the image's right x along its right, −y; the image's down y along −z."""


@pytest.mark.parametrize(
    "text",
    ["0.2 0 0.5 -1.57079632679 0 -1.57079632679", "0.2, 0, 0.5, -0.5, 0.5, -0.5, 0.5", "0.2 0 0.5 -1 1 -1 1"],
)
def test_convention_fixed_axes_and_quaternion_x_y_z_w(text):
    np.testing.assert_allclose(parse_mounting(text), LOOKING_AHEAD, atol=1e-9)


@pytest.mark.parametrize("text", ["1 2 3", "0 0 0 0 0 north", "0 0 0 0 0 nan", "0 0 0 0 0 0 0", "1 2 3 4 5 6 7 8"])
def test_what_is_no_place_is_refused(text):
    with pytest.raises(ConfigError, match="mounting"):
        parse_mounting(text)
