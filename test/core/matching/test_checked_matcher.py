# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A GPU that cannot match leaves matching to the CPU, with one line that says why."""

from __future__ import annotations

import logging
from itertools import islice

import matching_walk
import numpy as np
import pytest
import torch

from dvmvs_core.config import MATCHING_PRESETS, EngineConfig, preset
from dvmvs_core.engine import DepthEngine
from dvmvs_core.errors import DeviceError
from dvmvs_core.matching import choose_matcher as choose
from dvmvs_core.matching.gpu import checked_matcher as checked
from dvmvs_core.matching.gpu.checked_matcher import CheckedMatcher
from dvmvs_core.matching.gpu.torch_matcher import TorchMatcher
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.runtime.wall_frames import WALL_M, wall_frames

SIZE = (64, 96)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MODEL = preset("small", height=SIZE[0], width=SIZE[1])


@pytest.fixture(autouse=True)
def nothing_trusted_yet(monkeypatch):
    monkeypatch.setattr(checked, "_trusted", {})


@pytest.fixture(scope="module")
def keyframes():
    return matching_walk.rendered_keyframes(SIZE, 5)


@pytest.fixture
def on_cpu():
    return matching_walk.cpu_matcher("fast", SIZE)


def test_it_is_trusted_where_it_agrees(on_cpu, keyframes, caplog):
    matcher = CheckedMatcher(on_cpu, MODEL, CPU, "fast")
    found = matching_walk.walk(matcher, keyframes[:3])
    expected = matching_walk.walk(TorchMatcher(MATCHING_PRESETS["fast"], *SIZE, CPU), keyframes[:3])
    np.testing.assert_array_equal([one.depth for one in found], [one.depth for one in expected])
    assert matcher.description == "fast on cpu"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    another = CheckedMatcher(on_cpu, MODEL, CPU)
    assert another._on_gpu is matcher._on_gpu, "checked once a process"


def fails(*_arguments):
    raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nCUDA kernel errors might ...")


def no_memory(*_arguments):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def wrong(matcher, *inputs):
    return (1.1 * MATCH_STEP(matcher, *inputs)[0],)


def blind(matcher, *inputs):
    return (torch.full_like(MATCH_STEP(matcher, *inputs)[0], torch.nan),)


MATCH_STEP = TorchMatcher.match_step
AT_START = {
    "capture": ("match_step", fails, r"RuntimeError: CUDA error: operation not permitted"),
    "memory": ("__init__", no_memory, r"OutOfMemoryError: CUDA out of memory"),
    "wrong numbers": ("match_step", wrong, r"DeviceError: depth of 100% of the pixels differs from the CPU's"),
    "not a number": ("match_step", blind, r"DeviceError: depth of 100% of the pixels differs from the CPU's"),
}


@pytest.mark.parametrize("kind", AT_START)
def test_what_fails_at_the_start(on_cpu, keyframes, monkeypatch, caplog, kind):
    name, replacement, reason = AT_START[kind]
    monkeypatch.setattr(TorchMatcher, name, replacement)
    matcher = CheckedMatcher(on_cpu, MODEL, CPU)
    (line,) = caplog.messages
    assert line.startswith("cpu cannot match (") and line.endswith("; matching goes on on the CPU") and "\n" not in line
    with pytest.raises(DeviceError, match=rf"{reason}.*mode fast does not go on without it"):
        CheckedMatcher(on_cpu, MODEL, CPU, "fast")
    caplog.clear()
    assert matcher.description == "fast on the CPU"
    expected = matching_walk.walk(matching_walk.cpu_matcher("fast", SIZE), keyframes[:3])
    found = matching_walk.walk(matcher, keyframes[:3])
    np.testing.assert_array_equal([one.depth for one in found], [one.depth for one in expected])
    assert not caplog.records


@pytest.mark.parametrize("name", ["_describe", "_prior", "_match"])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_what_fails_later_is_done_again(on_cpu, keyframes, monkeypatch, caplog, name, after):
    """The CPU goes on from what was described and matched on the device."""
    matcher = CheckedMatcher(on_cpu, MODEL, CPU, "fast")
    run, calls = getattr(matcher._on_gpu, name), []

    def fails_later(*inputs):
        calls.append(1)
        return run(*inputs) if len(calls) <= after else no_memory()

    monkeypatch.setattr(matcher._on_gpu, name, fails_later)
    found = matching_walk.walk(matcher, keyframes)
    (line,) = caplog.messages
    assert "OutOfMemoryError" in line and line.endswith("; matching goes on on the CPU")
    expected = matching_walk.walk(matching_walk.cpu_matcher("fast", SIZE), keyframes)
    for one, other in zip(found, expected, strict=True):
        relative = matching_walk.differences(one.depth, other.depth)
        assert np.median(relative) < 1e-5 and (relative > 1e-2).mean() < 0.01


def test_an_image_is_described_beside_what_else_runs(on_cpu, keyframes, monkeypatch):
    image = torch.from_numpy(keyframes[0][0].image).float()
    matcher = CheckedMatcher(on_cpu, MODEL, CPU, "fast")
    begun = matcher.describe_beside(image)
    monkeypatch.setattr(matcher._on_gpu, "_describe", no_memory)
    for finish in (begun, matcher.describe_beside(image)):  # the GPU fails; from then on the CPU describes
        np.testing.assert_array_equal(finish().maps, on_cpu.describe(image).maps)


def test_the_check_has_something_to_match(on_cpu):
    """What matching does counts, so a fault of it is noticed: depth is no longer what the network said."""
    depths = checked._walk(on_cpu, list(islice(wall_frames(SIZE), 4)), CPU)
    assert np.median(depths[-1]) == pytest.approx(WALL_M, rel=0.05)


def test_an_engine_on_cuda_matches_there(monkeypatch):
    asked = []
    monkeypatch.setattr(checked, "CheckedMatcher", lambda *arguments: asked.append(arguments))
    for device, mode in ((CPU, "auto"), (CUDA, "reference"), (CUDA, "auto"), (CUDA, "fast")):
        choose.matcher_on_device("a matcher", MODEL, device, mode)
    assert asked == [("a matcher", MODEL, CUDA, "auto"), ("a matcher", MODEL, CUDA, "fast")]
    assert choose.matcher_on_device(None, MODEL, CUDA, "auto") is None


def test_an_engine_takes_depth_and_confidence_from_tensors(monkeypatch, keyframes):
    """End to end, with a device that only says that it is one."""
    torch.manual_seed(0)
    network = build_network(MODEL.replace(extractor_stem=4, extractor_channels=(4, 4, 4, 8, 8)))
    config = EngineConfig(device="cpu", precision="float32", matching="fast")
    plain = DepthEngine(network, config)
    monkeypatch.setattr(
        "dvmvs_core.engine.matcher_on_device",
        lambda matcher, model, device, mode: CheckedMatcher(matcher, model, device),
    )
    engine = DepthEngine(network, config)
    assert engine.runs_as.endswith("; matching fast on cpu") and plain.runs_as.endswith("; matching fast")
    for keyframe in keyframes:
        found, expected = engine.step(keyframe.frame), plain.step(keyframe.frame)
        if expected is not None:
            assert found.depth.dtype == np.float32 and found.depth.shape == SIZE
            assert np.median(np.abs(found.depth / expected.depth - 1)) < 1e-4
            assert np.abs(found.confidence - expected.confidence).mean() < 1e-2
    assert expected.confidence.max() > 0.1
    assert len(engine._past.views) >= 4
