# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth as coloured points, as PointCloud2 holds them."""

from __future__ import annotations

import numpy as np

from dvmvs_core.geometry import backproject
from dvmvs_core.types import DepthPrediction

POINT_FIELDS = ("x", "y", "z", "rgb", "confidence")
"""The float32 values of a point, in order; without `confidence` where there is none."""


def cloud_points_of(prediction: DepthPrediction, keep: np.ndarray) -> np.ndarray:
    """Return the points (N, 4 or 5) float32 of a prediction, with as many of `POINT_FIELDS`, in the camera's frame.

    Colour is packed 0x00RRGGBB into the bits of a float32, as RViz and PCL read it.

    Args:
        prediction: depth, image and intrinsics.
        keep: (h, w) bool: the pixels that become points; one whose depth is 0 becomes the camera's centre.
    """
    confidence = prediction.confidence
    points = np.empty((int(keep.sum()), len(POINT_FIELDS) - (confidence is None)), np.float32)
    points[:, :3] = backproject(np.where(keep, prediction.depth, 0.0), prediction.K)[keep]
    red, green, blue = prediction.image[keep].astype(np.uint32).T
    points[:, 3] = (red << 16 | green << 8 | blue).view(np.float32)
    if confidence is not None:
        points[:, 4] = confidence[keep]
    return points
