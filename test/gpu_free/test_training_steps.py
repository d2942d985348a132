# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a training step runs on a GPU waits for nothing on the way, and mixes no devices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dvmvs_core.training.base_passes import draw_hints
from dvmvs_core.training.tasks import task_of
from torch.utils._python_dispatch import _disable_current_modes

from dvmvs_core.config import preset
from dvmvs_core.data.synthetic import defects
from dvmvs_core.data.synthetic.clips import ClipBatch
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.training.augmentation import TrainingClip, augment_clip, draw_clip
from dvmvs_core.training.loop import LoopConfig
from dvmvs_core.training.losses import DepthLoss
from dvmvs_core.training.optimisation import WeightAverage

CLIPS, FRAMES, HEIGHT, WIDTH = 2, 3, 64, 96


def network_on_cuda(name, on_cuda):
    with _disable_current_modes():
        config = preset("base" if name == "basenet" else "small", network=name, height=HEIGHT, width=WIDTH)
        network = build_network(config)
    return on_cuda(network, trainable=True)


def clip_on_cuda():
    return TrainingClip(
        torch.empty(CLIPS, FRAMES, 3, HEIGHT, WIDTH, device="cuda"),
        torch.empty(CLIPS, FRAMES, HEIGHT, WIDTH, device="cuda"),
        torch.empty(CLIPS, FRAMES, 4, 4, device="cuda"),
        torch.empty(CLIPS, 3, 3, device="cuda"),
    )


def conv_example():
    return torch.empty(1, 3, 8, 8, device="cuda"), torch.empty(3, 3, 3, 3, device="cuda")


@pytest.mark.parametrize("precision", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("name", "mirror", "loss"),
    [
        ("pairnet", False, DepthLoss.L1_INVERSE),
        ("pairnet", True, DepthLoss.HUBER),
        ("fusionnet", False, DepthLoss.L1_RELATIVE),
    ],
)
def test_published_loss(fake_cuda, on_cuda, name, mirror, loss, precision):
    config = LoopConfig(steps=1, edge_weight=1.0, loss=loss)
    mirrored = [True, False, True] if mirror else None
    with fake_cuda() as watch:
        network = network_on_cuda(name, on_cuda)
        measure = task_of(network).loss(network, config, lambda value: value)
        clip = clip_on_cuda()
        for predicted_state in (True, False) if name == "fusionnet" else (False,):
            with torch.autocast("cuda", dtype=precision, enabled=precision is not None):
                assert precision in (None, torch.nn.functional.conv2d(*conv_example()).dtype)
                value = measure(clip, 2, predicted_state, mirrored)
            assert value.dtype == torch.float32 and value.device.type == "cuda" and value.requires_grad
    watch.assert_capturable()


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_base_loss(fake_cuda, on_cuda, precision):
    hints = draw_hints(np.random.default_rng(0), CLIPS, (HEIGHT // 4, WIDTH // 4))
    with fake_cuda() as watch:
        network = network_on_cuda("basenet", on_cuda)
        measure = task_of(network).loss(network, LoopConfig(steps=1), lambda value: value)
        clip = clip_on_cuda()
        draws = type(hints)(*(torch.empty(part.shape, device="cuda") for part in vars(hints).values()))
        with torch.autocast("cuda", dtype=precision, enabled=precision is not None):
            value = measure(clip, 2, draws)
        assert value.device.type == "cuda" and value.requires_grad
    watch.assert_capturable()


def test_augmentation(fake_cuda, monkeypatch):
    """Its launches do not grow with the clips, and what is drawn is sent from pinned memory."""
    monkeypatch.setattr(defects, "_compressed", lambda image, quality: image)
    monkeypatch.setattr(defects, "_generator", lambda device, seed: None)  # there is none of a fake device
    launches = []
    for clips in (2, 16):
        draws = [draw_clip(np.random.default_rng(number)) for number in range(clips)]
        with fake_cuda() as watch:
            batch = ClipBatch(
                torch.empty(clips, FRAMES, 3, HEIGHT, WIDTH, dtype=torch.uint8, device="cuda"),
                torch.empty(clips, FRAMES, HEIGHT, WIDTH, device="cuda"),
                torch.empty(clips, FRAMES, 4, 4, device="cuda"),
                torch.empty(clips, 3, 3, device="cuda"),
            )
            clip = augment_clip(batch, draws, 0.25, 20.0)
            assert clip.image.device.type == clip.depth.device.type == "cuda"
        assert not watch.waits and not watch.mixed
        launches.append(watch.launches)
    assert launches[1] < 2 * launches[0]


def test_weight_average(fake_cuda, on_cuda):
    with fake_cuda() as watch:
        network = network_on_cuda("pairnet", on_cuda)
        with _disable_current_modes():
            average = WeightAverage(torch.nn.Linear(1, 1))
        average.network = network_on_cuda("pairnet", on_cuda)
        average.update(network, 3)
    assert watch.operations["aten._foreach_lerp_.Scalar"] == 1 and not watch.operations["aten.lerp_.Scalar"]
    watch.assert_capturable()
