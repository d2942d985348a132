# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Classical plane sweep, winner takes all: what matching alone gives, without anything learned.

The same planes, the same measurement frames and the same warping as the networks. Patches of 3×3 grey values are
compared by zero-mean normalised cross-correlation at half resolution, the scores are averaged over 7×7 windows, and
each pixel takes the plane with the best score.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch.nn import functional

from dvmvs_core.config import EngineConfig, ModelConfig
from dvmvs_core.model.cost_volume import cost_volume, inverse_depth_planes
from dvmvs_core.model.patch_matching import patch_descriptors
from dvmvs_core.preprocess import Preprocessor, normalise
from dvmvs_core.types import DepthPrediction, Frame

WINDOW = 7
"""Side of the windows that scores are averaged over, in pixels at half resolution."""


class PlaneSweep:
    """Predicts depth as `DepthEngine.predict` does, and holds nothing from one call to the next.

    Args:
        config: size, depth range and number of planes.
        device: where to compute.
        crop: crop the image to the network's aspect ratio before resizing, instead of stretching it.

    Attributes:
        model_config: size, depth range and number of planes.
        config: whether to crop.
    """

    def __init__(self, config: ModelConfig, device: torch.device | str = "cpu", crop: bool = False) -> None:
        self.model_config = config
        self.config = EngineConfig(crop=crop)
        self._size = (config.height, config.width)
        self._device = device
        self._inverse_depths = inverse_depth_planes(config.min_depth_m, config.max_depth_m, config.depth_hypotheses)

    def reset(self) -> None:
        """Do nothing: there is nothing to forget."""

    @torch.inference_mode()
    def predict(self, reference: Frame, measurement_frames: list[Frame]) -> DepthPrediction:
        """Return the depth of a reference frame against its measurement frames; all of one camera."""
        started = time.perf_counter()
        preprocessor = Preprocessor(reference.K, reference.image.shape[:2], self._size, crop=self.config.crop)
        resized = preprocessor.image(reference.image)
        costs = cost_volume(
            self._descriptors(resized),
            [self._descriptors(preprocessor.image(frame.image)) for frame in measurement_frames],
            self._tensor(reference.world_T_cam),
            [self._tensor(frame.world_T_cam) for frame in measurement_frames],
            self._tensor(preprocessor.K),
            self._inverse_depths,
            mask_out_of_view=True,
            exact_sampling=True,
        )
        costs = functional.avg_pool2d(costs, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)
        depth = 1 / self._inverse_depths.numpy()[costs.argmax(dim=1)[0].cpu().numpy()]  # (h/2, w/2)
        return DepthPrediction(
            depth=depth.repeat(2, axis=0).repeat(2, axis=1),
            K=preprocessor.K.astype(np.float64),
            image=np.clip(np.rint(resized), 0, 255).astype(np.uint8),
            world_T_cam=reference.world_T_cam,
            stamp_ns=reference.stamp_ns,
            frame_index=reference.index,
            measurement_index=tuple(frame.index for frame in measurement_frames),
            measurement_stamps_ns=tuple(frame.stamp_ns for frame in measurement_frames),
            latency_ms=(time.perf_counter() - started) * 1e3,
        )

    def _descriptors(self, resized: np.ndarray) -> torch.Tensor:
        return patch_descriptors(self._tensor(normalise(resized)))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.asarray(array, dtype=np.float32))[None].to(self._device)
