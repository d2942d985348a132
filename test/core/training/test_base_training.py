# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Training of `base`: passes over clips, hints, and a run from the command line's side to weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dvmvs_core.config import BaseConfig, preset
from dvmvs_core.errors import ConfigError
from dvmvs_core.model.base import ENCODER_PREFIX
from dvmvs_core.model.checkpoint import load_network, read_info
from dvmvs_core.model.depth_hint import DepthHint
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.training.augmentation import prepare_clip
from dvmvs_core.training.base_passes import HintDraws, base_predictions, disturbed_hint, draw_hints, relative_poses
from dvmvs_core.training.loop import LoopConfig, Trainer
from dvmvs_core.training.pictures import ROWS, contact_sheet
from dvmvs_core.training.precision import compile_parts
from dvmvs_core.training.setup import initial_network, schedule_of, stages_of
from dvmvs_core.training.stages import BASE_STAGES, enter_stage


@pytest.fixture
def tiny_base() -> BaseConfig:
    """`base` at its narrowest, at the size of the walls."""
    return preset("base", height=64, width=96, widths=(8, 8, 8, 8), upsampling_width=8)


@torch.no_grad()
def test_a_clip_is_predicted_frame_by_frame_with_its_own_past(tiny_base, wall_clips) -> None:
    torch.manual_seed(0)
    network = build_network(tiny_base).eval()
    clip = prepare_clip(wall_clips(1, frames=4))
    steps = list(base_predictions(network, clip, measurement_frames=2))
    assert len(steps) == 3
    for frame, step in enumerate(steps, start=1):
        torch.testing.assert_close(step.truth, clip.depth[:, frame])
        # Untrained, it matches: the wall is found to within two planes nearly everywhere.
        off = (step.prediction.depth.log() - step.truth.log()).abs()[:, 12:-12, 12:-12]
        assert (off < 2 * network.plane_step).float().mean() > 0.8


@torch.no_grad()
def test_hints_reach_the_network(tiny_base, wall_clips) -> None:
    network = build_network(tiny_base).eval()
    clip = prepare_clip(wall_clips(1, frames=3))
    cells = (1, 1)
    kept = HintDraws(torch.ones(2), torch.zeros(2), torch.zeros(2, *cells))
    dropped = HintDraws(torch.zeros(2), torch.zeros(2), torch.zeros(2, *cells))
    plain, with_hint, without = (
        [step.prediction.logits for step in base_predictions(network, clip, 2, draws)]
        for draws in (None, kept, dropped)
    )
    torch.testing.assert_close(plain[0], without[0])  # the first has no past
    torch.testing.assert_close(plain[1], with_hint[1])
    assert (plain[1] - without[1]).abs().max() > 0.1


def test_disturbed_hints_keep_what_is_empty_empty() -> None:
    count = torch.tensor([[[[3.0, 0.0]]], [[[3.0, 0.0]]]])
    hint = DepthHint((count > 0) * 0.7, (count > 0) * 0.1, count)
    draws = HintDraws(torch.tensor([1.0, 0.0]), torch.tensor([0.2, 0.2]), torch.full((2, 1, 1), 0.1))
    out = disturbed_hint(hint, draws)
    torch.testing.assert_close(out.log_depth.flatten(), torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert out.count.flatten().tolist() == [3.0, 0.0, 0.0, 0.0]


def test_half_of_the_hints_are_dropped_and_some_disturbed() -> None:
    draws = draw_hints(np.random.default_rng(0), 4000, (16, 24))
    assert draws.parts.shape == (4000, 2, 3)
    assert 0.45 < draws.kept.mean() < 0.55
    assert 0.25 < (draws.shift != 0).float().mean() < 0.35
    assert ((draws.shift != 0) == (draws.parts != 0).any(dim=(1, 2))).all()


def test_relative_poses_lead_from_one_frame_to_another() -> None:
    world_T_cam = torch.eye(4).repeat(1, 3, 1, 1)
    world_T_cam[0, :, 0, 3] = torch.tensor([0.0, 1.0, 3.0])
    torch.testing.assert_close(relative_poses(world_T_cam)[0, 1, 2, :3, 3], torch.tensor([2.0, 0.0, 0.0]))


def test_every_module_but_the_encoder_learns(tiny_base) -> None:
    network = build_network(tiny_base)
    learning = {id(parameter) for parameter in enter_stage(network, BASE_STAGES[0])}
    for name, parameter in network.named_parameters():
        assert (id(parameter) in learning) != name.startswith(ENCODER_PREFIX), name
    assert not network.encoder.training


def test_training_improves_on_the_scores_and_goes_on_from_its_weights(
    tiny_base, wall_stream, held_out, tmp_path
) -> None:
    """A short run on walls leaves less error than it began with; what it wrote starts the next run, at another size."""
    torch.manual_seed(0)
    config = LoopConfig(steps=40, learning_rate=3e-3, warm_up_steps=5, measurement_frames=2, average_decay=0.8)
    trainer = Trainer(build_network(tiny_base), wall_stream, held_out, BASE_STAGES, config, tmp_path)
    before = trainer.validate(trainer.averaged_network())
    assert trainer.run()
    after = trainer.validate(trainer.averaged_network())
    assert after["abs_rel"] < 0.7 * before["abs_rel"]
    assert after["scores_abs_rel"] == pytest.approx(before["scores_abs_rel"])
    weights = tmp_path / "basenet.safetensors"
    assert read_info(weights).metadata["step"] == 40
    again, _ = initial_network("basenet", "base", str(weights), 96, 128)
    assert again.config == tiny_base.replace(height=96, width=128)
    torch.testing.assert_close(again.state_dict(), load_network(weights)[0].state_dict())
    with pytest.raises(ConfigError, match="cannot start from"):
        initial_network("fusionnet", "small", str(weights), None, None)


def test_a_stopped_run_goes_on_to_the_same_numbers(tiny_base, wall_stream, held_out, tmp_path) -> None:
    config = LoopConfig(steps=4, measurement_frames=2)

    def trainer(folder: str) -> Trainer:
        torch.manual_seed(0)
        return Trainer(build_network(tiny_base), wall_stream, held_out, BASE_STAGES, config, tmp_path / folder)

    whole = trainer("whole")
    batches = whole.clips(0)
    losses = [whole.train_step(next(batches)) for _ in range(4)]
    first = trainer("parts")
    batches = first.clips(0)
    for _ in range(2):
        first.train_step(next(batches))
    first.save()
    second = trainer("parts")
    second.resume()
    batches = second.clips(second.step)
    assert [second.train_step(next(batches)) for _ in range(2)] == pytest.approx(losses[2:], rel=1e-5)


def test_bfloat16_training_gives_finite_weights(tiny_base, wall_stream, held_out, tmp_path) -> None:
    config = LoopConfig(steps=3, measurement_frames=2, precision="bfloat16")
    trainer = Trainer(build_network(tiny_base), wall_stream, held_out, BASE_STAGES, config, tmp_path)
    batches = trainer.clips(0)
    assert all(math.isfinite(trainer.train_step(next(batches))) for _ in range(3))
    assert all(parameter.isfinite().all() for parameter in trainer.network.parameters())


def test_sheet_shows_the_last_frames(tiny_base, wall_clips) -> None:
    sheet = contact_sheet(build_network(tiny_base).eval(), [wall_clips(1)] * 10, measurement_frames=2)
    assert sheet.ndim == 3 and sheet.shape[0] % ROWS == 0


def test_its_schedule_and_stages_are_its_own() -> None:
    schedule = schedule_of("short", "basenet")
    assert schedule.frames >= 5 and schedule.loop["measurement_frames"] == 4
    assert stages_of(preset("base"), None) == BASE_STAGES
    with pytest.raises(ConfigError, match="published is for pairnet and fusionnet; basenet has short"):
        schedule_of("published", "basenet")


@torch.no_grad()
def test_it_compiles_as_a_whole_and_computes_the_same(tiny_base, wall_clips) -> None:
    torch.manual_seed(0)
    network = build_network(tiny_base).eval()
    compiled = build_network(tiny_base).eval()
    compiled.load_state_dict(network.state_dict())
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    compile_parts(compiled, backend)
    clip = prepare_clip(wall_clips(1, frames=4))
    for ours, theirs in zip(base_predictions(compiled, clip, 2), base_predictions(network, clip, 2), strict=True):
        torch.testing.assert_close(ours.prediction.depth, theirs.prediction.depth)
    assert len(graphs) == 2  # the first frame of a clip has no memory; neither breaks into parts
