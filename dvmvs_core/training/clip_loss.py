# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The loss of a clip as one module, which is what several processes need to share gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.model.encoder_decoder import DepthPyramid
from dvmvs_core.training.augmentation import TrainingClip
from dvmvs_core.training.losses import DepthLoss, depth_loss, edge_loss
from dvmvs_core.training.passes import mirrored_predictions, predictions


class ClipLoss(nn.Module):
    """Predicts every frame of a clip and measures the error.

    Args:
        network: the network that is trained.
        kind: which error.
        edge_weight: weight of `edge_loss` added to it.
        mean_over_processes: see `depth_loss`.
    """

    def __init__(
        self,
        network: PairNet | FusionNet,
        kind: DepthLoss,
        edge_weight: float,
        mean_over_processes: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.network = network
        self._kind = kind
        self._edge_weight = edge_weight
        self._mean_over_processes = mean_over_processes

    def forward(
        self,
        clip: TrainingClip,
        measurement_frames: int,
        predicted_state: bool = False,
        mirrored: Sequence[bool] | None = None,
    ) -> Tensor:
        """Return the mean loss of all predictions of a clip.

        The published code sums where this takes the mean, which Adam does not notice.

        Args:
            clip: B clips.
            measurement_frames: most measurement frames of a reference frame.
            predicted_state: see `predictions`.
            mirrored: for each frame, whether PairNet sees it mirrored (see `mirrored_predictions`); None compares
                frames as `predictions` does.
        """
        if mirrored is None:
            predicted = predictions(self.network, clip, measurement_frames, predicted_state)
        else:
            predicted = mirrored_predictions(self.network, clip, mirrored)
        return torch.stack([self._loss(pyramid, truth) for pyramid, truth in predicted]).mean()

    def _loss(self, pyramid: DepthPyramid, truth: Tensor) -> Tensor:
        loss = depth_loss(pyramid, truth, self._kind, self._mean_over_processes)
        if self._edge_weight > 0:
            loss = loss + self._edge_weight * edge_loss(pyramid, truth, self._mean_over_processes)
        return loss
