# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`base` over the keyframes of one camera: which past ones each is measured against, and what the past says of it.

This is the plain path, in torch but for the sweep; K may not change from keyframe to keyframe.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.geometry import inverse_pose
from dvmvs_core.matching.relative_view import PRETRAINED
from dvmvs_core.matching.view_selection import best_views
from dvmvs_core.matching.volume import fastest_score_volume
from dvmvs_core.model.base import BaseNet, BasePrediction
from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.depth_hint import DepthHint, depth_hint, no_hint, splat_depth
from dvmvs_core.model.fixed_descriptors import FixedFeatures

UNKNOWN_DEPTH_M = 2.0
"""Taken where nothing is known of depth, to choose the frames that are measured against."""


@dataclass(frozen=True, eq=False)
class _PastKeyframe:
    world_T_cam: np.ndarray
    features: FixedFeatures
    depth: Tensor | None  # (1, H, W) metres; the first keyframe has none


class BaseKeyframes:
    """Predicts the depth of one keyframe after another.

    Args:
        network: in evaluation mode.
        views: past keyframes that each is measured against, ...
        window: ... of so many latest ones.
        past_predictions: latest predictions that make the hint.
    """

    def __init__(self, network: BaseNet, views: int = 4, window: int = 30, past_predictions: int = 12) -> None:
        self._network = network
        self._views = views
        self._past_predictions = past_predictions
        self._past: deque[_PastKeyframe] = deque(maxlen=window)
        self._state: LSTMState | None = None

    def reset(self) -> None:
        """Forget every keyframe, as after tracking was lost."""
        self._past.clear()
        self._state = None

    @torch.no_grad()
    def step(self, image: Tensor, K: np.ndarray, world_T_cam: np.ndarray) -> BasePrediction | None:
        """Predict the depth of a keyframe, and keep it for those to come.

        Args:
            image: (1, 3, H, W) normalised, on the device of the network.
            K: (3, 3) intrinsics at that resolution.
            world_T_cam: (4, 4) pose.

        Returns:
            The prediction; None for the first keyframe, which has nothing to be measured against.
        """
        features = self._network.extract(image)
        if not self._past:
            self._past.append(_PastKeyframe(world_T_cam, features, None))
            return None
        prediction, self._state = self._predict(image, features, K, world_T_cam)
        self._past.append(_PastKeyframe(world_T_cam, features, prediction.depth))
        return prediction

    @torch.no_grad()
    def predict_without_update(self, image: Tensor, K: np.ndarray, world_T_cam: np.ndarray) -> BasePrediction | None:
        """Predict the depth of a frame that does not become a keyframe; None if there is no keyframe yet."""
        if not self._past:
            return None
        return self._predict(image, self._network.extract(image), K, world_T_cam)[0]

    def _predict(
        self, image: Tensor, features: FixedFeatures, K: np.ndarray, world_T_cam: np.ndarray
    ) -> tuple[BasePrediction, LSTMState]:
        intrinsics = self._tensor(K)
        hint = self._hint(intrinsics, world_T_cam)
        chosen = self._measurement_frames(hint, K, world_T_cam, image.shape[-2:])
        scores = fastest_score_volume(
            features,
            [frame.features for frame in chosen],
            [self._tensor(inverse_pose(frame.world_T_cam) @ world_T_cam) for frame in chosen],
            intrinsics,
            self._network.planes,
        )
        hint = hint or no_hint(scores.patch)
        state = self._state
        if state is not None:
            previous_T_cam = self._tensor(inverse_pose(self._past[-1].world_T_cam) @ world_T_cam)
            state = self._network.carry(state, previous_T_cam, hint, intrinsics)
        return self._network(image, features, scores, hint, intrinsics, state)

    def _hint(self, K: Tensor, world_T_cam: np.ndarray) -> DepthHint | None:
        predicted = [frame for frame in self._past if frame.depth is not None][-self._past_predictions :]
        if not predicted:
            return None
        cam_T_world = inverse_pose(world_T_cam)
        return depth_hint(
            [splat_depth(frame.depth, self._tensor(cam_T_world @ frame.world_T_cam), K) for frame in predicted]
        )

    def _measurement_frames(
        self, hint: DepthHint | None, K: np.ndarray, world_T_cam: np.ndarray, size: tuple[int, int]
    ) -> list[_PastKeyframe]:
        """Those that see what the hint shows at a good angle; the latest if none does."""
        cell_from_pixel = np.linalg.inv(PRETRAINED.pixel_from_cell)
        count = len(self._past)
        best = best_views(
            _expected_depth(hint, size),
            cell_from_pixel @ K,
            world_T_cam,
            [cell_from_pixel @ K] * count,
            [frame.world_T_cam for frame in self._past],
            self._views,
        )
        return [self._past[index] for index in best or [count - 1]]

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(array, dtype=np.float32))[None].to(self._network.planes.device)


def _expected_depth(hint: DepthHint | None, size: tuple[int, int]) -> np.ndarray:
    """Depth (h, w) of the cells by the hint, its median where it has none."""
    if hint is None:
        return np.full((size[0] // PRETRAINED.step, size[1] // PRETRAINED.step), UNKNOWN_DEPTH_M, np.float32)
    known = (hint.count[0, 0] > 0).cpu().numpy()
    depth = hint.log_depth[0, 0].exp().cpu().numpy()
    return np.where(known, depth, np.median(depth[known]) if known.any() else UNKNOWN_DEPTH_M).astype(np.float32)
