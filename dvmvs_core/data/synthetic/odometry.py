# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What an odometry makes of the poses of a camera: it drifts, and its clock is not that of the camera."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation


def sample_odometry_error(rng: np.random.Generator) -> float:
    """Draw the scale of one odometry's errors, as `drift` and `mistime` take it: 0 for three in ten, at most 3.

    Most are small, and a fifth is above 1. What these errors do to images can be measured in real ones: how far tracked
    points lie off the epipolar lines that the poses give.
    """
    return 3.0 * max(0.0, rng.uniform(-3.0 / 7.0, 1.0)) ** 3


def mistime(rng: np.random.Generator, world_T_cam: np.ndarray, velocity: np.ndarray, scale: float) -> np.ndarray:
    """Take each pose from a moment too early or too late, as where the clocks of camera and odometry differ.

    Args:
        rng: Source of randomness.
        world_T_cam: (T, 4, 4).
        velocity: (T, 6) as of `camera_velocity`.
        scale: 1 stands for deviations of 1.5 ms that all poses share and 1 ms that they do not.

    Returns:
        (T, 4, 4) float64.
    """
    late_s = scale * (rng.normal(0.0, 0.0015) + rng.normal(0.0, 0.001, len(world_T_cam)))
    moved = velocity * late_s[:, None]
    noisy = world_T_cam.copy()
    noisy[:, :3, 3] += (world_T_cam[:, :3, :3] @ moved[:, :3, None])[..., 0]
    noisy[:, :3, :3] = world_T_cam[:, :3, :3] @ Rotation.from_rotvec(moved[:, 3:]).as_matrix()
    return noisy


def drift(rng: np.random.Generator, world_T_cam: np.ndarray, scale: float) -> np.ndarray:
    """Add an odometry's random walk to poses.

    Args:
        rng: Source of randomness.
        world_T_cam: (T, 4, 4).
        scale: 1 stands for deviations of 4 mm and 0.1 degrees from one pose to the next.

    Returns:
        (T, 4, 4) float64; the first pose is unchanged.
    """
    steps = (len(world_T_cam) - 1, 3)
    offsets = np.cumsum(rng.normal(0.0, 0.004 / np.sqrt(3.0), steps), axis=0) * scale
    angles = np.cumsum(rng.normal(0.0, np.deg2rad(0.1) / np.sqrt(3.0), steps), axis=0) * scale
    noisy = world_T_cam.copy()
    noisy[1:, :3, :3] = Rotation.from_rotvec(angles).as_matrix() @ world_T_cam[1:, :3, :3]
    noisy[1:, :3, 3] += offsets
    return noisy
