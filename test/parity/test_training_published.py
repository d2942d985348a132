# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Training as published: colours, samples, items, losses and gradients equal the figures of the public implementation.

Data: two scenes, frames 0 to 39 and 120 to 159 of the test sequence, written in the training layout here."""

from __future__ import annotations

import json
import random

import cv2
import numpy as np
import pytest
import torch

from dvmvs_core.config import preset
from dvmvs_core.data.scene_folder import read_image
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.synthetic.clips import ClipBatch
from dvmvs_core.training.augmentation import (
    BRIGHTNESS_RANGE,
    CONTRAST_RANGE,
    GAMMA_RANGE,
    SCALE_RANGES,
    ClipDraw,
    augment_clip,
    colour_operation,
    prepare_clip,
)
from dvmvs_core.training.losses import DepthLoss, LossMeter, depth_loss
from dvmvs_core.training.passes import mirrored_predictions, predictions
from dvmvs_core.training.subsequences import subsequences
from dvmvs_core.training.training_scenes import SceneClips


@pytest.mark.parametrize(
    ("name", "operation", "gamma", "contrast", "brightness"),
    [
        ("co_gamma", 0, 0.9, 1.7, 0.4),
        ("co_contrast", 1, 0.3, 1.15, 0.4),
        ("co_bright", 2, 0.3, 1.7, -0.02),
    ],
)
def test_colour_operation(reference, name, operation, gamma, contrast, brightness):
    units = np.load(reference / "goldens" / "units.npz")
    image = torch.from_numpy(units["co_in"])
    drawn = (torch.tensor([value]) for value in (operation, gamma, contrast, brightness))
    recoloured = colour_operation(image.view(1, 1, *image.shape), *drawn)
    np.testing.assert_allclose(recoloured.view(image.shape).numpy(), units[name], atol=1e-6)


MODULES = ("feature_extractor", "feature_pyramid", "encoder", "lstm_fusion", "decoder")
LENGTH = {"fusionnet": 4, "pairnet": 2}
SCENES = {"s0": range(40), "s1": range(120, 160)}
# Rotations are made orthonormal when they are read: 4e-6 in the poses.
POSE_TOLERANCE = 1e-5
# Measured: the loss 1e-6 in evaluation, 2e-5 with batch statistics. The norm of a module's gradients 3e-3 with both,
# and 5e-3 in PairNet's extractor, where the batch statistics are of two images: they carry the rounding of every layer
# into the gradients of the layers before it.
LOSS_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = {False: 5e-3, True: 2e-2}
"""By whether batch statistics are used."""


@pytest.fixture(scope="module")
def golden(reference):
    return np.load(reference / "goldens" / "training.npz")


@pytest.fixture(scope="module")
def folder(hololens, tmp_path_factory):
    """The two scenes in the training layout."""
    root = tmp_path_factory.mktemp("published")
    images, depths = (sorted((hololens / part).iterdir()) for part in ("images", "depth"))
    poses = (hololens / "poses.txt").read_text().splitlines(keepends=True)
    for name, frames in SCENES.items():
        (root / name).mkdir()
        (root / name / "K.txt").write_bytes((hololens / "K.txt").read_bytes())
        (root / name / "poses.txt").write_text("".join(poses[i] for i in frames))
        for number, i in enumerate(frames):
            depth = cv2.imread(str(depths[i]), cv2.IMREAD_UNCHANGED)
            np.savez(root / name / f"{number:06d}.npz", image=read_image(images[i]), depth=depth)
    (root / "train.txt").write_text("".join(f"{name}\n" for name in SCENES))
    return root


@pytest.fixture(scope="module")
def items(folder):
    """The two samples of each length that the figures are of, unaugmented, and where they come from."""
    found = {}
    for network, length in LENGTH.items():
        clips = SceneClips(folder, "train", 256, 256, length)
        parts = zip(*(clips.clip(sample) for sample in sorted(clips.samples)[:2]), strict=True)
        found[network] = ClipBatch(*map(torch.stack, parts)), clips
    return found


@pytest.fixture(scope="module")
def draws():
    """What numpy and python draw for two items from seed 11, in the order of the public code."""
    numbers, colours = np.random.RandomState(11), random.Random(11)
    drawn = []
    for _ in range(2):
        turned, wide = numbers.rand() > 0.5, numbers.rand() > 0.5
        share = numbers.rand()
        ranges = (BRIGHTNESS_RANGE, CONTRAST_RANGE, GAMMA_RANGE)
        brightness, contrast, gamma = (colours.uniform(*limits) for limits in ranges)
        order = [0, 1, 2]
        colours.shuffle(order)
        drawn.append(ClipDraw(turned, SCALE_RANGES[int(wide)], share, brightness, contrast, gamma, tuple(order)))
    return drawn


@pytest.fixture
def networks(reference):
    """Makes a network with the stand-in weights."""

    def make(name):
        network = build_network(preset("paper", network=name, height=256, width=256))
        for number, module in enumerate(MODULES):
            if hasattr(network, module):
                state = torch.load(reference / "weights" / f"{number}_{module}", map_location="cpu", weights_only=True)
                getattr(network, module).load_state_dict(state)
        return network

    return make


@pytest.mark.parametrize(("length", "key"), [(2, "pairs"), (3, "sub3"), (8, "sub8")])
def test_subsequences_of_the_whole_scene(reference, length, key):
    goldens = reference / "goldens"
    poses = np.loadtxt(goldens / "hololens-000-poses-all-373.txt").reshape(-1, 4, 4)
    expected = json.loads((goldens / "training_samples.json").read_text())[key]
    assert [list(sample) for sample in subsequences(poses, length)] == expected


@pytest.mark.parametrize("network", LENGTH)
def test_samples_of_a_folder(golden, items, network):
    _, clips = items[network]
    assert len(clips) == golden[f"{network}_TRAINING_nsamples"]
    assert [list(s.frames) for s in sorted(clips.samples)[:2]] == golden[f"{network}_VALIDATION_indices"].tolist()
    assert not clips.skipped


@pytest.mark.parametrize("split", ["VALIDATION", "TRAINING"])
@pytest.mark.parametrize("network", LENGTH)
def test_items(golden, items, draws, network, split):
    batch, _ = items[network]
    clip = augment_clip(batch, draws, 0.25, 20.0) if split == "TRAINING" else prepare_clip(batch)
    expected = {part: golden[f"{network}_{split}_{part}"] for part in ("img_stride16", "depth_stride8", "poses", "K")}
    by_time = {
        "img_stride16": clip.image[..., ::16, ::16].transpose(0, 1),
        "depth_stride8": clip.depth[..., ::8, ::8].transpose(0, 1),
        "poses": clip.world_T_cam.transpose(0, 1),
        "K": clip.K,
    }
    if split == "TRAINING":
        turned = [bool((np.diff(order) < 0).all()) for order in golden[f"{network}_TRAINING_indices"]]
        assert turned == [draw.turned for draw in draws] == [False, True]
    np.testing.assert_allclose(by_time["img_stride16"], expected["img_stride16"], atol=1e-5)
    np.testing.assert_allclose(by_time["depth_stride8"], expected["depth_stride8"][:, :, :32, :32], atol=1e-5)
    np.testing.assert_allclose(by_time["poses"], expected["poses"], atol=POSE_TOLERANCE)
    np.testing.assert_allclose(by_time["K"], expected["K"], atol=1e-4)


def assert_losses(golden, key, steps):
    """The sum of the losses over the steps, and the four losses at full resolution."""
    loss = torch.stack([depth_loss(pyramid, truth, DepthLoss.L1_INVERSE) for pyramid, truth in steps]).sum()
    meter = LossMeter()
    for pyramid, truth in steps:
        meter.add(pyramid.full.detach(), truth)
    means = [meter.means()[name] for name in ("l1", "huber", "l1-inv", "l1-rel")]
    np.testing.assert_allclose(loss.item(), golden[f"{key}_loss"], rtol=LOSS_TOLERANCE)
    np.testing.assert_allclose(means, golden[f"{key}_meters"], rtol=LOSS_TOLERANCE)
    return loss


def passes(network, name, clip):
    """What the public code predicts of a clip. Its PairNet draws whether to mirror while it evaluates, too."""
    if name == "fusionnet":
        return list(predictions(network, clip, measurement_frames=1))
    numbers = np.random.RandomState(3)
    return list(mirrored_predictions(network, clip, [numbers.rand() > 0.5 for _ in range(2)]))


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", LENGTH)
def test_losses_and_gradients(golden, items, draws, networks, name, mode):
    clip = augment_clip(items[name][0], draws, 0.25, 20.0)
    network = networks(name).train(mode == "train")
    key = f"{name}_TRAINING_{mode}"
    assert_losses(golden, key, passes(network, name, clip)).backward()
    norms = [
        torch.stack([p.grad.norm() for p in getattr(network, part).parameters() if p.grad is not None]).norm().item()
        for part in MODULES
        if hasattr(network, part)
    ]
    np.testing.assert_allclose(norms, golden[f"{key}_gradnorm"], rtol=GRADIENT_TOLERANCE[key.endswith("train")])
