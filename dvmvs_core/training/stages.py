# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which modules learn in which part of a training run.

FusionNet starts from a trained PairNet: its new memory, and the decoder that must read it, learn first; the rest joins
later. A module that does not learn is frozen altogether: no gradient is computed for it and its batch-norm statistics
stand still.

Source: Düzçeker et al., "DeepVideoMVS", CVPR 2021, section 4 and its supplement.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from torch import nn

from dvmvs_core.errors import ConfigError

EVERY_MODULE = ("feature_extractor", "feature_pyramid", "encoder", "lstm_fusion", "decoder", "fine_sweep")


@dataclass(frozen=True)
class Stage:
    """A part of a training run.

    Args:
        name: what the log calls it.
        share: the part of the whole run that it takes, 0…1.
        trained: names of the network's modules that learn; the others are frozen.
        predicted_state: how often the hidden state is warped with the depth that the network predicted, as at
            inference, instead of ground-truth depth, 0…1. PairNet has no state and ignores it.
        batch_norm: whether the batch-norm statistics and affine weights of the modules that learn, learn too.
        calibrate: whether the batch-norm statistics are estimated again when the stage begins.
        learning_rate: Adam's highest rate in this stage; None takes that of the run.
    """

    name: str
    share: float
    trained: tuple[str, ...] = EVERY_MODULE
    predicted_state: float = 0.0
    batch_norm: bool = True
    calibrate: bool = False
    learning_rate: float | None = None


PAIRNET_STAGES = (
    Stage("everything", 0.8),
    Stage("everything, batch norm fixed", 0.2, batch_norm=False, calibrate=True),
)
"""From random weights. In the end the network trains on the statistics that it will be used with."""

TUNING_STAGES = (Stage("tuning, batch norm fixed", 1.0, batch_norm=False, calibrate=True),)
"""PairNet from trained weights, as for another input size, at which its statistics are others."""

FUSIONNET_STAGES = (
    Stage("memory and decoder", 0.15, ("lstm_fusion", "decoder", "fine_sweep"), batch_norm=False),
    Stage("all but the extractor", 0.35, EVERY_MODULE[1:], batch_norm=False),
    Stage("everything", 0.3, predicted_state=0.5, batch_norm=False),
    Stage("everything, predicted state", 0.2, predicted_state=1.0, batch_norm=False),
)
"""Gradual unfreezing. Batch norm stays as PairNet left it, since a clip's frames resemble each other too much to
estimate statistics from a small batch of them."""


FUSIONNET_TUNING_STAGES = (
    Stage("tuning, batch norm fixed", 0.6, predicted_state=0.5, batch_norm=False),
    Stage("tuning, predicted state", 0.4, predicted_state=1.0, batch_norm=False),
)
"""FusionNet from a trained FusionNet, as for another input size. Its statistics stay: it has learned to live with
those of the PairNet that it came from, and with its own it loses nearly all (abs rel 0.77 in place of 0.08 where a
network of 160×128 first saw 320×256)."""

FINE_SWEEP_STAGES = (
    Stage("fine sweep", 0.25, ("fine_sweep",), predicted_state=1.0, batch_norm=False, learning_rate=1e-3),
    Stage("everything", 0.4, predicted_state=0.5, batch_norm=False),
    Stage("everything, predicted state", 0.35, predicted_state=1.0, batch_norm=False),
)
"""FusionNet from one without a fine sweep: that learns alone at first, which costs a third of a step of the whole."""

LAST_STAGE = Stage("cell, predicted state", 1.0, ("lstm_fusion",), 1.0, batch_norm=False, learning_rate=5e-5)
"""The paper's last stage, which the public code lacks: only the cell learns, and the hidden state is warped with
predicted depth, as it will be at inference."""
LAST_STAGE_STEPS = 25_000

PUBLISHED_STAGES = {
    "pairnet": (Stage("all but the extractor", 2.0, EVERY_MODULE[1:]), Stage("everything", math.inf)),
    "fusionnet": (
        Stage("memory and decoder", 1.0, ("lstm_fusion", "decoder")),
        Stage("all but the extractor", 1.0, EVERY_MODULE[1:]),
        Stage("everything", math.inf),
        LAST_STAGE,
    ),
}
"""The stages as published; `share` holds epochs here (infinity: all that is left) and 1 for the last stage."""


def published_stages(
    network: str, steps: int, epoch_steps: int, last_stage_steps: int = LAST_STAGE_STEPS
) -> tuple[Stage, ...]:
    """Return the published stages as shares of a run.

    Args:
        network: "pairnet" or "fusionnet".
        steps: of the whole run.
        epoch_steps: of one pass over the data.
        last_stage_steps: of FusionNet's last stage.

    Raises:
        ConfigError: if the run is too short for them.
    """
    stages = PUBLISHED_STAGES[network]
    lengths = [last_stage_steps if stage is LAST_STAGE else stage.share * epoch_steps for stage in stages]
    fixed = sum(length for length in lengths if math.isfinite(length))
    if fixed >= steps:
        raise ConfigError(
            f"the published schedule of {network} has {fixed:.0f} steps before and after its longest stage"
            f" ({epoch_steps} an epoch); give more steps than that, got {steps}"
        )
    return tuple(
        dataclasses.replace(stage, share=(length if math.isfinite(length) else steps - fixed) / steps)
        for stage, length in zip(stages, lengths, strict=True)
    )


def stage_at(stages: tuple[Stage, ...], progress: float) -> int:
    """Return the index of the stage that a run has reached.

    Args:
        stages: in order; their shares add up to 1.
        progress: the part of the run that is over, 0…1.
    """
    end = 0.0
    for index, stage in enumerate(stages):
        end += stage.share
        if progress < end - 1e-9:
            return index
    return len(stages) - 1


def enter_stage(network: nn.Module, stage: Stage) -> list[nn.Parameter]:
    """Freeze and unfreeze a network's modules.

    Args:
        network: PairNet or FusionNet; modules that it lacks (PairNet has no lstm_fusion) are passed over.
        stage: what to train.

    Returns:
        The parameters that learn.

    Raises:
        ConfigError: if the stage would train nothing.
    """
    learning = []
    for name, module in network.named_children():
        trained = name in stage.trained
        module.train(trained)
        for parameter in module.parameters():
            parameter.requires_grad_(trained)
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d) and not stage.batch_norm:
                layer.eval().requires_grad_(False)
        learning += [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not learning:
        have = ", ".join(name for name, _ in network.named_children())
        raise ConfigError(f"stage {stage.name!r} trains none of the network's modules: {have}")
    return learning
