# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A network small enough to train in a test, and clips that need no renderer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dvmvs_core.config import ModelConfig, preset
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.synthetic.clips import ClipBatch
from dvmvs_core.training.clip_sources import HeldOut
from dvmvs_core.training.loop import LoopConfig, Trainer
from dvmvs_core.training.stages import Stage

HEIGHT, WIDTH = 64, 96
EVERYTHING = (Stage("everything", 1.0),)


def _wall_clips(seed: int, batch: int = 2, frames: int = 3) -> ClipBatch:
    """A textured wall at 1.5 to 3 m in front of a camera that moves to the right by 0.15 m a frame.

    The wall faces the camera, so moving by t shifts its image by fx t / depth pixels: frames are crops of one texture.
    """
    generator = torch.Generator().manual_seed(seed)
    fx, step = 80.0, 0.15
    shift = torch.randint(4, 9, (batch,), generator=generator)  # pixels from frame to frame
    depth = fx * step / shift  # 1.5…3 m
    wide = torch.rand(batch, 3, HEIGHT, WIDTH + frames * 9, generator=generator)
    wide = torch.nn.functional.avg_pool2d(wide, 3, 1, 1)
    wide = (255 * (wide - wide.amin()) / (wide.amax() - wide.amin())).to(torch.uint8)
    images = torch.stack(
        [torch.stack([wide[b, :, :, s * t : s * t + WIDTH] for t in range(frames)]) for b, s in enumerate(shift)]
    )
    world_T_cam = torch.eye(4).repeat(batch, frames, 1, 1)
    world_T_cam[:, :, 0, 3] = step * torch.arange(frames)
    K = torch.tensor([[fx, 0.0, WIDTH / 2], [0.0, fx, HEIGHT / 2], [0.0, 0.0, 1.0]]).repeat(batch, 1, 1)
    return ClipBatch(images, depth.view(-1, 1, 1, 1).expand(batch, frames, HEIGHT, WIDTH).contiguous(), world_T_cam, K)


@pytest.fixture(scope="session")
def wall_clips() -> Callable[[int], ClipBatch]:
    """Gives the clips of a seed."""
    return _wall_clips


@pytest.fixture(scope="session")
def wall_stream() -> Callable[[int], Iterator[ClipBatch]]:
    """Gives the clips of a step and of all later ones: the same ones whenever a run starts."""
    return lambda start: (_wall_clips(step) for step in itertools.count(start))


@pytest.fixture
def tiny() -> ModelConfig:
    """The small preset at its narrowest."""
    return preset(
        "small",
        network="pairnet",
        height=HEIGHT,
        width=WIDTH,
        depth_hypotheses=16,
        extractor_stem=4,
        extractor_channels=(4, 4, 4, 8, 8),
        pyramid_channels=4,
        hyper_channels=4,
    )


@pytest.fixture(scope="session")
def held_out() -> HeldOut:
    """Clips of seeds that no test trains on."""
    return HeldOut(calibration=[_wall_clips(10_001)], validation=[_wall_clips(10_002)])


@pytest.fixture
def make_trainer(tiny, wall_stream, held_out, tmp_path) -> Callable[..., Trainer]:
    """A function that makes trainers from the same weights, which differ only in what they are asked."""

    def make(
        clips=wall_stream,
        stages=EVERYTHING,
        network="pairnet",
        folder=tmp_path / "run",
        tensorboard=False,
        **config,
    ) -> Trainer:
        torch.manual_seed(0)
        built = build_network(tiny.replace(network=network))
        return Trainer(built, clips, held_out, stages, LoopConfig(**config), folder, tensorboard=tensorboard)

    return make


@pytest.fixture
def write_scene(tmp_path) -> Callable[..., Path]:
    """A function that writes a camera on a rail before a wall, 48×80 pixels, whose frame i is grey of value i."""

    def write(name: str, frames: int = 24, step_m: float = 0.1, depth_mm: int = 2000) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        poses = np.tile(np.eye(4), (frames, 1, 1))
        poses[:, 0, 3] = step_m * np.arange(frames)
        np.savetxt(folder / "poses.txt", poses.reshape(-1, 16), fmt="%.8e")
        np.savetxt(folder / "K.txt", [[60.0, 0, 40], [0, 60.0, 24], [0, 0, 1]])
        for i in range(frames):
            image, depth = np.full((48, 80, 3), i, np.uint8), np.full((48, 80), depth_mm, np.uint16)
            np.savez(folder / f"{i:06d}.npz", image=image, depth=depth)
        return folder

    return write


@pytest.fixture
def training_folder(write_scene, tmp_path):
    """Two recordings in the training layout, one line a list: walls at 2 m to train on, at 3 m to validate on."""
    write_scene("s0")
    write_scene("s1", frames=16, depth_mm=3000)
    (tmp_path / "train.txt").write_text("s0\n")
    (tmp_path / "validation.txt").write_text("s1")
    return tmp_path
