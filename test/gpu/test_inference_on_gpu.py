# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Graphs, fused sweep and half precision give the depth of the plain network."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from dvmvs_core.captured_steps import CapturedFusion, captured_step, choose_confidence, propagate_fuse_sharpen
from dvmvs_core.confidence import estimate_confidence
from dvmvs_core.config import EngineConfig, KeyframeConfig, preset
from dvmvs_core.engine import DepthEngine
from dvmvs_core.model.checkpoint import load_network
from dvmvs_core.model.cost_volume import plane_sweep
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.runtime.cuda_graph import CudaGraphs
from dvmvs_core.runtime.cuda_runner import CudaRunner, choose_sweep
from dvmvs_core.runtime.plain_runner import PlainRunner
from dvmvs_core.runtime.runner import PreviousKeyframe
from dvmvs_core.runtime.wall_frames import wall_frames
from dvmvs_core.temporal_fusion import FusedDepth

TOLERANCE = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 5e-2}
KINDS = [("paper", "fusionnet"), ("paper", "pairnet"), ("small", "fusionnet"), ("small", "pairnet")]


def network_of(name, network, size):
    torch.manual_seed(0)
    return build_network(preset(name, network=network, height=size[0], width=size[1])).eval()


def relative(found, expected) -> float:
    return float(((found - expected).abs() / expected).mean())


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(("channels", "frames"), [(9, 1), (16, 2), (32, 7)])
def test_fused_plane_sweep(device, size, channels, frames, masked):
    sweep = choose_sweep(device, strict=True)
    assert device.type == "cpu" or sweep is not plane_sweep
    torch.manual_seed(0)
    maps = torch.randn(frames + 1, 1, channels, size[0] // 2, size[1] // 2, device=device)
    homographies = torch.eye(3, device=device) + 0.01 * torch.randn(frames, 1, 3, 3, device=device)
    translations = 5 * torch.randn(frames, 1, 3, device=device)
    arguments = (maps[0], maps[1:], homographies, translations, torch.linspace(0.05, 4, 64, device=device), masked)
    found, expected = sweep(*arguments), plane_sweep(*arguments)
    assert expected.abs().mean() > 1e-3
    # A sample on a border to the last digit may fall on either side of it.
    assert ((found - expected).abs() > 1e-3).float().mean() < 1e-3


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("name", "kind"), KINDS)
@torch.inference_mode()
def test_graphs_over_changing_frames(device, size, name, kind, precision):
    """Every number of measurement frames, with and without memory, twice over."""
    network = network_of(name, kind, size).to(device)
    captured = CudaRunner(network, device, getattr(torch, precision), strict=True)
    plain = PlainRunner(network, keeps_features=True)
    K = torch.tensor([[[size[1], 0.0, size[1] / 2], [0, size[1], size[0] / 2], [0, 0, 1.0]]])
    poses = torch.eye(4).repeat(9, 1, 1, 1)
    poses[:, 0, 0, 3] = 0.08 * torch.arange(9)
    torch.manual_seed(1)
    images = torch.randn(9, 1, 3, *size, device=device)
    keyframes = [(7, 1), (8, 2), (7, 3), (8, 4), (7, 5), (8, 6), (7, 7)] if device.type == "cuda" else [(7, 1), (8, 2)]
    for _ in range(2):
        previous = {captured: None, plain: None}
        for reference, frames in keyframes:
            depths = {}
            for runner in (captured, plain):
                maps = [runner.features(images[i]).matching for i in range(frames)]
                features = runner.features(images[reference])
                arguments = (maps, poses[reference], list(poses[:frames]), K, previous[runner])
                depth, state = runner.depth(images[reference], features, *arguments)
                depths[runner] = depth
                previous[runner] = PreviousKeyframe(depth[:, None], poses[reference], state)
            assert torch.isfinite(depths[captured]).all()
            assert relative(depths[captured], depths[plain]) < TOLERANCE[precision]


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_engine_against_the_reference_path(device, size, precision):
    network, _ = load_network("small")
    rule = KeyframeConfig(measurement_frames=3)
    common = {"device": str(device), "matching": "off", "keyframes": rule}
    mode = "fast" if device.type == "cuda" else "auto"
    precision = precision if device.type == "cuda" else "float32"
    engine = DepthEngine(network, EngineConfig(mode=mode, precision=precision, **common))
    reference = DepthEngine(load_network("small")[0], EngineConfig(mode="reference", **common))
    engine.warm_up()
    differences = []
    for frame in islice(wall_frames(), 30 if device.type == "cuda" else 4):
        found, expected = engine.step(frame), reference.step(frame)
        if expected is not None:
            differences.append(np.abs(found.depth / expected.depth - 1).mean())
            assert np.abs(found.confidence - expected.confidence).mean() < 0.02
    assert max(differences) < TOLERANCE[precision]


@torch.inference_mode()
def test_captured_confidence(device, size):
    torch.manual_seed(0)
    estimate = choose_confidence(device)
    K = torch.tensor([[[size[1], 0.0, size[1] / 2], [0, size[1], size[0] / 2], [0, 0, 1.0]]])
    for frames in (1, 2, 3):
        for predictions in (0, 1, 3):
            poses = torch.eye(4).repeat(4, 1, 1, 1)
            poses[:, 0, 0, 3] = 0.1 * torch.arange(4)
            depth = 2 + torch.rand(1, *size, device=device)
            maps = torch.randn(frames + 1, 1, 9, size[0] // 2, size[1] // 2, device=device)
            views = list(zip(maps[1:], poses[1:], strict=False))
            past = [(depth[:, None] * 1.02, pose) for pose in poses[1 : 1 + predictions]]
            arguments = (depth, K, poses[0], maps[0], views, past)
            assert (estimate(*arguments) - estimate_confidence(*arguments)).abs().mean() < 1e-3


@torch.inference_mode()
def test_captured_fusion(device, size):
    """On CUDA one graph for any number of past keyframes."""
    torch.manual_seed(0)
    K = torch.tensor([[[size[1], 0.0, size[1] / 2], [0, size[1], size[0] / 2], [0, 0, 1.0]]])
    past: list[FusedDepth] = []
    captured = CapturedFusion(CudaGraphs(captured_step, device), device)
    for number in range(5):
        pose = torch.eye(4)[None]
        pose[:, 0, 3] = 0.05 * number
        depth, confidence = 2 + torch.rand(1, *size, device=device), torch.rand(1, *size, device=device)
        arguments = (depth, confidence, 255 * torch.rand(*size, 3, device=device), K, pose, past[-2:])
        (*found, mean), (*expected, expected_mean) = captured(*arguments), propagate_fuse_sharpen(*arguments)
        for one, other in zip((*found, *mean[:2]), (*expected, *expected_mean[:2]), strict=True):
            assert (one - other).abs().mean() < 1e-4
        past.append(mean)
    assert captured._trusted


def test_500_keyframes_without_growth(device):
    from dvmvs_core.timing.growth import growth

    config = EngineConfig(device=str(device), matching="off")
    figures = growth(network_of("small", "fusionnet", (64, 96)), config, 500 if device.type == "cuda" else 20)
    assert all(percent < 10 for percent in figures["growth_percent"].values())
    if device.type == "cuda":
        assert figures["growth_percent"]["device"] == 0
