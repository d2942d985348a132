# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the tracks of a keyframe tell of the focal length: rotations between the views, over those of the given poses.

A bundle adjustment of its own. Poses are expected to turn rightly to a quarter of a degree: where they may turn by
more, they explain what the focal length does. Prior depth counts for little, also where the past agrees on it: past
depth was matched with the focal length that is in question.
"""

from __future__ import annotations

import math

import numpy as np

from dvmvs_core.matching.bundle_adjustment import adjusted, prior_precision
from dvmvs_core.matching.corner_tracks import CornerTracks
from dvmvs_core.matching.self_calibration import SelfCalibration

EXPECTED_TURN = math.radians(0.25)
"""Deviation of each component of the rotation by which a pose is off, radians."""

EXPECTED_DEPTH = 0.8
"""Deviation of log prior depth of each corner, besides what all share."""


def with_measured_focal(tracks: CornerTracks, calibration: SelfCalibration) -> SelfCalibration:
    """Return what is known of the camera after a keyframe.

    Args:
        tracks: of views that all have some, of corners that all are seen.
        calibration: before it; the tracks' rays are those of its focal length.
    """
    doubt = np.ones(len(tracks.x))
    precision = prior_precision(tracks.view_T_ref, EXPECTED_TURN)
    found = adjusted(tracks, precision, doubt, EXPECTED_DEPTH * doubt, range(len(precision)))
    if not np.isfinite(found.cost):
        return calibration
    total = 1 / np.linalg.inv(found.information)[-1, -1]
    told = total - precision[-1, -1]  # without what the prior says
    if not told > 0:
        return calibration
    log_focal = calibration.log_focal + float(found.solution[-1]) * total / told
    return calibration.with_focal(log_focal, told**-0.5)
