# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where a camera sits on the body whose pose is known, as a parameter writes it."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from dvmvs_core.errors import ConfigError
from dvmvs_core.foreign import quoted

SHORTEST, LONGEST = 0.1, 10.0
"""Lengths of a quaternion that a person may write for one of length 1, such as 1 1 1 1."""


def parse_mounting(text: str) -> np.ndarray:
    """Return body_T_camera (4, 4) from numbers between spaces or commas.

    Args:
        text: "x y z roll pitch yaw", metres and radians about fixed axes, as in URDF's `origin`; or
            "x y z qx qy qz qw".

    Raises:
        ConfigError: if it is neither.
    """
    try:
        numbers = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) not in (6, 7) or not np.isfinite(numbers).all():
        raise ConfigError(f"mounting must be 'x y z roll pitch yaw' or 'x y z qx qy qz qw'; got {quoted(text)}")
    turn = numbers[3:]
    if len(turn) == 4 and not SHORTEST < np.hypot.reduce(turn) < LONGEST:
        raise ConfigError(f"mounting's quaternion must have length 1; got {turn}")
    body_T_camera = np.eye(4)
    rotation = Rotation.from_quat(turn) if len(turn) == 4 else Rotation.from_euler("xyz", turn)
    body_T_camera[:3, :3] = rotation.as_matrix()
    body_T_camera[:3, 3] = numbers[:3]
    return body_T_camera
