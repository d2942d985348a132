# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a training step runs on a GPU waits for nothing on the way, and mixes no devices."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import _disable_current_modes

from dvmvs_core.config import preset
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.model.regulariser import Regulariser, RegulariserInputs, example_inputs, prepared
from dvmvs_core.synthetic import clips as clips_module
from dvmvs_core.synthetic import defects
from dvmvs_core.synthetic.clips import ClipBatch, SyntheticClips
from dvmvs_core.synthetic.renderer import Renderer
from dvmvs_core.training.augmentation import TrainingClip, augment_clip, draw_clip
from dvmvs_core.training.autocast import Arithmetic
from dvmvs_core.training.clip_loss import ClipLoss
from dvmvs_core.training.losses import DepthLoss
from dvmvs_core.training.optimisation import WeightAverage
from dvmvs_core.training.regulariser.clip_files import Keyframes
from dvmvs_core.training.regulariser.input_augmentation import augmented
from dvmvs_core.training.regulariser.regulariser_loss import keyframes_loss

CLIPS, FRAMES, HEIGHT, WIDTH = 2, 3, 64, 96


def network_on_cuda(name, on_cuda):
    with _disable_current_modes():
        network = build_network(preset("small", network=name, height=HEIGHT, width=WIDTH))
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
    mirrored = [True, False, True] if mirror else None
    with fake_cuda() as watch:
        network = network_on_cuda(name, on_cuda)
        measure = ClipLoss(network, loss, 1.0, lambda value: value)
        clip = clip_on_cuda()
        for predicted_state in (True, False) if name == "fusionnet" else (False,):
            with torch.autocast("cuda", dtype=precision, enabled=precision is not None):
                assert precision in (None, torch.nn.functional.conv2d(*conv_example()).dtype)
                value = measure(clip, 2, predicted_state, mirrored)
            assert value.dtype == torch.float32 and value.device.type == "cuda" and value.requires_grad
    watch.assert_capturable()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_regulariser_step(fake_cuda, on_cuda, precision):
    arithmetic = Arithmetic(precision, torch.device("cuda"))
    with fake_cuda() as drawing:
        with _disable_current_modes():
            network = Regulariser()
        on_cuda(network, trainable=True)
        blank = (torch.empty(CLIPS, *part.shape[1:], device="cuda") for part in example_inputs(HEIGHT, WIDTH))
        offset, truth = (torch.empty(CLIPS, 1, *size, device="cuda") for size in ((1, 1), (HEIGHT, WIDTH)))
        keyframes = Keyframes(RegulariserInputs(*blank), offset, truth)
        drawing.waits.clear(), drawing.mixed.clear(), drawing.uploads.clear()
        with type(drawing)() as watch:
            loss = keyframes_loss(network, prepared(keyframes.inputs), keyframes, arithmetic)
        assert loss.dtype == torch.float32 and loss.device.type == "cuda" and loss.requires_grad
        watch.assert_capturable()
        inputs = augmented(prepared(keyframes.inputs), np.random.default_rng(0))
        assert all(part.device.type == "cuda" for part in inputs)
    assert drawing.uploads and not drawing.waits and not drawing.mixed


def without_generators(monkeypatch):
    """There is no generator of random numbers on a fake device."""
    monkeypatch.setattr(torch, "Generator", lambda device: SimpleNamespace(manual_seed=lambda seed: None))


def test_augmentation(fake_cuda, monkeypatch):
    """Its launches do not grow with the clips, and what is drawn is sent from pinned memory."""
    monkeypatch.setattr(defects, "_compressed", lambda image, quality: image)
    without_generators(monkeypatch)
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


PAIRS = 40
"""Solids that matter to tiles, in place of numbers that fake tensors have none of."""


@pytest.fixture
def listings(monkeypatch):
    """List of the tables whose true entries were listed, each a wait of the host for their number."""
    listed = []

    def nonzero(table, as_tuple=False):
        listed.append(tuple(table.shape))
        rows = torch.zeros(PAIRS, table.dim(), dtype=torch.long, device=table.device)
        return rows.unbind(1) if as_tuple else rows

    monkeypatch.setattr(torch.Tensor, "nonzero", nonzero)
    return listed


def test_clips_are_rendered_together(fake_cuda, listings, monkeypatch):
    """The host waits nine times, however many clips: for the lengths of eight lists, and for how far things blur."""
    without_generators(monkeypatch)
    monkeypatch.setattr(clips_module, "_numbers", lambda values: listings.append("blur") or len(values) * [5.0])
    clips = SyntheticClips(HEIGHT, WIDTH, FRAMES, textures=8, device="cuda")
    bank = clips.make_bank()
    with fake_cuda(allow_non_fake_inputs=True):
        clips._renderer = Renderer(bank.to("cuda"))
    drawn, waits = clips.draw(4, 0), []
    for count in (1, 3):
        shots, drawn = drawn[:count], drawn[count:]
        listings.clear()
        with fake_cuda(allow_non_fake_inputs=True) as watch:
            batch = clips.render(shots)
            assert {part.device.type for part in batch} == {"cuda"}
            assert batch.image.shape == (count, FRAMES, 3, HEIGHT, WIDTH) and batch.image.dtype == torch.uint8
            assert batch.depth.shape == (count, FRAMES, HEIGHT, WIDTH)
        assert not watch.waits and not watch.mixed
        waits.append(len(listings))
    assert waits == [9, 9]
