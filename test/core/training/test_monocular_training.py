# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The head of monocular depth learns from folders of single images with depth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dvmvs_core.cli.main import main
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.model.lite0 import LEVEL_CHANNELS
from dvmvs_core.model.monocular import MonocularDepth, cell_rays, load_monocular
from dvmvs_core.synthetic.defects import Defects
from dvmvs_core.training.clip_sources import parse_data
from dvmvs_core.training.loop import LoopConfig
from dvmvs_core.training.monocular import labelled_images, monocular_trainer
from dvmvs_core.training.monocular.labelled_images import ImageFolders
from dvmvs_core.training.monocular.monocular_trainer import MonocularPlan, MonocularTrainer, monocular_loss

HEIGHT, WIDTH = 64, 96
K = np.array(((80.0, 0, 50), (0, 90, 30), (0, 0, 1)))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two scenes to learn from and one to validate on: dark images are near, bright ones far."""
    random = np.random.default_rng(0)
    for name, level, depth in (("near", 60, 800), ("far", 200, 3200), ("held", 60, 800)):
        scene = tmp_path / "images" / name
        scene.mkdir(parents=True)
        for frame in range(4):
            image = np.clip(level + random.normal(0, 20, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
            np.savez(scene / f"{frame:06d}.npz", image=image, depth=np.full((HEIGHT, WIDTH), depth, np.uint16))
        np.savetxt(scene / "K.txt", K)
        np.savetxt(scene / "poses.txt", np.tile(np.eye(4).ravel(), (4, 1)))
    (tmp_path / "images" / "train.txt").write_text("near\nfar\n")
    (tmp_path / "images" / "validation.txt").write_text("held\n")
    return tmp_path / "images"


class FewMaps(torch.nn.Module):
    """Stands for Lite0 where only the loop matters: mean grey levels, in all of its channels."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        sides = dict(zip(monocular_trainer.LEVEL_STAGES, zip((4, 8, 16, 32), LEVEL_CHANNELS, strict=True), strict=True))
        grey = image.mean(dim=1, keepdim=True)
        return tuple(
            torch.nn.functional.avg_pool2d(grey, side).repeat(1, channels, 1, 1)
            + torch.linspace(-1, 1, channels)[:, None, None]
            for side, channels in (sides.get(stage, (2, 1)) for stage in range(7))
        )


@pytest.fixture
def few_maps(monkeypatch):
    monkeypatch.setattr(monocular_trainer, "load_lite0", FewMaps)


def plan(folder: Path, out: Path, **loop: object) -> MonocularPlan:
    config = LoopConfig(**{"steps": 4, "warm_up_steps": 2, "log_steps": 2, **loop})
    return MonocularPlan(out, parse_data([str(folder)]), config, HEIGHT, WIDTH, held_out=4, device="cpu")


def test_it_learns_what_is_near(folder, tmp_path, few_maps):
    trainer = MonocularTrainer(plan(folder, tmp_path / "run", steps=40, learning_rate=3e-3, average_decay=0.5))
    before = trainer.validate()
    assert trainer.run()
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] - 0.3
    after = lines[-1]["held_out"]
    assert after["images"] == 4
    assert after["abs_rel"] < 0.6 * before["abs_rel"]
    written, average = load_monocular(trainer.weights), trainer._average.network
    torch.testing.assert_close(written.answer.weight, average.answer.weight, rtol=1e-3, atol=1e-3)


def test_a_resumed_run_comes_to_the_same_weights(folder, tmp_path, few_maps):
    whole = MonocularTrainer(plan(folder, tmp_path / "whole", steps=4))
    whole.run()
    first = MonocularTrainer(plan(folder, tmp_path / "half", steps=4))
    first.train_step()
    first.save()
    second = MonocularTrainer(plan(folder, tmp_path / "half", steps=4))
    second.resume()
    second.run()
    for found, expected in zip(second._average.network.parameters(), whole._average.network.parameters(), strict=True):
        torch.testing.assert_close(found, expected)
    half, once = ((tmp_path / run / "log.jsonl").read_text() for run in ("half", "whole"))
    assert half == once


def test_images_and_rays_stay_together(folder, monkeypatch):
    """However a part is enlarged or mirrored: pixels whose values are their rays still are."""
    monkeypatch.setattr(labelled_images, "_recoloured", lambda image, random: image.astype(np.float32))
    monkeypatch.setattr(labelled_images, "draw_defects", lambda random: Defects())
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    rays = np.stack(((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.zeros_like(u)), axis=-1)
    image = ((rays + 1) / 2 * 255).astype(np.float32)
    depth = (1 + 5 * rays[..., 0] ** 2).astype(np.float32)
    mirrored = set()
    for seed in range(6):
        changed = labelled_images._together([labelled_images._changed(image, depth, K, np.random.default_rng(seed))])
        expected = cell_rays(changed.K, HEIGHT, WIDTH)[0]
        found = torch.nn.functional.avg_pool2d(changed.image[0], 16) / 255 * 2 - 1
        sign = float(torch.sign((found[0] * expected[0]).sum()))
        mirrored.add(sign)
        inner = slice(None), slice(1, -1)
        torch.testing.assert_close(sign * found[0][inner], expected[0][inner], atol=0.02, rtol=0)
        torch.testing.assert_close(found[1][inner], expected[1][inner], atol=0.02, rtol=0)
        v, u = np.mgrid[8:HEIGHT:16, 8:WIDTH:16]
        rays_there = torch.from_numpy((u - changed.K[0, 0, 2].item()) / changed.K[0, 0, 0].item()).float()
        torch.testing.assert_close(changed.depth[0], 1 + 5 * rays_there**2, atol=0.12, rtol=0)
    assert mirrored == {-1.0, 1.0}


def test_scenes_are_drawn_by_weight_and_the_root_of_their_length(folder, tmp_path):
    for frame in range(3):
        (folder / "far" / f"{frame:06d}.npz").unlink()
    np.savetxt(folder / "far" / "poses.txt", np.eye(4).reshape(1, 16))
    images = ImageFolders(parse_data([str(folder)]), HEIGHT, WIDTH)
    np.testing.assert_allclose(images._chances, (2 / 3, 1 / 3))
    both = ImageFolders(parse_data([f"{folder}:3", f"{folder}:1"]), HEIGHT, WIDTH)
    np.testing.assert_allclose(both._chances, (0.5, 0.25, 1 / 6, 1 / 12))


def test_the_loss_is_least_for_the_right_depth_and_its_deviation():
    depth = torch.tensor(((1.0, 2.0, 0.0),))[None]

    def loss(off: float, deviation: float) -> float:
        answer = MonocularDepth(depth.clamp(min=1e-3).log() + off, torch.full_like(depth, np.log(deviation)))
        return monocular_loss(answer, depth).item()

    assert loss(0.2, 0.2) == pytest.approx(1 + np.log(0.2))
    assert loss(0.2, 0.2) < min(loss(0.2, 0.1), loss(0.2, 0.4), loss(0.3, 0.2))


def test_damaged_frames_are_left_out_and_named_once(folder, tmp_path, few_maps, caplog):
    for frame in ("near/000001", "held/000000"):
        (folder / f"{frame}.npz").write_bytes(b"PK")
    trainer = MonocularTrainer(plan(folder, tmp_path / "run", steps=3))
    assert trainer.run()
    assert load_monocular(trainer.weights) is not None
    assert (
        caplog.text.count("near/000001.npz cannot be read") == caplog.text.count("held/000000.npz cannot be read") == 1
    )
    assert trainer.validate()["images"] == 3
    for frame in folder.glob("*/*.npz"):
        frame.write_bytes(b"PK")
    with pytest.raises(DataError, match="hardly any frame can be read, such as"):
        MonocularTrainer(plan(folder, tmp_path / "other")).run()


def test_held_out_images_without_depth_give_no_figures(folder, tmp_path, few_maps):
    for frame in range(4):
        np.savez(
            folder / "held" / f"{frame:06d}.npz",
            image=np.zeros((HEIGHT, WIDTH, 3), np.uint8),
            depth=np.full((HEIGHT, WIDTH), 20000, np.uint16),
        )
    assert MonocularTrainer(plan(folder, tmp_path / "run")).export() == {}


def test_the_command_trains_and_says_where_the_weights_are(folder, tmp_path, few_maps, capsys):
    arguments = ["train", "monocular", "--data", str(folder), "--steps", "1", "--height", "64", "--width", "96"]
    assert main([*arguments, "--device", "cpu", "--out", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run" / "monocular.safetensors")
    assert main([*arguments, "--minutes", "1", "--out", str(tmp_path / "other")]) == 1
    assert "give either steps or minutes" in capsys.readouterr().err


def test_what_nothing_can_be_learned_from_is_refused(folder, tmp_path):
    good = plan(folder, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"write worlds to one with dvmvs synthesize --npz"):
        replace(good, data=parse_data(["synthetic"]))
    with pytest.raises(ConfigError, match="multiple of 32; got 100"):
        replace(good, width=100)
    (folder / "train.txt").write_text("")
    with pytest.raises(DataError, match=r"train.txt must name at least one scene with frames"):
        MonocularTrainer(good)
    (folder / "train.txt").unlink()
    with pytest.raises(DataError, match=r"train\.txt"):
        MonocularTrainer(good)
