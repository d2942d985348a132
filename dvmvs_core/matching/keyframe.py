# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What matching knows of a keyframe, and what it found for it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.matching.self_calibration import SelfCalibration

if TYPE_CHECKING:
    from dvmvs_core.matching.descriptors import Descriptors  # needs numba


@dataclass(frozen=True, eq=False)
class MatchedDepth:
    """What matching found for a keyframe, at pixels of its straightened image; on a GPU all arrays are tensors there.

    Attributes:
        depth: (H, W) float32 metres.
        measured_depth: (H/2, W/2) float32 metres as matched, before it was regularised, of pixels 2x; of a past
            keyframe, as `settled`.
        network_depth: (H/2, W/2) float32 metres of the network, of pixels 2x.
        prior: (H/4, W/4) float32 metres that matching started from, of pixels 4x.
        agreement: (H/4, W/4) float32, 0…1: how much of what past keyframes matched agrees with the prior.
        parallax: (H/4, W/4) float32: pixels that a depth step of 25 % moves the point in the best view.
        margin: (H/2, W/2) float32: score of the chosen plane less that of the best other one.
        views: (H/2, W/2) uint8: number of views that have the point in view.
        blindness: (H/4, W/4) float32, 0…1: how little is known of depth, see `matching.blindness`.
        log_odds: (H/2, W/2) float32 that depth is within 10 % of the truth, as the regulariser sees it; None without.
        confidence: (H, W) float32, 0…1, where it came with the depth; None where it is worked out from all this.
        calibration: what is known of the camera after this keyframe.
        pose_error_px: deviation of where poses and focal length say that a point is; infinite without a match.
    """

    depth: np.ndarray
    measured_depth: np.ndarray
    network_depth: np.ndarray
    prior: np.ndarray
    agreement: np.ndarray
    parallax: np.ndarray
    margin: np.ndarray
    views: np.ndarray
    blindness: np.ndarray
    log_odds: np.ndarray | None = None
    confidence: np.ndarray | None = None
    calibration: SelfCalibration = SelfCalibration()
    pose_error_px: float = math.inf

    def settled(self, depth: Tensor) -> MatchedDepth:
        """Return it as later keyframes start from it: with the depth (H/2, W/2) that all the rest has made of it."""
        return replace(self, measured_depth=np.ascontiguousarray(on_host(depth)))

    def moved(self, move: Callable[[Tensor, int], Tensor]) -> MatchedDepth:
        """Return it with what later keyframes start from at other pixels.

        Args:
            move: from maps (C, h, w) and how many pixels a side their cells have to such maps.
        """
        maps = np.stack((self.measured_depth, self.network_depth, self.margin))
        measured, network, margin = move(torch.from_numpy(maps), 2).numpy()
        return replace(self, measured_depth=measured, network_depth=network, margin=margin)

    @functools.cached_property
    def quarter(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`measured_depth`, `network_depth` and `margin` (H/4, W/4) of pixels 4x, which all later keyframes ask for."""
        maps = self.measured_depth, self.network_depth, self.margin
        return tuple(np.ascontiguousarray(x[::2, ::2]) for x in maps)

    def on_host(self) -> MatchedDepth:
        """Return it as arrays, wherever it is."""
        return MatchedDepth(**{field.name: on_host(getattr(self, field.name)) for field in fields(MatchedDepth)})


@dataclass(frozen=True, eq=False)
class MatchingView:
    """A keyframe as matching knows it.

    Attributes:
        descriptors: of its image.
        K: (3, 3) intrinsics, pixels.
        world_T_cam: (4, 4) pose.
        matched: what was matched for it; None where nothing was yet, as for the first keyframe.
        distortion: radial distortion that was taken out of its image before.
    """

    descriptors: Descriptors
    K: np.ndarray
    world_T_cam: np.ndarray
    matched: MatchedDepth | None = None
    distortion: float = 0.0

    def with_depth(self, matched: MatchedDepth) -> MatchingView:
        """Return it as later keyframes need it."""
        return replace(self, matched=matched, descriptors=replace(self.descriptors, levels=None))


def on_host(values: np.ndarray | Tensor | None) -> np.ndarray | None:
    """Return values of any device as an array; what is one already, as it is."""
    return values.cpu().numpy() if isinstance(values, Tensor) else values
