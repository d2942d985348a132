# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Focal length and radial distortion, by what the tracks of one keyframe tell of them.

A bundle adjustment of its own. Poses are expected to turn rightly to a quarter of a degree: where they may turn by
more, they explain what the focal length does. Prior depth counts for little, also where the past agrees on it: past
depth was matched with the intrinsics that are in question.
"""

from __future__ import annotations

import math

import numpy as np

from dvmvs_core.matching.bundle_adjustment import adjusted, prior_precision
from dvmvs_core.matching.corner_tracks import CornerTracks
from dvmvs_core.matching.self_calibration import MAX_DISTORTION, SelfCalibration

EXPECTED_TURN = math.radians(0.25)
"""Deviation of each component of the rotation by which a pose is off, radians."""

EXPECTED_DEPTH = 0.8
"""Deviation of log prior depth of each corner, besides what all share."""


def with_measured_intrinsics(
    tracks: CornerTracks,
    calibration: SelfCalibration,
    removed_distortion: float = 0.0,
    largest_distortion: float = MAX_DISTORTION,
) -> SelfCalibration:
    """Return what is known of the camera after a keyframe.

    Args:
        tracks: of views that all have some, of corners that all are seen.
        calibration: before it; the tracks' rays are those of its focal length.
        removed_distortion: radial distortion that was taken out of all of their images.
        largest_distortion: as much as can be taken out of them.
    """
    doubt = np.ones(len(tracks.x))
    precision = prior_precision(tracks.view_T_ref, EXPECTED_TURN)
    found = adjusted(tracks, precision, doubt, EXPECTED_DEPTH * doubt, range(len(precision)))
    if not np.isfinite(found.cost):
        return calibration
    total = np.linalg.inv(np.linalg.inv(found.information)[-2:, -2:])
    told = total - precision[-2:, -2:]  # without what the prior says
    return calibration.with_intrinsics(told, total @ found.solution[-2:], removed_distortion, largest_distortion)
