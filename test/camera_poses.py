# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Poses of cameras that tests put somewhere."""

from __future__ import annotations

import numpy as np
import torch


def pose_at(x: float = 0.0, y: float = 0.0, z: float = 0.0, turned: float = 0.0) -> np.ndarray:
    """world_T_cam (4, 4) float64 of a camera at a place in metres, turned to its right by radians."""
    cosine, sine = np.cos(turned), np.sin(turned)
    return np.array(((cosine, 0, sine, x), (0, 1, 0, y), (-sine, 0, cosine, z), (0, 0, 0, 1)))


def pose_tensor(x: float = 0.0, y: float = 0.0, z: float = 0.0, turned: float = 0.0) -> torch.Tensor:
    """The same as (1, 4, 4) float32."""
    return torch.from_numpy(pose_at(x, y, z, turned)).float()[None]


def fill_pose(pose, world_T_body: np.ndarray) -> None:
    """Write a pose into a geometry_msgs/msg/Pose."""
    from dvmvs_ros.messages.conversions import transform_message

    transform = transform_message(1, "world", "body", world_T_body).transform
    pose.orientation = transform.rotation
    for name in ("x", "y", "z"):
        setattr(pose.position, name, getattr(transform.translation, name))
