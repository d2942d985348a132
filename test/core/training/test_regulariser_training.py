# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A short training of the regulariser: it learns, it goes on, it ends cleanly, and its weights load."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from dvmvs_core.cli.main import main
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.model.regulariser import (
    FITS,
    Regularised,
    Regulariser,
    example_inputs,
    load_regulariser,
    prepared,
    regulariser_metadata,
)
from dvmvs_core.training import stopping
from dvmvs_core.training.loop import LoopConfig
from dvmvs_core.training.regulariser.clip_files import Keyframes, joined, write_clip
from dvmvs_core.training.regulariser.held_out_figures import BATCH, held_out_figures
from dvmvs_core.training.regulariser.input_augmentation import augmented
from dvmvs_core.training.regulariser.regulariser_loss import regulariser_loss
from dvmvs_core.training.regulariser.regulariser_trainer import RegulariserPlan, RegulariserTrainer

HEIGHT, WIDTH = 64, 96


def made_up_clip(seed: int, keyframes: int = 3) -> Keyframes:
    """A floor or ceiling at some depth; planes around know it, matching errs by 30 % of the depth in half of the image.

    Where it errs, its margin is 0: that can be learned.
    """
    random = np.random.default_rng(seed)
    parts = example_inputs(HEIGHT, WIDTH)
    inputs = type(parts)(
        *(torch.from_numpy(0.1 * random.normal(size=(keyframes, *part.shape[1:]))).float() for part in parts)
    )
    offset = torch.from_numpy(random.uniform(0.2, 1.2, (keyframes, 1, 1, 1))).float()
    slope = torch.linspace(-0.3, 0.3, HEIGHT).view(1, 1, HEIGHT, 1) * torch.from_numpy(
        random.choice([-1.0, 1.0], (keyframes, 1, 1, 1))
    )
    log_truth = slope.expand(-1, 1, -1, WIDTH).float()
    cells = log_truth[..., ::2, ::2]
    lost = torch.zeros_like(cells)
    lost[..., : WIDTH // 4] = 1
    inputs = inputs._replace(
        image=(128 + 300 * inputs.image).clamp(0, 255).round(),
        matched=cells + 0.3 * lost,
        network=cells.clone(),
        margin=1 - lost,
        views=torch.ones_like(cells),
        prior=log_truth[..., ::4, ::4].clone(),
        fits=log_truth[..., ::4, ::4].repeat(1, FITS, 1, 1),
    )
    return Keyframes(inputs, offset, (log_truth + offset).exp())


@pytest.fixture
def folder(tmp_path):
    """A run folder in which all clips are already."""
    for number in range(4):
        write_clip(tmp_path / "run" / "clips" / f"{number:05d}.npz", made_up_clip(number))
    write_clip(tmp_path / "run" / "held_out" / "00000.npz", made_up_clip(99))
    return tmp_path / "run"


def trainer_for(folder, steps: int | None, **options) -> RegulariserTrainer:
    loop = LoopConfig(steps=steps, warm_up_steps=3, log_steps=1, **options.pop("loop", {}))
    plan = {"height": HEIGHT, "width": WIDTH, "workers": 0, "clips": 4, "held_out": 1, "device": "cpu"}
    return RegulariserTrainer(RegulariserPlan(folder, loop, **{**plan, **options}))


def entries(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_it_learns_whom_to_trust_and_writes_weights_that_load(folder, monkeypatch):
    arguments = ("train", "regulariser", "--out", str(folder), "--steps", "40", "--workers", "0", "--clips", "4")
    arguments += ("--held-out", "1", "--height", str(HEIGHT), "--width", str(WIDTH), "--log-steps", "1")
    arguments += ("--precision", "bfloat16", "--device", "cpu")
    monkeypatch.setattr(sys, "argv", ["dvmvs", *arguments])
    assert main([*arguments]) == 0
    log = entries(folder)
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    figures = log[-1]["held_out"]
    assert figures["matched_within_125"] == pytest.approx(0.5, abs=0.01)
    assert figures["regularised_abs_rel"] < 0.8 * figures["matched_abs_rel"]

    weights = folder / "regulariser.safetensors"
    metadata = regulariser_metadata(weights)
    assert (metadata["step"], metadata["clips"], metadata["finished"]) == (40, 4, True)
    assert metadata["held_out"] == figures and "torch" in metadata["versions"]
    assert metadata["commands"] == [f"dvmvs train regulariser --out run {' '.join(arguments[4:])}"], "no folders"
    clip = made_up_clip(99)
    assert held_out_figures(load_regulariser(weights), [clip])["regularised_abs_rel"] == pytest.approx(
        figures["regularised_abs_rel"], abs=0.003
    )


def test_a_resumed_run_comes_to_the_same_weights(folder):
    whole = trainer_for(folder, 6)
    assert whole.run()
    expected = {name: value.clone() for name, value in whole.network.state_dict().items()}
    begun = trainer_for(folder, 6)
    for _ in range(3):
        begun.train_step()
    begun.save()
    begun.train_step()  # done again
    resumed = trainer_for(folder, 6)
    resumed.resume()
    assert resumed.step == 3 and resumed.run()
    for name, value in resumed.network.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-4, msg=name)


def test_ctrl_c_ends_with_a_checkpoint_and_weights(folder, monkeypatch):
    trainer = trainer_for(folder, 100)
    step = trainer.train_step

    def interrupted() -> float:
        if trainer.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step()

    monkeypatch.setattr(trainer, "train_step", interrupted)
    assert not trainer.run()
    resumed = trainer_for(folder, 100)
    resumed.resume()
    assert resumed.step == 3
    assert not regulariser_metadata(folder / "regulariser.safetensors")["finished"]


def test_a_run_ends_before_its_deadline_with_its_weights(folder, monkeypatch):
    """Each step takes 10 s here, and starting took 40."""
    age = [40.0]
    monkeypatch.setattr(stopping, "process_age_s", lambda: age[0])
    trainer = trainer_for(folder, None, loop={"deadline_s": 100.0})
    step = trainer.train_step

    def slow() -> float:
        age[0] += 10.0
        return step()

    monkeypatch.setattr(trainer, "train_step", slow)
    assert trainer.run() and trainer.step == 4, "20 s are kept for the export"
    assert regulariser_metadata(trainer.weights)["finished"]


def test_a_deadline_before_enough_is_recorded_is_said(tmp_path):
    with pytest.raises(DataError, match="holds 0 clips and 0 held-out ones of the 4 and 1 .* deadline of 1 s is near"):
        trainer_for(tmp_path / "run", None, workers=1, textures=8, loop={"deadline_s": 1.0}).run()


def test_going_on_from_weights_keeps_how_they_came_about(folder):
    first = trainer_for(folder, 2, commands=("the first",))
    first.run()
    second = trainer_for(folder, 2, commands=("the second",), init=first.weights)
    for name, value in second.network.state_dict().items():
        stored = load_regulariser(first.weights).state_dict()[name]
        torch.testing.assert_close(value, stored)
    second.run()
    assert regulariser_metadata(second.weights)["commands"] == ["the first", "the second"]


def test_a_damaged_clip_is_left_out_and_no_clip_is_an_error(folder, caplog):
    (folder / "clips" / "00001.npz").write_bytes(b"PK")
    assert trainer_for(folder, 3).run()
    assert caplog.text.count("00001.npz holds no keyframes that can be read") == 1
    for path in (folder / "clips").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="holds 0 clips and 1 held-out ones, and nothing records more; give workers"):
        trainer_for(folder, 3).run()


def test_clips_of_another_size_are_refused(folder):
    with pytest.raises(DataError, match="no clip that can be read"):
        trainer_for(folder, 3, width=128).train_step()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 100}, "height must be a multiple of 32, at least 64; got 100"),
        ({"width": 32}, "width must be a multiple of 32, at least 64; got 32"),
        ({"workers": -1}, "workers must be 0 or more; got -1"),
        ({"clips": 0}, "clips must be 1 or more; got 0"),
    ],
)
def test_impossible_plans_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        trainer_for(tmp_path, 1, **options)


def test_the_loss_falls_with_the_error_and_ignores_what_has_no_truth():
    clip = made_up_clip(0, 1)
    valid = clip.valid.clone()
    valid[..., :32] = False
    losses = []
    for error in (0.0, 0.05, 0.2):
        log_depth = (clip.log_truth + error).requires_grad_(True)
        answer = Regularised(log_depth, log_depth[..., ::2, ::2], torch.zeros_like(log_depth[..., ::2, ::2]))
        loss = regulariser_loss(answer, clip.log_truth, valid)
        loss.backward()
        assert not log_depth.grad[..., :24].any(), "steps reach 8 pixels"
        losses.append(loss.item())
    assert losses[0] < losses[1] < losses[2]


def test_figures_are_those_of_each_keyframe_with_its_own_scale():
    network = Regulariser().eval()
    clips = [made_up_clip(seed, keyframes=1) for seed in range(BATCH + 2)]
    together, apart = held_out_figures(network, [joined(clips)]), [held_out_figures(network, [clip]) for clip in clips]
    for name in ("matched_abs_rel", "regularised_abs_rel", "regularised_within_105"):
        assert together[name] == pytest.approx(np.mean([figures[name] for figures in apart]), abs=1e-6), name


def test_keyframes_move_to_a_device_whole():
    moved = made_up_clip(0).to(torch.device("meta"))
    assert {part.device.type for part in (*moved.inputs, moved.offset, moved.truth)} == {"meta"}


def test_certainty_is_learned_from_whether_a_cell_is_right():
    clip = made_up_clip(0, 1)
    wrong = clip.log_truth[..., ::2, ::2].clone()
    wrong[..., :24] += 0.2
    odds = torch.zeros_like(wrong).requires_grad_(True)
    regulariser_loss(Regularised(clip.log_truth, wrong, odds), clip.log_truth, clip.valid).backward()
    assert (odds.grad[..., :24] > 0).all() and (odds.grad[..., 24:] < 0).all()


def test_augmentation_disturbs_the_network_and_leaves_maps_out():
    inputs = prepared(made_up_clip(0, 3).inputs)
    disturbed = left_out = 0
    for seed in range(40):
        result = augmented(inputs, np.random.default_rng(seed))
        change = (result.network - inputs.network).abs().amax(dim=(1, 2, 3))
        disturbed += int((change > 0).sum())
        left_out += sum(int((~level.flatten(1).any(dim=1)).sum()) for level in (result.level4, result.level32))
        assert torch.equal(result.matched, inputs.matched) and torch.equal(result.fits, inputs.fits)
    assert 0.35 < disturbed / 120 < 0.65
    assert 0.12 < left_out / 240 < 0.28


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_recorder_that_cannot_write_is_one_line(tmp_path, capfd):
    trainer = trainer_for(tmp_path / "run", 4, workers=1, clips=4, textures=8)
    shutil.rmtree(tmp_path / "run" / "held_out", ignore_errors=True)
    (tmp_path / "run" / "held_out").write_text("")  # where a folder should be
    with pytest.raises(DataError, match=r"recorder-0 failed: cannot write .*held_out"):
        trainer.run()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_recorders_walk_while_it_trains(tmp_path):
    trainer = trainer_for(tmp_path / "run", 4, workers=1, clips=4, textures=8)
    assert trainer.run()
    assert len(list((tmp_path / "run" / "clips").glob("*.npz"))) == 4
    assert not list((tmp_path / "run").rglob(".*.npz")), "half-written files"
    assert entries(tmp_path / "run")[-1]["held_out"]["matched_abs_rel"] < 1
