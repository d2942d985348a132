# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What training a network means: its loss, what is drawn for a step, and what validation measures.

The published networks and `base` differ in this and in nothing else of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from dvmvs_core.data.synthetic.clips import ClipBatch
from dvmvs_core.model.base import BaseNet
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.model.score_volume import VOLUME_STRIDE
from dvmvs_core.training.augmentation import TrainingClip, prepare_clip
from dvmvs_core.training.base_figures import base_figures
from dvmvs_core.training.base_losses import base_loss
from dvmvs_core.training.base_passes import HintDraws, base_predictions, draw_hints
from dvmvs_core.training.clip_loss import ClipLoss
from dvmvs_core.training.losses import LossMeter
from dvmvs_core.training.passes import predictions
from dvmvs_core.training.stages import Stage

if TYPE_CHECKING:
    from dvmvs_core.training.loop import LoopConfig


class Task(Protocol):
    """What the loop asks of a kind of network."""

    def loss(
        self, network: nn.Module, config: LoopConfig, mean_over_processes: Callable[[Tensor], Tensor]
    ) -> nn.Module:
        """Return a module that takes a clip and what was drawn for the step to a scalar loss."""

    def draw(self, rng: np.random.Generator, config: LoopConfig, stage: Stage, clip: TrainingClip) -> tuple[Any, ...]:
        """Draw what the loss of a step takes beside the clip: the same in every process."""

    def validate(self, network: nn.Module, batches: Sequence[ClipBatch], measurement_frames: int) -> dict[str, float]:
        """Return errors on clips, as at inference, by name."""

    def last_depths(self, network: nn.Module, clip: TrainingClip, measurement_frames: int) -> tuple[Tensor, Tensor]:
        """Return predicted and true depth of the last frames, (B, H, W) or, with those of all frames, (B·T, H, W)."""


class PublishedTask:
    """PairNet and FusionNet."""

    def loss(
        self, network: nn.Module, config: LoopConfig, mean_over_processes: Callable[[Tensor], Tensor]
    ) -> nn.Module:
        """Return the loss over five scales."""
        return ClipLoss(network, config.loss, config.edge_weight, mean_over_processes)

    def draw(
        self, rng: np.random.Generator, config: LoopConfig, stage: Stage, clip: TrainingClip
    ) -> tuple[int, bool, list[bool] | None]:
        """Draw the measurement frames, whether the state is warped with predicted depth, and what is mirrored."""
        measured = int(rng.integers(1, config.measurement_frames, endpoint=True))
        predicted_state = rng.random() < stage.predicted_state
        mirrored = (rng.random(clip.image.shape[1]) > 0.5).tolist() if config.mirror else None
        return measured, predicted_state, mirrored

    @torch.no_grad()
    def validate(self, network: nn.Module, batches: Sequence[ClipBatch], measurement_frames: int) -> dict[str, float]:
        """Return the four losses at full resolution."""
        meter = LossMeter()
        for batch in batches:
            for pyramid, truth in predictions(network, prepare_clip(batch), measurement_frames, True):
                meter.add(pyramid.full, truth)
        return meter.means()

    @torch.no_grad()
    def last_depths(self, network: nn.Module, clip: TrainingClip, measurement_frames: int) -> tuple[Tensor, Tensor]:
        """Return what was predicted last: of PairNet all frames."""
        *_, (pyramid, truth) = predictions(network, clip, measurement_frames, True)
        return pyramid.full, truth


class BaseTask:
    """`base`."""

    def loss(
        self, network: nn.Module, config: LoopConfig, mean_over_processes: Callable[[Tensor], Tensor]
    ) -> nn.Module:
        """Return its loss; processes with different numbers of valid pixels count alike."""
        return _BaseClipLoss(network)

    def draw(
        self, rng: np.random.Generator, config: LoopConfig, stage: Stage, clip: TrainingClip
    ) -> tuple[int, HintDraws]:
        """Draw the measurement frames and what becomes of the hints."""
        measured = int(rng.integers(1, config.measurement_frames, endpoint=True))
        size = tuple(side // VOLUME_STRIDE for side in clip.image.shape[-2:])
        return measured, draw_hints(rng, len(clip.image), size)

    @torch.no_grad()
    def validate(self, network: nn.Module, batches: Sequence[ClipBatch], measurement_frames: int) -> dict[str, float]:
        """Return the figures of the network and of its scores alone."""
        clips = (prepare_clip(batch) for batch in batches)
        steps = (step for clip in clips for step in base_predictions(network, clip, measurement_frames))
        return base_figures(steps, network.planes)

    @torch.no_grad()
    def last_depths(self, network: nn.Module, clip: TrainingClip, measurement_frames: int) -> tuple[Tensor, Tensor]:
        """Return what was predicted last."""
        *_, step = base_predictions(network, clip, measurement_frames)
        return step.prediction.depth, step.truth


class _BaseClipLoss(nn.Module):
    def __init__(self, network: BaseNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, clip: TrainingClip, measurement_frames: int, draws: HintDraws) -> Tensor:
        """Return the mean loss of all predictions of a clip."""
        steps = base_predictions(self.network, clip, measurement_frames, draws)
        return torch.stack([base_loss(step.prediction, step.truth, self.network.planes) for step in steps]).mean()


def task_of(network: PairNet | FusionNet | BaseNet) -> Task:
    """Return what training a network means."""
    return BaseTask() if isinstance(network, BaseNet) else PublishedTask()
