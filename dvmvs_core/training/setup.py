# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a training run starts from: a network, and which part of it learns when."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from dvmvs_core.config import ModelConfig, preset
from dvmvs_core.errors import ConfigError
from dvmvs_core.model.checkpoint import load_network, read_info
from dvmvs_core.model.dvmvs import FusionNet, PairNet, build_network
from dvmvs_core.training.stages import (
    FINE_SWEEP_STAGES,
    FUSIONNET_STAGES,
    FUSIONNET_TUNING_STAGES,
    LAST_STAGE,
    PAIRNET_STAGES,
    TUNING_STAGES,
    Stage,
)

ScheduleName = Literal["short", "published", "last-stage"]


@dataclass(frozen=True)
class Schedule:
    """How a network is trained where nothing else is asked for.

    Args:
        frames: of a clip.
        batch_size: clips a step.
        loop: settings of the loop that differ from its own defaults.
    """

    frames: int
    batch_size: int
    loop: dict[str, Any] = field(default_factory=dict)


_PUBLISHED_LOOP = {
    "learning_rate": 1e-4,
    "warm_up_steps": 1,
    "final_rate": 1.0,
    "clip_norm": None,
    "measurement_frames": 1,
    "defects": False,
}

SCHEDULES: dict[tuple[str, str], Schedule] = {
    ("short", "pairnet"): Schedule(3, 3),
    ("short", "fusionnet"): Schedule(5, 2),
    ("published", "pairnet"): Schedule(2, 14, {**_PUBLISHED_LOOP, "mirror": True}),
    ("published", "fusionnet"): Schedule(8, 4, _PUBLISHED_LOOP),
    ("last-stage", "fusionnet"): Schedule(8, 4, _PUBLISHED_LOOP),
}
"""By name and network. "short" makes the most of minutes: a high learning rate that falls, two measurement frames."""


def schedule_of(name: ScheduleName, network: str) -> Schedule:
    """Return a schedule.

    Raises:
        ConfigError: if the network has none of that name.
    """
    if (name, network) not in SCHEDULES:
        raise ConfigError(f"schedule {name} is for fusionnet; {network} has no memory to tune")
    return SCHEDULES[name, network]


def initial_network(
    network: str,
    preset_name: str,
    init: str | None,
    height: int | None,
    width: int | None,
    refinement_channels: int | None = None,
) -> tuple[PairNet | FusionNet, dict[str, nn.Module]]:
    """Build the network to train.

    Args:
        network: "pairnet" or "fusionnet".
        preset_name: sizes of a network that starts from random weights.
        init: weights to start from; a file without a FusionNet gives FusionNet all but its memory and its fine
            sweep from its PairNet.
        height: network input height, or None to keep the preset's or the file's.
        width: network input width, or None.
        refinement_channels: width of the fine sweep, which starts from nothing where the file has none; or None.

    Returns:
        The network; and the PairNet that belongs next to a FusionNet in its file, if there is one.

    Raises:
        WeightsError: if `init` cannot be loaded.
        ConfigError: if they hold no network to start from.
    """
    given = {"height": height, "width": width, "refinement_channels": refinement_channels}
    given = {name: value for name, value in given.items() if value is not None}
    if init is None:
        return build_network(preset(preset_name, network=network, **given)), {}
    held = read_info(init).networks
    origin = network if network in held else "pairnet"
    if origin not in held:
        raise ConfigError(f"{network} needs a pairnet to start from; {init} holds only {', '.join(held)}")
    loaded, config = load_network(init, origin)
    if config.refinement_channels and refinement_channels not in (None, config.refinement_channels):
        raise ConfigError(
            f"the fine sweep of {init} is {config.refinement_channels} channels wide; {refinement_channels} were asked"
            " for: leave them out"
        )
    built = build_network(config.replace(network=network, **given))
    fresh = {key: value for key, value in built.state_dict().items() if key.startswith(("lstm_fusion.", "refinement."))}
    built.load_state_dict({**fresh, **loaded.state_dict()})
    return built, _companion(init, network)


def stages_of(config: ModelConfig, init: str | None, last_stage: bool = False) -> tuple[Stage, ...]:
    """Choose what learns when in a short run: a network that goes on from its own weights is tuned as a whole.

    Args:
        config: of the network.
        init: weights that it starts from, or None.
        last_stage: train the last stage alone.

    Raises:
        ConfigError: if only the last stage is asked for, and there is no FusionNet to tune.
    """
    origin = None if init is None else read_info(init).networks.get(config.network)
    if last_stage:
        if origin is None:
            raise ConfigError("schedule last-stage tunes a trained FusionNet; name one as init")
        return (LAST_STAGE,)
    if origin is None:
        return FUSIONNET_STAGES if config.network == "fusionnet" else PAIRNET_STAGES
    if config.network == "fusionnet":
        adds_fine_sweep = config.refinement_channels and not origin.refinement_channels
        return FINE_SWEEP_STAGES if adds_fine_sweep else FUSIONNET_TUNING_STAGES
    if (origin.height, origin.width) == (config.height, config.width):
        # The statistics are right, and few batches would replace them.
        return tuple(dataclasses.replace(stage, calibrate=False) for stage in TUNING_STAGES)
    return TUNING_STAGES


def _companion(init: str, network: str) -> dict[str, nn.Module]:
    """The PairNet of a file that a FusionNet starts from."""
    if network != "fusionnet" or "pairnet" not in read_info(init).networks:
        return {}
    return {"pairnet": load_network(init, "pairnet")[0]}
