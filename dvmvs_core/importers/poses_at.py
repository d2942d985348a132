# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Poses of images from a trajectory: interpolated to their times, and why an image has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dvmvs_core.errors import DataError
from dvmvs_core.exporters.raw_frames import SkippedFrame
from dvmvs_core.exporters.stamps import MILLISECOND_NS
from dvmvs_core.exporters.trajectory_files import Trajectory


def poses_at(
    trajectory: Trajectory, stamps_ns: np.ndarray, names: list[str], max_gap_ms: float, path: Path
) -> list[np.ndarray | SkippedFrame]:
    """Return for each image its pose (4, 4), or why it is left out.

    Args:
        trajectory: the poses.
        stamps_ns: (n,) int64 times of the images in the trajectory's clock.
        names: of the images.
        max_gap_ms: how far away the pose before and the pose after may be.
        path: the trajectory's file, for the message.

    Raises:
        DataError: if no image has a pose, saying which times do not meet.
    """
    poses = trajectory.interpolate(stamps_ns, round(max_gap_ms * MILLISECOND_NS))
    known = np.isfinite(poses[:, 0, 0])
    if not known.any():
        first, last = trajectory.span_ns
        raise DataError(
            f"no image has a pose within {max_gap_ms:g} ms: images are from {stamps_ns[0] / 1e9:.3f} to"
            f" {stamps_ns[-1] / 1e9:.3f} s, and the poses of {path} from {first / 1e9:.3f} to {last / 1e9:.3f} s."
            " If the clocks differ, give the offset"
        )
    reason = f"no pose within {max_gap_ms:g} ms before and after it"
    return [pose if good else SkippedFrame(name, reason) for pose, good, name in zip(poses, known, names, strict=True)]
