# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What each choice of the training does to the error on a real sequence: short runs that differ in one thing each.

    python benchmarks/training/ablate.py SCENE --out results.jsonl

Runs go one after the other, each from its own fixed seed: the same number of steps, the same batch, the same schedule.
The networks are scored by `dvmvs evaluate` on SCENE, which nothing is trained on, and their loss is measured on the
same synthetic clips, which nothing is trained on either. One line of JSON a run is added to the results; runs that are
in the file already are not done again, so a stopped benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dvmvs_core.cli.main import main as dvmvs
from dvmvs_core.config import preset
from dvmvs_core.model.checkpoint import load_network, save_checkpoint
from dvmvs_core.model.dvmvs import FusionNet, PairNet, build_network
from dvmvs_core.synthetic.clips import ClipBatch, SyntheticClips
from dvmvs_core.synthetic.paths import CameraPath, WorldProbe
from dvmvs_core.synthetic.textures import TextureBank, build_texture_bank, plain_textures
from dvmvs_core.synthetic.world_tensors import WorldTensors
from dvmvs_core.synthetic.worlds import sample_world
from dvmvs_core.training.augmentation import TrainingClip, augment_clip, draw_clip, prepare_clip
from dvmvs_core.training.losses import DepthLoss, depth_loss
from dvmvs_core.training.optimisation import WeightAverage, learning_rate_at, recompute_batch_norm
from dvmvs_core.training.passes import predictions
from dvmvs_core.training.stages import EVERY_MODULE, Stage, enter_stage

HEIGHT, WIDTH = 128, 160
LEARNING_RATE, WARM_UP_STEPS, CLIP_NORM = 1e-3, 20, 1.0
MEASUREMENT_FRAMES = 2
HELD_OUT_SEED, HELD_OUT_BATCHES = 2**31 - 1, 6
CLIP = (4, 3)
"""Clips and frames of a PairNet batch: 12 reference frames."""
LONG_CLIP = (3, 5)
"""The same of runs about memory: 12 reference frames for FusionNet, whose first frame has nothing to look at."""


class PlainTextures(SyntheticClips):
    """Nothing but nearly uniform surfaces."""

    def make_bank(self) -> TextureBank:
        """Make plain textures."""
        return build_texture_bank(self.seed, self.textures, plain_share=1.0)

    def draw_world(self, rng: np.random.Generator) -> WorldTensors:
        """Draw a world; every surface takes a plain texture."""
        # One texture less counts as plain: a world asks for at least one of the others.
        return sample_world(rng, self.textures, self.textures - 1)


class EmptyRooms(SyntheticClips):
    """Walls, floors and ceilings, with nothing in between."""

    def draw_world(self, rng: np.random.Generator) -> WorldTensors:
        """Draw a world without furniture."""
        return sample_world(rng, self.textures, plain_textures(self.textures), furniture=False)


class SidewaysPaths(SyntheticClips):
    """The camera slides to one side, 12 cm a keyframe, and never turns."""

    def draw_path(self, rng: np.random.Generator, world: WorldTensors, K: np.ndarray) -> CameraPath | None:
        """Slide from where a path of the usual kind begins."""
        found = super().draw_path(rng, world, K)
        if found is None:
            return None
        slide = 0.12 * rng.choice([-1.0, 1.0]) * found.world_T_cam[0, :3, 0]
        poses = np.repeat(found.world_T_cam[:1], self.length, axis=0)
        poses[:, :3, 3] += np.arange(self.length)[:, None] * slide
        if WorldProbe(world).clearance(poses[:, :3, 3]).min() < 0.2:
            return None
        velocity = np.zeros((self.length, 6))
        velocity[:, 0] = 0.6
        return CameraPath(poses, velocity)


@dataclass(frozen=True)
class Run:
    """A training run.

    Args:
        changed: what sets it apart from the baseline.
        seed: of weights, worlds and augmentation.
        clips: makes the worlds.
        model: settings of the network other than those of the preset `small`.
        augment: whether worlds are scaled and recoloured.
        goes_on: the name of the run whose weights it starts from.
        network: "pairnet" or "fusionnet".
        clip: clips and frames of a batch.
    """

    changed: str
    seed: int = 0
    clips: Callable[..., SyntheticClips] = SyntheticClips
    model: dict[str, Any] = field(default_factory=dict)
    augment: bool = True
    goes_on: str | None = None
    network: str = "pairnet"
    clip: tuple[int, int] = CLIP


RUNS = {
    "baseline": Run("nothing"),
    "baseline-1": Run("nothing but the seed", seed=1),
    "empty-rooms": Run("no furniture", clips=EmptyRooms),
    "sideways": Run("paths: sideways only, no turns", clips=SidewaysPaths),
    "plain": Run("textures: plain ones only", clips=PlainTextures),
    "no-augmentation": Run("no scaling, no recolouring", augment=False),
    "planes-32": Run("32 planes", model={"depth_hypotheses": 32}),
    "width-8": Run("hyper_channels 8", model={"hyper_channels": 8}),
    "pairnet-on": Run("goes on, 5-frame clips", goes_on="baseline", clip=LONG_CLIP),
    "fusionnet-on": Run("goes on as FusionNet, 5-frame clips", goes_on="baseline", clip=LONG_CLIP, network="fusionnet"),
    "exact-poses": Run("no pose noise", clips=functools.partial(SyntheticClips, pose_noise=0.0)),
    "sharp": Run("no motion blur", clips=functools.partial(SyntheticClips, motion_blur=0.0)),
    "planes-96": Run("96 planes", model={"depth_hypotheses": 96}),
    "blind": Run(
        "no pose noise, no motion blur", clips=functools.partial(SyntheticClips, pose_noise=0.0, motion_blur=0.0)
    ),
}


@dataclass(frozen=True)
class Settings:
    """What all runs share: steps, (height, width), and where finished weights are kept."""

    steps: int
    size: tuple[int, int]
    weights: Path


def train(run: Run, settings: Settings, start: nn.Module | None) -> PairNet | FusionNet:
    """Train the network of a run.

    Args:
        run: which.
        settings: how long.
        start: the network it goes on from, or None.
    """
    torch.manual_seed(run.seed)
    height, width = settings.size
    network = build_network(preset("small", network=run.network, height=height, width=width, **run.model))
    stage = Stage("everything", 1.0)
    if start is not None:
        fresh = {key: value for key, value in network.state_dict().items() if key.startswith("lstm_fusion.")}
        network.load_state_dict({**fresh, **start.state_dict()})
        stage = Stage("tuning", 1.0, EVERY_MODULE, batch_norm=False)
    network = network.to(memory_format=torch.channels_last)
    learning = enter_stage(network, stage)
    optimiser = torch.optim.Adam(learning, lr=LEARNING_RATE)
    average = WeightAverage(network)
    batch_size, frames = run.clip
    # Another seed for runs that go on: they see new worlds.
    clips = run.clips(height, width, frames, seed=run.seed + (1000 if start is not None else 0))
    for step in range(settings.steps):
        rng = np.random.default_rng([run.seed, 31, step])
        clip = _training_clip(clips.batch(batch_size, step), run, network, rng)
        measured = int(rng.integers(1, MEASUREMENT_FRAMES + 1))
        rate = learning_rate_at(LEARNING_RATE, step, step / settings.steps, WARM_UP_STEPS)
        for group in optimiser.param_groups:
            group["lr"] = rate
        # The state is moved by predicted depth in the second half, as at inference.
        passes = predictions(network, clip, measured, predicted_state=2 * step >= settings.steps)
        loss = torch.stack([depth_loss(pyramid, truth, DepthLoss.L1_INVERSE) for pyramid, truth in passes]).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learning, CLIP_NORM)
        optimiser.step()
        average.update(network, step)
        if step % 20 == 0:
            print(f"{time.strftime('%H:%M:%S')} step {step} loss {loss.item():.3f}", flush=True)
    if stage.batch_norm:
        held = _held_out(settings.size, CLIP)[:HELD_OUT_BATCHES]
        recompute_batch_norm(average.network, [_forward(prepare_clip(batch)) for batch in held])
    return average.network.eval()


def _training_clip(batch: ClipBatch, run: Run, network: nn.Module, rng: np.random.Generator) -> TrainingClip:
    if not run.augment:
        return prepare_clip(batch)
    draws = [draw_clip(rng) for _ in range(len(batch.K))]
    return augment_clip(batch, draws, network.config.min_depth_m, network.config.max_depth_m)


def _forward(clip: TrainingClip) -> Callable[[nn.Module], None]:
    def run(network: nn.Module) -> None:
        for _ in predictions(network, clip, MEASUREMENT_FRAMES, True):
            pass

    return run


@functools.cache
def _held_out(size: tuple[int, int], clip: tuple[int, int]) -> list[ClipBatch]:
    """Batches of worlds that no run sees: for calibration, then for validation."""
    clips = SyntheticClips(*size, clip[1], seed=HELD_OUT_SEED)
    return [clips.batch(clip[0], index) for index in range(2 * HELD_OUT_BATCHES)]


@torch.no_grad()
def synthetic_error(network: PairNet | FusionNet, settings: Settings, clip: tuple[int, int]) -> float:
    """Mean absolute relative error on the held-out worlds."""
    errors = []
    for batch in _held_out(settings.size, clip)[HELD_OUT_BATCHES:]:
        for pyramid, truth in predictions(network, prepare_clip(batch), MEASUREMENT_FRAMES, True):
            errors.append(float(((pyramid.full - truth).abs() / truth).mean()))
    return float(np.mean(errors))


def real_figures(weights: Path, scene: Path) -> dict[str, float]:
    """What `dvmvs evaluate` finds on a scene."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        code = dvmvs(["evaluate", str(scene), "--weights", str(weights), "--json", str(figures)])
        if code != 0:
            raise SystemExit(code)
        found = json.loads(figures.read_text())["all"]
    return {
        "keyframes": found["keyframes"],
        "temporal_disagreement": found["temporal_disagreement"],
        **found["metrics"],
    }


def main() -> None:
    """Do what is not in the results yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path, help="scene folder with sensor depth, to test on")
    parser.add_argument("--out", type=Path, required=True, help="results, one line of JSON a run")
    parser.add_argument("--weights", type=Path, help="folder to keep the trained weights in; by default next to --out")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME", help="only these")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", type=int, nargs=2, default=(HEIGHT, WIDTH), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    weights = options.weights or options.out.with_suffix(".weights")
    weights.mkdir(parents=True, exist_ok=True)
    settings = Settings(options.steps, tuple(options.size), weights)
    done = {json.loads(line)["run"] for line in options.out.read_text().splitlines()} if options.out.exists() else set()
    for name in options.runs:
        if name not in done:
            print(f"{time.strftime('%H:%M:%S')} {name}: {RUNS[name].changed}", flush=True)
            record = _result(name, settings, options.scene)
            with options.out.open("a") as results:
                results.write(json.dumps(record) + "\n")


def _result(name: str, settings: Settings, scene: Path) -> dict[str, Any]:
    run = RUNS[name]
    start = load_network(str(settings.weights / f"{run.goes_on}.safetensors"))[0] if run.goes_on else None
    began = time.process_time()
    network = train(run, settings, start)
    trained_s = time.process_time() - began
    path = settings.weights / f"{name}.safetensors"
    save_checkpoint(path, {run.network: network}, {"ablation": name})
    return {
        "run": name,
        "changed": run.changed,
        "seed": run.seed,
        "steps": settings.steps,
        "batch": run.clip,
        "size": settings.size,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "cpu_minutes": round(trained_s / 60, 2),
        "synthetic_abs_relative_error": synthetic_error(network, settings, run.clip),
        "real": real_figures(path, scene),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpus": os.cpu_count(),
    }


if __name__ == "__main__":
    main()
