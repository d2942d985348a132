# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Matching on a GPU: fused kernels, graphs and engine give what the CPU gives."""

from __future__ import annotations

from itertools import islice

import matching_walk
import numpy as np
import pytest
import torch

from dvmvs_core.config import MATCHING_PRESETS, EngineConfig, preset
from dvmvs_core.engine import DepthEngine
from dvmvs_core.matching.gpu import checked_matcher as checked
from dvmvs_core.matching.gpu.checked_matcher import CheckedMatcher
from dvmvs_core.matching.gpu.kernels import PLAIN, check_kernels, choose_kernels
from dvmvs_core.matching.gpu.torch_matcher import TorchMatcher
from dvmvs_core.model.checkpoint import load_network
from dvmvs_core.runtime.wall_frames import wall_frames


@pytest.fixture(scope="module")
def keyframes(size):
    return matching_walk.rendered_keyframes(size, 8)


@pytest.fixture(scope="module")
def on_gpu(keyframes, size, device):
    """What was found for the keyframes, by preset."""
    return {
        name: matching_walk.walk(TorchMatcher(config, *size, device), keyframes, device)
        for name, config in MATCHING_PRESETS.items()
    }


def test_fused_kernels(device):
    kernels = choose_kernels(device)
    assert (kernels is PLAIN) == (device.type == "cpu")
    check_kernels(kernels, device)


@pytest.mark.parametrize("name", MATCHING_PRESETS)
def test_graphs_give_what_their_functions_give(keyframes, on_gpu, size, device, name):
    eager = TorchMatcher(MATCHING_PRESETS[name], *size, device)
    for step in ("describe", "prior", "match"):
        setattr(eager, f"_{step}", _on(device, getattr(eager, f"{step}_step")))
    expected = matching_walk.walk(eager, keyframes, device)
    for one, other in zip(on_gpu[name], expected, strict=True):
        agree(one, other)


def _on(device, function):
    """Called with what a graph would send."""
    return lambda *inputs: function(*(x.to(device) for x in inputs))


@pytest.mark.parametrize("name", MATCHING_PRESETS)
def test_a_sequence_is_matched_as_on_the_cpu(keyframes, on_gpu, size, name):
    expected = matching_walk.walk(matching_walk.cpu_matcher(name, size), keyframes)
    assert sum(one.views.max() > 0 for one in expected) >= 6
    for one, other in zip(on_gpu[name], expected, strict=True):
        agree(one, other)
        assert (one.views != other.views).mean() < 0.02


def agree(found, expected):
    """Convolutions of another order of additions decide between planes that are equally good, here and there."""
    for part in ("depth", "measured_depth", "prior"):
        relative = matching_walk.differences(getattr(found, part), getattr(expected, part))
        assert np.median(relative) < 1e-4 and (relative > 1e-2).mean() < 0.02, part
    assert np.isfinite(found.depth).all() and np.isfinite(found.confidence).all()


def test_what_fails_later_goes_on_on_the_cpu(keyframes, size, device, monkeypatch, caplog):
    monkeypatch.setattr(checked, "_trusted", {})
    model = preset("small", height=size[0], width=size[1])
    expected = matching_walk.walk(matching_walk.cpu_matcher("fast", size), keyframes)
    matcher = CheckedMatcher(matching_walk.cpu_matcher("fast", size), model, device, "fast")
    run, calls = matcher._on_gpu._match, []

    def fails_later(*inputs):
        calls.append(1)
        return run(*inputs) if len(calls) <= 3 else _no_memory()

    matcher._on_gpu._match = fails_later
    found = matching_walk.walk(matcher, keyframes, device)
    assert matcher.description == "fast on the CPU" and sum("cannot match" in x for x in caplog.messages) == 1
    for one, other in zip(found, expected, strict=True):
        relative = matching_walk.differences(one.depth, other.depth)
        assert np.median(relative) < 1e-4 and (relative > 1e-2).mean() < 0.02


def test_an_engine_gives_the_depth_of_one_on_the_cpu(device):
    """Images are resized by torch on one and by OpenCV on the other, so that some bytes of them differ by one."""
    common = {"matching": "fast", "precision": "float32"}
    mode = "fast" if device.type == "cuda" else "auto"
    engine = DepthEngine(load_network("small")[0], EngineConfig(device=str(device), mode=mode, **common))
    on_cpu = DepthEngine(load_network("small")[0], EngineConfig(device="cpu", **common))
    if device.type == "cuda":
        assert "; matching fast on cuda" in engine.runs_as
    engine.warm_up()
    compared = 0
    for frame in islice(wall_frames(), 12 if device.type == "cuda" else 4):
        found, expected = engine.step(frame), on_cpu.step(frame)
        if expected is None:
            continue
        relative = np.abs(found.depth / expected.depth - 1)
        assert np.median(relative) < 2e-3 and (relative > 0.02).mean() < 0.05
        assert np.abs(found.confidence - expected.confidence).mean() < 0.03
        compared += 1
    assert compared >= 3


def test_a_second_engine_gives_the_depth_of_the_first(device, caplog):
    """What is captured for it may lie where graphs of the first compute: the matcher is shared by both."""
    config = EngineConfig(device=str(device), matching="fast")
    first, second = (DepthEngine(load_network("small")[0], config) for _ in range(2))
    first.warm_up()
    for frame in islice(wall_frames(), 8 if device.type == "cuda" else 3):
        one, other = first.step(frame), second.step(frame)
    assert np.abs(one.depth / other.depth - 1).max() < 1e-3
    assert np.abs(one.confidence - other.confidence).max() < 1e-2
    assert not [x for x in caplog.records if x.levelname == "WARNING"]


def test_an_engine_goes_on_where_its_gpu_no_longer_matches(device, monkeypatch, caplog):
    monkeypatch.setattr(checked, "_trusted", {})
    if device.type == "cpu":
        pytest.skip("there is one device, on which depth is either way")
    config = EngineConfig(device=str(device), matching="fast", precision="float32")
    engine, untouched = (DepthEngine(load_network("small")[0], config) for _ in range(2))
    frames = list(islice(wall_frames(), 7))
    for index, frame in enumerate(frames):
        if index == 4:
            engine._matcher._on_gpu = TorchMatcher(MATCHING_PRESETS["fast"], 256, 320, device)
            engine._matcher._on_gpu._match = _no_memory
        found, expected = engine.step(frame), untouched.step(frame)
    assert "; matching fast on the CPU" in engine.runs_as and sum("cannot match" in x for x in caplog.messages) == 1
    relative = np.abs(found.depth / expected.depth - 1)
    assert np.median(relative) < 1e-3 and (relative > 0.02).mean() < 0.05


def _no_memory(*_inputs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def test_keyframes_leave_no_memory_behind(device):
    engine = DepthEngine(load_network("small")[0], EngineConfig(device=str(device), matching="fast"))
    kept = engine.config.keyframes.buffer_size
    used = []
    for index, frame in enumerate(islice(wall_frames(), kept + 60 if device.type == "cuda" else 4)):
        engine.step(frame)
        if index > kept + 20:  # what is kept of keyframes has come to its full number
            used.append(torch.cuda.memory_allocated(device))
    assert len(set(used)) <= 1 or max(used) <= 1.01 * min(used)
