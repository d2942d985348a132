# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""The scale of poses by sensor depth: at which scale the points of one image are seen where they are in another.

A point of depth d at x_a is seen at R x_a d + t / s, if the poses are s times as large as the world. Compared as
pixels, so that points and pairs without parallax say nothing instead of something wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dvmvs_core.evaluation.trajectory.pose_track import PoseTrack
from dvmvs_core.evaluation.trajectory.view_pairs import MIN_POINTS, ViewPairs, outlier_cost, refined_minimum, resampled

LARGEST_SCALE, COARSE_SCALE, FINE_SCALE = 10.0, 1.05, 1.01

INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class PoseScale:
    """How many times as large as the world the poses are.

    Attributes:
        scale: the scale at which poses and sensor depth agree best.
        interval: lower and upper end of where it lies with 95 % (bootstrap over stretches).
    """

    scale: float
    interval: tuple[float, float]


def find_scale(
    pairs: ViewPairs, poses: PoseTrack, offset_s: float = 0.0, focal_factor: float = 1.0
) -> PoseScale | None:
    """Search for the scale of the poses.

    Args:
        pairs: pairs of images; those with sensor depth are used.
        poses: camera-to-world, x right, y down, z forward.
        offset_s: added to the stamps of the images.
        focal_factor: what the focal length is multiplied by.

    Returns:
        The scale, or None where there is no sensor depth.
    """
    b_T_a = pairs.relative_poses(poses, offset_s)
    both = np.isfinite(pairs.sensor_depth) & np.isfinite(pairs.rays).all(axis=(0, 3))
    chosen = (both.sum(axis=1) >= MIN_POINTS) & np.isfinite(b_T_a[:, 0, 0])
    if not chosen.any():
        return None
    pairs, b_T_a = pairs.subset(chosen), b_T_a[chosen]
    x_a, x_b = pairs.rays / focal_factor
    turned = np.concatenate((x_a, np.ones_like(x_a[..., :1])), -1) @ b_T_a[:, :3, :3].transpose(0, 2, 1)
    turned = turned * pairs.sensor_depth[..., None]
    t = b_T_a[:, None, :3, 3]

    def costs(logs: np.ndarray) -> np.ndarray:
        found = []
        for log in logs:
            point = turned + t * np.exp(-log)
            with np.errstate(invalid="ignore", divide="ignore"):
                offset = np.linalg.norm(point[..., :2] / point[..., 2:] - x_b, axis=-1)
            offset = np.where(point[..., 2] > 0, offset, np.where(np.isnan(offset), np.nan, 1.0))
            found.append(outlier_cost(offset * pairs.focal_px * focal_factor))
        return np.array(found).T  # (P, L)

    logs = np.arange(-np.log(LARGEST_SCALE), np.log(LARGEST_SCALE), np.log(COARSE_SCALE))
    totals = resampled(pairs.stretch) @ costs(logs)
    low, high = logs[totals.argmin(axis=1)].min(), logs[totals.argmin(axis=1)].max()
    coarse = np.log(COARSE_SCALE)
    logs = np.arange(low - coarse, high + coarse, np.log(FINE_SCALE))
    fine = costs(logs)
    found = [refined_minimum(logs, total) for total in (fine.sum(axis=0), *(resampled(pairs.stretch) @ fine))]
    scales = np.exp(found)
    lower, upper = np.percentile(scales[1:], INTERVAL)
    return PoseScale(float(scales[0]), (float(lower), float(upper)))
