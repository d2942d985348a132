# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Cameras that hover about one thing at arm's length: over a desk, before a shelf, above a bin.

Axes as of `trajectories`: camera x right, y down, z forward; world z up.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.synthetic.trajectories import camera_poses

NEAR_CLEARANCE_M = 0.16
"""A camera at the end of an arm comes closer to things than one that somebody carries."""
_DISTANCE_M = (0.3, 1.1)
_PITCH = (-1.1, 0.2)


def hover(rng: np.random.Generator, targets: np.ndarray, speed: float, duration_s: float, rate_hz: float) -> np.ndarray:
    """Move smoothly about targets, looking at them.

    Args:
        rng: Source of randomness.
        targets: (C, 3) metres, one for each path.
        speed: Metres a second, about.
        duration_s: Length of the paths.
        rate_hz: Poses a second.

    Returns:
        world_T_cam (C, T, 4, 4) float64; nothing says yet that they are clear of the world.
    """
    count = len(targets)
    times = np.arange(int(round(duration_s * rate_hz))) / rate_hz
    yaw, pitch = rng.uniform(-np.pi, np.pi, (count, 1)), rng.uniform(*_PITCH, (count, 1))
    forward = np.stack([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)], -1)  # (C, 1, 3)
    right = np.stack([np.sin(yaw), -np.cos(yaw), 0.0 * yaw], -1)
    up = np.cross(right, forward)
    way = _wander(rng, times, count, 3) * speed
    # An arm moves across its view more than along it.
    offset = way[..., :1] * right + 0.7 * way[..., 1:2] * up + 0.4 * way[..., 2:] * forward
    points = targets[:, None] - rng.uniform(*_DISTANCE_M, (count, 1, 1)) * forward + offset
    # The gaze follows the target only in part: some cameras turn with it, others slide along.
    followed = rng.choice([0.0, 0.5, 1.0], (count, 1, 1))
    gaze = targets[:, None] + (1.0 - followed) * offset - points + 0.05 * speed * _wander(rng, times, count, 3)
    gaze = gaze / np.linalg.norm(gaze, axis=-1, keepdims=True)
    roll = rng.normal(0.0, 0.12, (count, 1)) + 0.02 * _wander(rng, times, count, 1)[..., 0]
    return camera_poses(points, np.arctan2(gaze[..., 1], gaze[..., 0]), np.arcsin(gaze[..., 2].clip(-1.0, 1.0)), roll)


def _wander(rng: np.random.Generator, times: np.ndarray, count: int, channels: int) -> np.ndarray:
    """Smooth curves (C, T, channels) through 0 whose slope is about 1 a second."""
    frequency = rng.uniform([0.15, 0.5], [0.4, 1.0], (count, 1, channels, 2))
    phase = rng.uniform(0.0, 2.0 * np.pi, (count, 1, channels, 2))
    wave = np.sin(2.0 * np.pi * frequency * times[None, :, None, None] + phase) / (2.0 * np.pi * frequency)
    wave = (wave * np.array([1.2, 0.5])).sum(-1)
    return wave - wave[:, :1]
