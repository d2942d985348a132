# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What poses allow to be measured: a point that they say is elsewhere looks as if it had another depth.

Symbols: (h, w) cells of a grid.
"""

from __future__ import annotations

import math

from torch import Tensor

from dvmvs_core.confidence import WITHIN

LEAST_PARALLAX_PX = 0.01
"""What counts where there is less, so that a confidence of 0 says that no keyframe has the point in view."""

ALLOWED_PER_PIXEL = math.log(WITHIN) / math.log(1.25) / math.sqrt(2)
"""What the parallax of a 25 % step, over the deviation of a pose in pixels, is multiplied by for `erf` to say how often
depth is right."""


def allowed_by_poses(parallax: Tensor, pose_error_px: float | Tensor) -> Tensor:
    """Return the probability (h, w) that depth is within 10 % of the truth if only poses are off.

    Args:
        parallax: (h, w) pixels that a depth step of 25 % moves the point.
        pose_error_px: deviation of where poses and focal length say that a point is.
    """
    return (parallax.clamp(min=LEAST_PARALLAX_PX) * ALLOWED_PER_PIXEL / pose_error_px).erf()
