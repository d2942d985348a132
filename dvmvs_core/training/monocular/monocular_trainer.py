# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The loop that trains the head of monocular depth; EfficientNet-Lite0 stays as it is.

A run folder holds `last.pt` (everything needed to go on), `log.jsonl` (one object a line) and `monocular.safetensors`
(the averaged weights). What a step draws depends on the seed and its number.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.config import SIZE_MULTIPLE
from dvmvs_core.errors import ConfigError
from dvmvs_core.model.lite0 import IMAGE_MEAN, IMAGE_SCALE, LEVEL_STAGES, load_lite0
from dvmvs_core.model.monocular import MonocularDepth, MonocularHead, cell_rays, focal_length
from dvmvs_core.runtime.devices import resolve_device
from dvmvs_core.runtime.threads import in_background
from dvmvs_core.training.clip_sources import DataPart
from dvmvs_core.training.loop import LoopConfig
from dvmvs_core.training.monitoring import training_progress
from dvmvs_core.training.monocular.labelled_images import ImageFolders, LabelledImages
from dvmvs_core.training.part_trainer import PartTrainer
from dvmvs_core.training.stopping import stop_on_signal

WEIGHTS_NAME = "monocular.safetensors"
WEIGHT_DECAY = 0.02
IMAGES_A_STEP = 32
_LITE0_TOGETHER = 8  # images at a time: more do not fit a core's cache
_DRAWS = 37  # next to the seed of a run


@dataclass(frozen=True)
class MonocularPlan:
    """What to train on, and how.

    Args:
        out: the run folder.
        data: folders in the training layout.
        loop: length, seed, rates and intervals; what concerns depth networks alone is not looked at.
        height: of the images, pixels.
        width: of the images, pixels.
        held_out: images that figures are made on, where folders name scenes to validate with.
        device: that trains.
        commands: that led to the weights.
    """

    out: Path
    data: tuple[DataPart, ...]
    loop: LoopConfig
    height: int = 256
    width: int = 320
    held_out: int = 64
    device: str = "auto"
    commands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what nothing can be learned from."""
        for name, value in {"height": self.height, "width": self.width}.items():
            if value < SIZE_MULTIPLE or value % SIZE_MULTIPLE:
                raise ConfigError(f"{name} must be a multiple of {SIZE_MULTIPLE}; got {value}")
        if rendered := [part.name for part in self.data if part.synthetic]:
            raise ConfigError(
                f"data must be folders that hold train.txt, since each image is used often; got {rendered[0]}: write"
                " worlds to one with dvmvs synthesize --npz"
            )


class MonocularTrainer(PartTrainer):
    """Trains the head.

    Args:
        plan: what to train on, and how.

    Raises:
        DataError: if there is nothing to learn from, or the run folder cannot be made.
        DeviceError: if the device does not exist.
    """

    def __init__(self, plan: MonocularPlan) -> None:
        self.plan = plan
        self._device = resolve_device(plan.device)
        self._data = ImageFolders(plan.data, plan.height, plan.width)
        self._held_out = ImageFolders(plan.data, plan.height, plan.width, "validation")
        torch.manual_seed(plan.loop.seed)
        network = MonocularHead().to(self._device)
        optimiser = torch.optim.AdamW(network.parameters(), plan.loop.learning_rate, weight_decay=WEIGHT_DECAY)
        super().__init__("monocular depth", plan.out / WEIGHTS_NAME, plan.loop, network, optimiser, plan.commands)
        self._lite0 = load_lite0().to(self._device)
        self._ahead: Future[LabelledImages] | None = None

    def run(self) -> bool:
        """Train to the end of the run, or until the first Ctrl-C or SIGTERM, and write checkpoint and weights.

        Returns:
            Whether the end was reached.

        Raises:
            DataError: if hardly any frame can be read, or the last checkpoint cannot be written.
            WeightsError: if the last weights cannot be written.
        """
        with stop_on_signal() as stop, training_progress(True) as show:
            for step in self._steps(stop):
                if step % self.config.log_steps == 0:
                    self._folder.log({"step": step, "loss": float(np.mean(self._losses))})
                    self._losses.clear()
                show(self.progress, self.elapsed_s, f"step {step}")
        return self._end()

    def train_step(self) -> float:
        """Do one optimiser step and return its loss; a step whose gradient is not finite changes no weight.

        Raises:
            DataError: if that happened in many steps one after the other, or hardly any frame can be read.
        """
        self._set_learning_rate()
        images = self._images()
        torch.manual_seed(1_000_003 * self.config.seed + self.step)  # for dropout
        answer = self._answers(self.network, images)
        loss = monocular_loss(answer, images.depth.to(self._device))
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        return self._finish_step(loss)

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Return figures of the averaged weights on scenes that are not learned from; none where there are none.

        Means over images: `abs_rel` of cells, and `deviations`, the error of log depth over the deviation that the head
        expected, where 1 is right. `scale` is the root mean square of the images' median errors of log depth.
        """
        held_out = self._held_out.spread(self.plan.held_out)
        if not held_out:
            return {}
        scales, relative, deviations = [], [], []
        for images in held_out:
            answer = self._answers(self._average.network, images)
            depth = images.depth.to(self._device)
            valid = depth > 0
            error = answer.log_depth[valid] - depth[valid].log()
            scales.append(error.median())
            relative.append((error.exp() - 1).abs().mean())
            deviations.append((error.abs() / answer.log_deviation[valid].exp()).mean())
        return {
            "images": len(held_out),
            "abs_rel": torch.stack(relative).mean().item(),
            "scale": torch.stack(scales).square().mean().sqrt().item(),
            "deviations": torch.stack(deviations).mean().item(),
        }

    def export(self) -> dict[str, float]:
        """Validate and write the averaged weights, and return the figures.

        Raises:
            WeightsError: if they cannot be written.
        """
        figures = self.validate()
        self._folder.log({"step": self.step, "held_out": figures})
        self._write_weights(figures, (self.plan.height, self.plan.width))
        return figures

    def resume(self) -> None:
        """Go on from the checkpoint in the run folder, see `PartTrainer.resume`."""
        super().resume()
        self._ahead = None

    def _images(self) -> LabelledImages:
        """Images of this step, drawn while the one before was computed."""
        images = self._draw(self.step) if self._ahead is None else self._ahead.result()
        self._ahead = in_background(self._draw, self.step + 1)
        return images

    def _draw(self, step: int) -> LabelledImages:
        return self._data.drawn(np.random.default_rng([self.config.seed, _DRAWS, step]), IMAGES_A_STEP)

    def _answers(self, network: MonocularHead, images: LabelledImages) -> MonocularDepth:
        levels = [torch.cat(parts) for parts in zip(*self._maps(images.image), strict=True)]
        K = images.K.to(self._device)
        return network(*levels, cell_rays(K, *images.image.shape[2:]), focal_length(K))

    @torch.no_grad()
    def _maps(self, image: Tensor) -> Iterator[list[Tensor]]:
        """Lite0's maps at 1/8, 1/16 and 1/32, a few images at a time."""
        for part in image.split(_LITE0_TOGETHER):
            maps = self._lite0((part.to(self._device) - IMAGE_MEAN) / IMAGE_SCALE)
            yield [maps[stage] for stage in LEVEL_STAGES[1:]]


def monocular_loss(answer: MonocularDepth, depth: Tensor) -> Tensor:
    """Return the negative log-likelihood of a Laplace distribution of log depth, a scalar.

    Args:
        answer: of the head.
        depth: (B, n, m) metres, 0 where it is not known.
    """
    valid = depth > 0
    error = (answer.log_depth - torch.where(valid, depth, 1.0).log()).abs()
    losses = error * (-answer.log_deviation).exp() + answer.log_deviation
    return (losses * valid).sum() / valid.sum().clamp(min=1)
