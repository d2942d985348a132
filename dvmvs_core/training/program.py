# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Everything from nothing: PairNet, then FusionNet from it, each at half size first, where steps are cheap.

The parts are runs of their own in folders of their own. A part that is finished is not done again, and one that was
stopped goes on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from dvmvs_core.config import SIZE_MULTIPLE, preset
from dvmvs_core.errors import ConfigError, WeightsError
from dvmvs_core.model.checkpoint import load_network, read_info, save_checkpoint
from dvmvs_core.training.clip_sources import HeldOutWorlds
from dvmvs_core.training.losses import DepthLoss
from dvmvs_core.training.processes import Processes
from dvmvs_core.training.run_folder import CHECKPOINT_NAME
from dvmvs_core.training.training_run import RunPlan, build_trainer


@dataclass(frozen=True)
class ProgramPart:
    """One part of the program.

    Args:
        name: of its folder.
        network: which network.
        half_size: whether it trains at half the height and width.
        share: of the time of the whole program.
        batch_size: clips a step on a CPU.
        frames: of a clip.
        loop: settings of the loop.
        adds_fine_sweep: whether the fine sweep joins here, in a network that may have one.
    """

    name: str
    network: str
    half_size: bool
    share: float
    batch_size: int
    frames: int
    loop: dict
    adds_fine_sweep: bool = False


_TUNING = {"learning_rate": 5e-4, "warm_up_steps": 20, "loss": DepthLoss.L1_RELATIVE}
_FINEST = {**_TUNING, "learning_rate": 4e-4, "edge_weight": 1.0}
PROGRAM = (
    ProgramPart("1-pairnet-half", "pairnet", True, 0.15, 4, 3, {"loss": DepthLoss.L1_INVERSE}),
    ProgramPart("2-pairnet", "pairnet", False, 0.10, 2, 3, _TUNING),
    ProgramPart("3-fusionnet-half", "fusionnet", True, 0.35, 3, 5, {**_TUNING, "learning_rate": 7e-4}),
    ProgramPart("4-fusionnet", "fusionnet", False, 0.40, 1, 5, _FINEST, adds_fine_sweep=True),
)
FINE_SWEEP_CHANNELS = 24

_GPU_BATCH_SCALE = 8


def train_everything(plan: RunPlan, processes: Processes, batch_scale: int | None = None) -> Path | None:
    """Run the program, and write `PRESET.safetensors` with both networks into its folder.

    Args:
        plan: preset, size, data and settings of all parts; network, init, batch size and frames are those of each part,
            and the minutes or steps of the loop are those of the whole program.
        processes: those that train together.
        batch_scale: multiplies every batch; by default 1 on a CPU and 8 on a GPU.

    Returns:
        The file; None if the program was interrupted, and goes on where it stopped when it is run again.
    """
    scale = batch_scale or (_GPU_BATCH_SCALE if processes.device.type == "cuda" else 1)
    sizes = preset(plan.preset)
    height, width = plan.height or sizes.height, plan.width or sizes.width
    held_out = HeldOutWorlds((height, width), max(part.frames for part in PROGRAM))
    init, done = None, []
    for part in PROGRAM:
        size = (_half(height), _half(width)) if part.half_size else (height, width)
        own = dataclasses.replace(
            plan,
            network=part.network,
            out=plan.out / part.name,
            init=init,
            height=size[0],
            width=size[1],
            refinement_channels=FINE_SWEEP_CHANNELS if part.adds_fine_sweep and sizes.exact_sampling else None,
            batch_size=part.batch_size * scale,
            frames=part.frames,
            loop={**plan.loop, **part.loop, **_length(plan, part)},
        )
        weights = own.out / f"{part.network}.safetensors"
        if not _finished(weights):
            trainer = build_trainer(own, processes, held_out)
            if (own.out / CHECKPOINT_NAME).exists():
                trainer.resume()
            if not trainer.run():
                return None
        processes.wait()
        init = str(weights)
        done.append({"part": part.name, **read_info(weights).metadata})
    out = plan.out / f"{plan.preset}.safetensors"
    if processes.writes:
        networks = {name: load_network(init, name)[0] for name in ("fusionnet", "pairnet")}
        save_checkpoint(out, networks, {"data": list(plan.data), "parts": done})
    return out


def _finished(weights: Path) -> bool:
    """Whether the run that writes these weights has come to its end."""
    try:
        return weights.exists() and bool(read_info(weights).metadata.get("finished"))
    except WeightsError:
        return False


def _length(plan: RunPlan, part: ProgramPart) -> dict[str, float | int]:
    """The minutes or steps of a part."""
    minutes, steps = plan.loop.get("minutes"), plan.loop.get("steps")
    if (minutes is None) == (steps is None):
        raise ConfigError(f"give either minutes or steps of the whole program; got {minutes} and {steps}")
    return {"minutes": minutes * part.share} if steps is None else {"steps": max(1, round(steps * part.share))}


def _half(side: int) -> int:
    """Half a side, to the next multiple that networks take; FusionNet needs two of them."""
    return max(2, round(side / 2 / SIZE_MULTIPLE)) * SIZE_MULTIPLE
