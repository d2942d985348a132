# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Rates of training: frames a second, what a step takes, and what keeps the device busy; as JSON.

    python benchmarks/training_rates.py --device cuda OUT.json

Each figure is written as soon as it is known, so that a run that is ended early leaves those before it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from profiled_operations import longest

STARTED = time.monotonic()

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dvmvs_core.atomic import replacing  # noqa: E402

WARM_UP = 3


def main() -> None:
    """Measure one size after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", nargs="+", default=["160x128x24", "320x256x8"], help="WIDTHxHEIGHTxCLIPS of a step")
    parser.add_argument("--frames", type=int, default=5, help="of a clip")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--seconds", type=float, default=12.0, help="of steps that are measured, for each size")
    parser.add_argument("--workers", type=int, help="processes that draw worlds; by default one less than cores")
    options = parser.parse_args()
    figures: dict[str, object] = {}
    for size in options.sizes:
        for name, value in _size(size, options):
            figures[f"{size}: {name}"] = value
            with replacing(options.out) as unfinished:
                unfinished.write_text(json.dumps(figures, indent=2) + "\n")
            print(size, name, value, flush=True)


def _size(size: str, options: argparse.Namespace) -> Iterator[tuple[str, object]]:
    """Yield names and values of what is measured of FusionNet at a size."""
    from dvmvs_core.training.processes import single_process
    from dvmvs_core.training.training_run import RunPlan, build_trainer

    width, height, clips = map(int, size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        plan = RunPlan(
            "fusionnet",
            Path(folder),
            init="small",
            height=height,
            width=width,
            batch_size=clips,
            frames=options.frames,
            workers=options.workers,
            held_out_batches=1,
            loop={"steps": 10**9, "precision": options.precision},  # its end, and so its last stages, never come
            exact_timing=True,
        )
        trainer = build_trainer(plan, single_process(options.device))
        yield "built, seconds after the start", round(time.monotonic() - STARTED, 1)
        batches = trainer.clips(0)
        trainer.train_step(next(batches))
        yield "first step, seconds after the start", round(time.monotonic() - STARTED, 1)
        for batch in islice(batches, WARM_UP):
            trainer.train_step(batch)
        steps, phases = _steps(trainer, batches, options.seconds)
        yield "steps", len(steps)
        yield "frames a second", round(len(steps) * clips * options.frames / sum(steps), 1)
        yield "step, ms", round(1e3 * statistics.median(steps), 1)
        yield "phases, ms", {name: round(1e3 * statistics.median(p[name] for p in phases), 1) for name in phases[0]}
        yield "peak, MiB", _peak_mib(options.device)
        yield "operations, ms", _operations(trainer, next(batches))


def _steps(trainer, batches, seconds: float) -> tuple[list[float], list[dict[str, float]]]:
    """Seconds of steps and of their phases; what was drawn ahead is used up first, if there is time."""
    steps, phases = [], []
    end = time.monotonic() + seconds
    while time.monotonic() < end or not steps:
        started = time.monotonic()
        trainer.stopwatch.reset()
        with trainer.stopwatch.phase("data"):
            batch = next(batches)
        trainer.train_step(batch)
        steps.append(time.monotonic() - started)
        phases.append(trainer.stopwatch.seconds)
    return steps, phases


def _operations(trainer, batch) -> dict[str, float]:
    """Milliseconds of what takes longest in a step, on the device and on the host, and the number of kernels."""
    from torch.profiler import profile

    with profile() as profiled:
        trainer.train_step(batch)
    return longest(profiled, 40, unit_us=1e3, digits=2)


def _peak_mib(device: str) -> float | None:
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**20, 1) if device.startswith("cuda") else None


if __name__ == "__main__":
    main()
