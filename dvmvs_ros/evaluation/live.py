# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth against the truth while both arrive: pairs them by their stamps and keeps the mean of the figures.

No ROS in here: the node hands in decoded messages.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from dvmvs_core.data.bags.bag_depth import DEPTH_TOLERANCE_NS
from dvmvs_core.data.lens.camera_info import CameraModel
from dvmvs_core.data.lens.camera_view import camera_key
from dvmvs_core.data.lens.raw_depth import rectify_depth
from dvmvs_core.errors import MessageError
from dvmvs_core.evaluation.prediction.prediction_pixels import resize_truth
from dvmvs_core.evaluation.scoring.metrics import DepthMetrics, RunningMean, evaluate_depth, valid_truth

TRUTHS_HELD, DEPTHS_HELD = 100, 30
"""How many images wait for their counterpart; the truth of an image comes before its depth."""


class Compared(NamedTuple):
    """One depth image with the truth at its resolution, (h, w) metres both, 0 where there is none or it does not count.

    Attributes:
        stamp_ns: of the image.
        depth: what was published.
        truth: what it should be.
        metrics: how far they are apart.
    """

    stamp_ns: int
    depth: np.ndarray
    truth: np.ndarray
    metrics: DepthMetrics


class LiveScore:
    """Compares depth with the truth.

    Args:
        min_depth_m: pixels whose truth is nearer are left out.
        max_depth_m: pixels whose truth is farther are left out.
        truth_is_raw: whether the truth is on the pixels of raw images, to be rectified by their camera's lens.

    Attributes:
        figures: the mean over all that was compared.
        without_truth: how many depth images had no truth.
    """

    def __init__(self, min_depth_m: float, max_depth_m: float, truth_is_raw: bool) -> None:
        self.figures = RunningMean()
        self.without_truth = 0
        self._range_m = (min_depth_m, max_depth_m)
        self._truth_is_raw = truth_is_raw
        self._camera: CameraModel | None = None
        self._depth_K: np.ndarray | None = None
        self._truths: OrderedDict[int, Callable[[], np.ndarray]] = OrderedDict()
        self._depths: OrderedDict[int, np.ndarray] = OrderedDict()

    def set_camera(self, camera: CameraModel) -> None:
        """Take the intrinsics of the colour images, on whose pixels the truth is."""
        if self._camera is None or camera_key(self._camera) != camera_key(camera):
            self._camera = camera

    def set_depth_intrinsics(self, K: np.ndarray) -> None:
        """Take the intrinsics (3, 3) of the published depth."""
        self._depth_K = K

    def add_truth(self, stamp_ns: int, read: Callable[[], np.ndarray]) -> None:
        """Take a message of the truth.

        Args:
            stamp_ns: its time.
            read: decodes it to (H, W) float32 metres, 0 = invalid, if it is needed.
        """
        self._truths[stamp_ns] = read
        while len(self._truths) > TRUTHS_HELD:
            self._truths.popitem(last=False)

    def add_depth(self, stamp_ns: int, depth: np.ndarray) -> None:
        """Take published depth (h, w) float32 metres, 0 = invalid."""
        self._depths[stamp_ns] = depth
        while len(self._depths) > DEPTHS_HELD:
            self._depths.popitem(last=False)
            self.without_truth += 1

    def compare(self) -> Iterator[Compared]:
        """Yield what can be compared now, once each.

        Raises:
            DataError: if the truth cannot be that of the depth's camera.
            MessageError: if the truth is damaged, or of another size than its camera. What follows can be compared yet.
        """
        if self._camera is None or self._depth_K is None:
            return
        for stamp_ns in list(self._depths):
            read = self._truth_of(stamp_ns)
            if read is None and self._may_come(stamp_ns):
                continue
            depth = self._depths.pop(stamp_ns)
            if read is None:
                self.without_truth += 1
                continue
            yield self._compared(stamp_ns, depth, read())

    def clear(self) -> None:
        """Forget what waits, as after a jump in time; the mean stays."""
        self._truths.clear()
        self._depths.clear()

    def _truth_of(self, stamp_ns: int) -> Callable[[], np.ndarray] | None:
        """The truth nearest in time, once no nearer one can come."""
        if stamp_ns in self._truths:
            return self._truths[stamp_ns]
        nearest_ns = min(self._truths, key=lambda truth_ns: abs(truth_ns - stamp_ns), default=None)
        if nearest_ns is None or abs(nearest_ns - stamp_ns) > DEPTH_TOLERANCE_NS or self._may_come(stamp_ns):
            return None
        return self._truths[nearest_ns]

    def _may_come(self, stamp_ns: int) -> bool:
        """Whether truth at a time may be still on its way."""
        return not self._truths or next(reversed(self._truths)) <= stamp_ns + DEPTH_TOLERANCE_NS

    def _compared(self, stamp_ns: int, depth: np.ndarray, truth: np.ndarray) -> Compared:
        camera = self._camera
        if truth.shape != (camera.height, camera.width):
            raise MessageError(
                f"the truth must have the size of the colour image, {camera.width}×{camera.height}; got"
                f" {truth.shape[1]}×{truth.shape[0]}. It is compared when the bag is evaluated"
            )
        if self._truth_is_raw and camera.lens is not None:
            truth = rectify_depth(truth, camera)
        truth = resize_truth(truth, camera.K, depth.shape, self._depth_K)
        truth = np.where(valid_truth(truth, *self._range_m) & (depth > 0), truth, np.float32(0))
        metrics = evaluate_depth(depth, truth, 0.0)
        self.figures.add(metrics)
        return Compared(stamp_ns, depth, truth, metrics)
