# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Shorter arithmetic and compiled parts: the same training, within what they lose."""

from __future__ import annotations

import copy

import pytest
import torch

from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.training.autocast import Arithmetic, compile_parts
from dvmvs_core.training.loop import LoopConfig, Trainer
from dvmvs_core.training.stages import Stage

EVERYTHING = (Stage("everything", 1.0),)
STEPS = 10  # float16 skips the first ones, until its scale fits


def trained(tiny, wall_clips, held_out, folder, precision, network="pairnet", steps=STEPS):
    torch.manual_seed(0)
    config = LoopConfig(steps=STEPS, learning_rate=5e-3, warm_up_steps=2, precision=precision)
    built = build_network(tiny.replace(network=network))
    trainer = Trainer(built, lambda step: iter(()), held_out, EVERYTHING, config, folder)
    batch = wall_clips(0)
    return trainer, [trainer.train_step(batch) for _ in range(steps)]


@pytest.mark.parametrize(("precision", "network"), [("bfloat16", "fusionnet"), ("float16", "pairnet")])
def test_short_arithmetic_learns_too(tiny, wall_clips, held_out, tmp_path, precision, network) -> None:
    _, losses = trained(tiny, wall_clips, held_out, tmp_path / "short", precision, network)
    _, exact = trained(tiny, wall_clips, held_out, tmp_path / "exact", "float32", network, steps=1)
    assert losses[0] == pytest.approx(exact[0], rel=0.02)
    assert losses[0] != exact[0]
    assert losses[-1] < 0.95 * losses[0]


def test_scale_of_float16_is_part_of_the_checkpoint(tiny, held_out, tmp_path) -> None:
    config = LoopConfig(steps=2, precision="float16")
    trainer, again = (
        Trainer(build_network(tiny), lambda step: iter(()), held_out, EVERYTHING, config, tmp_path) for _ in range(2)
    )
    trainer._arithmetic.scaler.load_state_dict({**trainer._arithmetic.scaler.state_dict(), "scale": 128.0})
    trainer.save()
    again.resume()
    assert again._arithmetic.scaler.get_scale() == 128.0


def test_only_float16_scales_its_loss() -> None:
    device = torch.device("cpu")
    assert Arithmetic("float16", device).scaler.is_enabled()
    assert not Arithmetic("bfloat16", device).scaler.is_enabled()
    assert not Arithmetic("float32", device).scaler.is_enabled()


def test_compiled_parts_compute_the_same_and_keep_their_names(tiny) -> None:
    torch.manual_seed(0)
    network = build_network(tiny).eval()
    compiled = copy.deepcopy(network)
    used = []

    def backend(graph, _inputs):
        used.append(graph)
        return graph.forward

    compile_parts(compiled, backend)
    assert list(compiled.state_dict()) == list(network.state_dict())
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(compiled.extract(image), network.extract(image), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert used
