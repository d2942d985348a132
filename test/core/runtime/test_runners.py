# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Every fast runner gives the depth and the state of the plain modules."""

from __future__ import annotations

import copy
import sys
from contextlib import nullcontext

import pytest
import torch

import dvmvs_core.runtime.devices
from dvmvs_core.config import EngineConfig
from dvmvs_core.errors import DeviceError
from dvmvs_core.model.dvmvs import ending_at_quarter
from dvmvs_core.model.low_rank import Directions
from dvmvs_core.runtime.choose_runner import choose_runner
from dvmvs_core.runtime.cuda_runner import CudaRunner
from dvmvs_core.runtime.devices import cpu_precision, network_precision, openvino_core
from dvmvs_core.runtime.openvino_runner import OpenVinoRunner
from dvmvs_core.runtime.plain_runner import PlainRunner

CPU = torch.device("cpu")
SPLIT = ("encoder.aggregator1.0", "lstm_fusion.lstm_cell.conv")
"""Convolutions, the first before a batch norm."""


def cuda_runner(network, dtype=torch.float32):
    """What is captured on CUDA, run on the CPU."""
    return CudaRunner(network, CPU, dtype, strict=False)


def openvino_runner(network):
    return OpenVinoRunner(network, "CPU", "float32", strict=True)


def plain_runner(network):
    return PlainRunner(network, keeps_features=True)


@pytest.mark.parametrize("preset_name", ["small", "paper"])
@pytest.mark.parametrize("network", ["fusionnet", "pairnet"])
@pytest.mark.parametrize("make", [openvino_runner, cuda_runner, plain_runner])
def test_keyframes_in_a_row(make_network, plain_depths, runner_depths, make, network, preset_name):
    _assert_same(make_network(preset_name, network), plain_depths, runner_depths, make)


@pytest.mark.parametrize("make", [openvino_runner, cuda_runner, plain_runner])
def test_keyframes_with_a_fine_sweep_in_a_row(make_network, plain_depths, runner_depths, make):
    refined, plain = make_network("small", refinement_channels=6), make_network("small")
    shared = {key: value for key, value in refined.state_dict().items() if not key.startswith("refinement.")}
    plain.load_state_dict(shared)
    first, unrefined = plain_depths(refined)[0][0], plain_depths(plain)[0][0]
    assert ((first - unrefined).abs() / unrefined).mean() > 0.01
    _assert_same(refined, plain_depths, runner_depths, make)


@pytest.mark.parametrize("network", ["fusionnet", "pairnet"])
@pytest.mark.parametrize("make", [openvino_runner, cuda_runner, plain_runner])
def test_keyframes_that_end_at_quarter_resolution_in_a_row(make_network, plain_depths, runner_depths, make, network):
    plain = make_network("small", network)
    channels = {name: m.in_channels for name, m in plain.named_modules() if name in SPLIT}
    assert len(channels) == (2 if network == "fusionnet" else 1)
    plain.low_rank = {name: Directions(torch.eye(c)[:-1], torch.eye(c)[:, :-1]) for name, c in channels.items()}
    _assert_same(ending_at_quarter(plain), plain_depths, runner_depths, make)


def _assert_same(plain, plain_depths, runner_depths, make):
    expected = plain_depths(plain)
    weights = copy.deepcopy(plain.state_dict())
    found = runner_depths(make(plain))
    for (depth, state), (plain_depth, plain_state) in zip(found, expected, strict=True):
        difference = ((depth - plain_depth).abs() / plain_depth).mean()
        assert difference < 1e-5
        assert (plain_depth.max() - plain_depth.min()) > 0.01
        assert (state is None) == (plain_state is None)
        for one, plain_one in zip(state or (), plain_state or (), strict=True):
            torch.testing.assert_close(one, plain_one, rtol=1e-3, atol=1e-3)
    for key, value in plain.state_dict().items():
        assert torch.equal(value, weights[key]), f"the runner changed {key} of the network that it was made from"


@pytest.mark.parametrize("refinement_channels", [0, 6])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_half_precision_keeps_state_and_depth_in_float32(
    make_network, plain_depths, runner_depths, dtype, tolerance, refinement_channels
):
    plain = make_network("small", refinement_channels=refinement_channels)
    expected = plain_depths(plain)
    for (depth, state), (plain_depth, _) in zip(runner_depths(cuda_runner(plain, dtype)), expected, strict=True):
        assert depth.dtype == state.hidden.dtype == state.cell.dtype == torch.float32
        assert 0 < ((depth - plain_depth).abs() / plain_depth).mean() < tolerance


def test_results_are_not_overwritten_by_the_next_call(view, make_network, runner_depths):
    runner = openvino_runner(make_network("small"))
    first = runner_depths(runner)
    kept = [(depth.clone(), state.hidden.clone()) for depth, state in first]
    view.images = [image.flip(3) for image in view.images]
    runner_depths(runner)
    for (depth, state), (kept_depth, kept_hidden) in zip(first, kept, strict=True):
        assert torch.equal(depth, kept_depth) and torch.equal(state.hidden, kept_hidden)


def test_what_a_graph_captures_calls_no_timer(make_network, runner_depths):
    """A timer may wait for the device, and then the capture would fail. Here the tensors stay on the CPU."""
    runner, heard = cuda_runner(make_network("small")), []
    step = runner._depth

    def captured(*inputs):
        runner.device = torch.device("cuda")
        try:
            return step(*inputs)
        finally:
            runner.device = CPU

    def timer(stage):
        heard.append(stage)
        return nullcontext()

    runner.timer = timer
    runner_depths(runner)
    assert heard == 4 * ["plane_sweep", "network"]
    heard.clear()
    runner._depth = captured
    runner_depths(runner)
    assert not heard


def test_modes_choose_runners(make_network):
    network = make_network("small")
    for mode in ("auto", "fast"):
        assert isinstance(choose_runner(network, EngineConfig(device="cpu", mode=mode)), OpenVinoRunner)
    assert isinstance(choose_runner(network, EngineConfig(device="openvino:CPU")), OpenVinoRunner)
    reference = choose_runner(network, EngineConfig(device="cpu", mode="reference"))
    assert isinstance(reference, PlainRunner) and not reference.keeps_features
    with pytest.raises(DeviceError, match="reference runs in precision float32; got float16"):
        choose_runner(network, EngineConfig(device="cpu", mode="reference", precision="float16"))


@pytest.mark.parametrize("missing", ["openvino", "numba"])
def test_what_is_missing_auto_does_without_and_fast_says_what_to_do(make_network, monkeypatch, caplog, missing):
    network = make_network("small")
    for name in [name for name in sys.modules if name.startswith("dvmvs_core.runtime.")]:
        if not name.endswith((".runner", ".plain_runner", ".choose_runner", ".devices")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    runner = choose_runner(network, EngineConfig(device="cpu"))
    assert isinstance(runner, PlainRunner) and runner.keeps_features
    assert len(caplog.records) == 1 and missing in caplog.text
    with pytest.raises(DeviceError, match=f"{missing}.*pip install openvino"):
        choose_runner(network, EngineConfig(device="cpu", mode="fast"))


def test_without_openvino_a_device_of_it_is_refused(make_network, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    openvino_core.cache_clear()
    with pytest.raises(DeviceError, match="pip install openvino, or choose device cpu"):
        choose_runner(make_network("small"), EngineConfig(device="openvino"))


def test_a_device_that_openvino_does_not_find_is_refused(make_network):
    with pytest.raises(DeviceError, match="'openvino:NPU7' was asked for, but OpenVINO finds only .*CPU"):
        choose_runner(make_network("small"), EngineConfig(device="openvino:NPU7"))


@pytest.mark.parametrize(
    ("settings", "halves"),
    [
        ({}, True),
        ({"matching": "off"}, True),
        ({"mode": "reference"}, False),
        ({"precision": "float32"}, False),
        ({"precision": "bfloat16", "matching": "off"}, True),
    ],
)
@pytest.mark.parametrize("capabilities", [["FP32", "BF16"], ["FP32"]])
def test_auto_is_half_precision_but_for_what_was_published(monkeypatch, settings, halves, capabilities):
    class Core:
        def get_property(self, *_names):
            return capabilities

    monkeypatch.setattr(dvmvs_core.runtime.devices, "openvino_core", Core)
    config = EngineConfig(device="cpu", **settings)
    asked_for = config.precision == "bfloat16"
    expected = "bfloat16" if halves and (asked_for or "BF16" in capabilities) else "float32"
    assert network_precision(config, "small", torch.device("cpu")) == expected
    if not asked_for:
        assert network_precision(config, "paper", torch.device("cpu")) == "float32", "depth as published"
        on_a_gpu = network_precision(config.replace(device="cuda"), "small", torch.device("cuda"))
        assert on_a_gpu == ("float16" if halves else "float32")
    beside = "bfloat16" if config.precision != "float32" and "BF16" in capabilities else "float32"
    assert cpu_precision(config.precision) == beside
