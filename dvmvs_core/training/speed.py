# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where the time of training steps goes, compared with the same steps done plainly: eager, contiguous, in float32."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch

from dvmvs_core.environment import command_line, hardware, versions
from dvmvs_core.training.loop import Trainer
from dvmvs_core.training.monitoring import PHASES
from dvmvs_core.training.processes import Processes
from dvmvs_core.training.training_run import RunPlan, build_trainer

WARM_UP_STEPS = 2


@dataclass(frozen=True)
class StepTimes:
    """Median seconds of the phases of a step.

    Attributes:
        name: of the way to train.
        clips: of a step.
        frames: of a clip.
        phases: median seconds by phase; "data" is 0 where the batches were ready.
        whole: median seconds of whole steps.
        spread: lower and upper quartile of those.
    """

    name: str
    clips: int
    frames: int
    phases: dict[str, float]
    whole: float
    spread: tuple[float, float]


def measure_speed(plan: RunPlan, processes: Processes, steps: int, folder: Path) -> list[StepTimes]:
    """Train for a while in both ways, and return where the time went.

    First the plan alone, waiting for its data as a real run does; then, on the same batches and in turns, so that
    whatever else the machine does hits both alike, plain steps and those of the plan.

    Args:
        plan: what to train, and how.
        processes: those that train together.
        steps: how many to measure.
        folder: for run folders, which remain empty.
    """
    plan = dataclasses.replace(plan, held_out_batches=1, exact_timing=True)
    # The end of a run is never reached, or its last stages would be measured.
    planned = build_trainer(_endless(plan, folder / "planned"), processes)
    plainly = {**plan.loop, "precision": "float32", "compile": False}
    plain = build_trainer(
        _endless(dataclasses.replace(plan, loop=plainly), folder / "plain"),
        processes,
        memory_format=torch.contiguous_format,
    )
    batches, live = [], []
    stream = planned.clips(0)
    for step in range(WARM_UP_STEPS + steps):
        planned.stopwatch.reset()
        with planned.stopwatch.phase("data"):
            batches.append(next(stream))
        planned.train_step(batches[-1])
        if step >= WARM_UP_STEPS:
            live.append(planned.stopwatch.seconds)
    del stream
    ready: dict[str, list] = {"planned": [], "plain": []}
    for step, batch in enumerate(batches):
        for name, trainer in (("plain", plain), ("planned", planned)):
            seconds = _timed(trainer, batch)
            if step >= WARM_UP_STEPS:
                ready[name].append(seconds)
    clips, frames = batches[0].image.shape[:2]
    return [
        _times("as a run, data live", live, clips, frames),
        _times("as a run, data ready", ready["planned"], clips, frames),
        _times("plain, data ready", ready["plain"], clips, frames),
    ]


def speed_table(times: list[StepTimes]) -> str:
    """Return the figures as a Markdown table; the last entry is what the others are compared with."""
    header = ("steps", "clips/s", "frames/s", *(f"{phase} ms" for phase in PHASES), "step ms (quartiles)", "speed-up")
    rows = [
        (
            each.name,
            f"{each.clips / each.whole:.2f}",
            f"{each.clips * each.frames / each.whole:.2f}",
            *(f"{1e3 * each.phases[phase]:.0f}" for phase in PHASES),
            f"{1e3 * each.whole:.0f} ({1e3 * each.spread[0]:.0f}–{1e3 * each.spread[1]:.0f})",
            f"{times[-1].whole / each.whole:.2f}",
        )
        for each in times
    ]
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def speed_report(times: list[StepTimes], processes: Processes, steps: int) -> str:
    """Return the table as a Markdown page that says what it was measured on.

    Args:
        times: from `measure_speed`.
        processes: those that trained together.
        steps: how many were measured.
    """
    machine = {**hardware(processes.device), **versions()}
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    return (
        "# Where the time of a training step goes\n\n"
        f"Made by `{command_line()}`: medians of {steps} steps, {times[0].clips} clips of {times[0].frames} frames a"
        f" step and process; processes: {processes.size}.\n\n"
        f"{speed_table(times)}\n"
        "*Plain* is the same step eager, in float32, with contiguous weights. *Data live* waits for the processes that"
        " make batches, as a run does; *data ready* repeats those steps on batches that are in memory, in turns with"
        f" the plain ones.\n\nMeasured on: {facts}.\n"
    )


def _endless(plan: RunPlan, out: Path) -> RunPlan:
    return dataclasses.replace(plan, out=out, loop={**plan.loop, "steps": 10**9, "minutes": None})


def _timed(trainer: Trainer, batch) -> dict[str, float]:
    trainer.stopwatch.reset()
    trainer.train_step(batch)
    return trainer.stopwatch.seconds


def _times(name: str, measured: list[dict[str, float]], clips: int, frames: int) -> StepTimes:
    whole = [sum(seconds.values()) for seconds in measured]
    quartiles = statistics.quantiles(whole, n=4) if len(whole) > 1 else [whole[0]] * 3
    phases = {phase: statistics.median(seconds[phase] for seconds in measured) for phase in PHASES}
    return StepTimes(name, clips, frames, phases, statistics.median(whole), (quartiles[0], quartiles[2]))
