# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The points of the latest keyframes as one PLY file, in the frame of the poses."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path

import numpy as np

from dvmvs_core.data.encodings.ply import write_ply
from dvmvs_core.errors import DataError
from dvmvs_core.geometry import backproject
from dvmvs_core.types import DepthPrediction
from dvmvs_ros.messages.conversions import NANOSECONDS, CloudFilter

_POINT = np.dtype([("position", "<f4", 3), ("colour", "u1", 3), ("confidence", "<f4")])


class RecentKeyframes:
    """The latest keyframes with depth, safe to use from several threads."""

    def __init__(self) -> None:
        self._predictions: deque[DepthPrediction] = deque()
        self._lock = threading.Lock()

    def add(self, prediction: DepthPrediction, kept: int) -> None:
        """Remember a keyframe, and forget the oldest beyond so many."""
        with self._lock:
            self._predictions.append(prediction)
            while len(self._predictions) > kept:
                self._predictions.popleft()

    def clear(self) -> None:
        """Forget them all."""
        with self._lock:
            self._predictions.clear()

    def latest(self, count: int) -> list[DepthPrediction]:
        """Return the latest, oldest first."""
        with self._lock:
            return list(self._predictions)[-count:]


def save_cloud(predictions: list[DepthPrediction], points_kept: CloudFilter, folder: Path) -> tuple[Path, int]:
    """Write the points of keyframes as binary PLY: x y z in the world, colour and confidence.

    Keyframes without confidence (nobody asked for it then) are filtered by depth alone, and their points have NaN.

    Args:
        predictions: the keyframes, oldest first; the last one's stamp names the file.
        points_kept: which of their points are written.
        folder: where to; it is made when needed.

    Returns:
        The file, and its number of points.

    Raises:
        DataError: if there is no keyframe or no point, or the file cannot be written.
    """
    if not predictions:
        raise DataError("no keyframe has depth yet; move the camera sideways by about 10 cm and try again")
    cloud = np.concatenate([_points(prediction, points_kept) for prediction in predictions])
    if not cloud.size:
        raise DataError(
            f"none of the points of {len(predictions)} keyframes passes points_min_confidence, points_min_depth_m and"
            " points_max_depth_m; lower the first or widen the range"
        )
    seconds, nanoseconds = divmod(predictions[-1].stamp_ns, NANOSECONDS)
    path = folder / f"cloud_{seconds}_{nanoseconds:09d}.ply"
    try:
        write_ply(path, cloud)
    except OSError as error:
        raise DataError(f"the cloud cannot be written to {path}: {error.strerror}. Set cloud_folder") from error
    return path, len(cloud)


def _points(prediction: DepthPrediction, points_kept: CloudFilter) -> np.ndarray:
    confidence = prediction.confidence
    keep = (
        points_kept.keeps(prediction) if confidence is not None else points_kept.without_confidence().keeps(prediction)
    )
    cloud = np.empty(int(keep.sum()), _POINT)
    points = backproject(np.where(keep, prediction.depth, 0.0), prediction.K)[keep]
    rotation, translation = prediction.world_T_cam[:3, :3], prediction.world_T_cam[:3, 3]
    cloud["position"] = points @ rotation.T + translation
    cloud["colour"] = prediction.image[keep]
    cloud["confidence"] = np.nan if confidence is None else confidence[keep]
    return cloud
