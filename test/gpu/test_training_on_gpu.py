# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Worlds look on a GPU as on a CPU, and a run trains there, saves and goes on."""

from __future__ import annotations

import pytest
import torch

from dvmvs_core.model.regulariser import RegulariserInputs, example_inputs, load_regulariser
from dvmvs_core.synthetic.clips import SyntheticClips
from dvmvs_core.training.loop import LoopConfig
from dvmvs_core.training.processes import single_process
from dvmvs_core.training.regulariser.clip_files import Keyframes, write_clip
from dvmvs_core.training.regulariser.held_out_figures import held_out_figures
from dvmvs_core.training.regulariser.regulariser_trainer import WEIGHTS_NAME, RegulariserPlan, RegulariserTrainer
from dvmvs_core.training.training_run import RunPlan, build_trainer

SIZE = (64, 96)


def test_renderer(device):
    here, there = (SyntheticClips(*SIZE, 3, textures=16, motion_blur=0.0, device=d) for d in (str(device), "cpu"))
    found, expected = here.batch(2, 0), there.batch(2, 0)
    assert found.depth.device.type == device.type
    depth = found.depth.cpu()
    # A ray along an edge may meet either side of it.
    assert ((depth / expected.depth - 1).abs() > 1e-3).float().mean() < 0.01
    assert torch.equal(found.world_T_cam.cpu(), expected.world_T_cam)
    difference = (found.image.cpu().float() - expected.image.float()).abs()
    assert difference.mean() < 3 and expected.image.float().std() > 10


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("network", ["pairnet", "fusionnet"])
def test_a_run_trains_saves_and_goes_on(device, tmp_path, network, precision):
    processes = single_process(str(device))

    def trainer(steps):
        plan = RunPlan(
            network,
            tmp_path,
            height=SIZE[0],
            width=SIZE[1],
            batch_size=1,
            frames=3,
            workers=1,
            held_out_batches=1,
            loop={"steps": steps, "precision": precision, "log_steps": 1},
        )
        return build_trainer(plan, processes)

    trains_saves_and_goes_on(trainer)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_regulariser_trains_saves_and_goes_on(device, tmp_path, precision):
    for folder in ("clips", "held_out"):
        write_clip(tmp_path / folder / "00000.npz", random_keyframes())

    def trainer(steps):
        loop = LoopConfig(steps=steps, precision=precision, log_steps=1)
        sizes = {"height": SIZE[0], "width": SIZE[1], "workers": 0, "clips": 1, "held_out": 1}
        return RegulariserTrainer(RegulariserPlan(tmp_path, loop, device=str(device), **sizes))

    trains_saves_and_goes_on(trainer)
    regularise = load_regulariser(tmp_path / WEIGHTS_NAME).to(device)
    figures = held_out_figures(regularise, [random_keyframes().to(device)])
    assert figures["regularised_abs_rel"] == pytest.approx(figures["matched_abs_rel"], rel=0.2)


def random_keyframes() -> Keyframes:
    """Two keyframes of a wall 2 m away, matched with errors."""
    torch.manual_seed(0)
    inputs = (0.1 * torch.randn(2, *part.shape[1:]) for part in example_inputs(*SIZE))
    inputs = RegulariserInputs(*inputs)._replace(image=torch.randint(0, 255, (2, 3, *SIZE)).float())
    return Keyframes(inputs, torch.full((2, 1, 1, 1), 0.7), torch.full((2, 1, *SIZE), 2.0))


def trains_saves_and_goes_on(trainer):
    """For a function that gives a trainer of so many steps, always in one folder."""
    first = trainer(2)
    before = [p.clone() for p in first.network.parameters()]
    assert first.run()
    changed = [not torch.equal(a, b) for a, b in zip(before, first.network.parameters(), strict=True)]
    assert any(changed) and all(torch.isfinite(p).all() for p in first.network.parameters())
    again = trainer(3)
    again.resume()
    assert again.step == 2
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), again.network.parameters(), strict=True))
    assert again.run() and again.step == 3
