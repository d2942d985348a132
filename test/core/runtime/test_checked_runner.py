# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A GPU that fails in any way leaves depth from the plain network, and one line that says why."""

from __future__ import annotations

import failing_gpu
import pytest
import torch

from dvmvs_core.config import EngineConfig
from dvmvs_core.errors import DeviceError
from dvmvs_core.model.checkpoint import load_network
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.runtime import checked_runner
from dvmvs_core.runtime.checked_runner import CheckedRunner
from dvmvs_core.runtime.choose_runner import choose_runner
from dvmvs_core.runtime.cuda_graph import CudaGraphs
from dvmvs_core.runtime.cuda_runner import CudaRunner
from dvmvs_core.runtime.device_memory import needed_mb
from dvmvs_core.runtime.openvino_runner import OpenVinoRunner
from dvmvs_core.runtime.plain_runner import PlainRunner

CPU = torch.device("cpu")


def assert_same(found, expected):
    torch.testing.assert_close(*([depth for depth, _ in steps] for steps in (found, expected)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("network", ["fusionnet", "pairnet"])
def test_captured_steps_are_trusted_where_they_agree(make_network, caplog, network, precision):
    runner = CheckedRunner(make_network("small", network), CPU, EngineConfig(precision=precision, mode="fast"))
    assert runner.description == "plain operators, unfused plane sweep" and not caplog.records


def test_where_graphs_agree_the_network_on_the_device_is_not_run(make_network):
    """Only a copy on the CPU is."""
    network, ran = make_network("small"), []
    network.feature_extractor.register_forward_hook(lambda module, *_: ran.append(module is network.feature_extractor))
    CheckedRunner(network, CPU, EngineConfig(mode="fast"))
    assert ran == 6 * [False]


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["capture", "memory at start", "memory later", "wrong numbers"])
def test_depth_goes_on_with_one_line(make_network, plain_depths, runner_depths, monkeypatch, caplog, kind, precision):
    expected = plain_depths(make_network("small"))
    failing_gpu.fail(kind, monkeypatch.setattr)
    monkeypatch.setattr(failing_gpu, "CALLS_BEFORE", 9)  # of 5 in the check and 10 in all keyframes
    runner = choose_runner(make_network("small"), EngineConfig(precision=precision))
    found = runner_depths(runner)
    assert_same(found[2:] if kind == "memory later" else found, expected[2:] if kind == "memory later" else expected)
    (line,) = caplog.messages
    assert line.startswith(failing_gpu.WARNINGS[kind]) and "\n" not in line
    assert line.endswith("depth goes on with the plain network on cpu")
    assert runner.description == "plain network on CUDA"


def test_memory_that_runs_out_in_the_middle_of_a_keyframe_costs_nothing(
    make_network, plain_depths, runner_depths, monkeypatch, caplog
):
    """Features came from the graph then, and must not be used with the plain network."""
    runner = CheckedRunner(make_network("small"), CPU, EngineConfig(precision="float16"))

    def no_memory(*_inputs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    runner._captured._depth = no_memory
    for (depth, _), (plain_depth, _) in zip(runner_depths(runner), plain_depths(make_network("small")), strict=True):
        assert ((depth - plain_depth).abs() / plain_depth).mean() < 1e-3
    assert len(caplog.records) == 1


def test_a_line_says_how_much_memory_is_needed(make_network, monkeypatch, caplog):
    failing_gpu.fail("memory at start", monkeypatch.setattr)
    network = make_network("small")
    choose_runner(network, EngineConfig())
    weights_mb = sum(p.numel() * p.element_size() for p in network.parameters()) / 2**20
    needed = needed_mb(network.config)
    assert needed > 2 * weights_mb + 0.5
    assert f"fusionnet at 96x64: it needs about {needed:.0f} MiB" in caplog.text
    larger = needed_mb(network.config.replace(height=128, width=192))
    assert 2 < (larger - 2 * weights_mb) / (needed - 2 * weights_mb) < 5


def test_where_not_even_the_plain_network_runs_auto_takes_the_cpu_and_cuda_says_so(
    make_network, plain_depths, runner_depths, monkeypatch, caplog
):
    expected = plain_depths(make_network("small"))
    failing_gpu.fail("capture", monkeypatch.setattr)

    def no_memory(*_arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(PlainRunner, "features", no_memory)
    with pytest.raises(DeviceError, match=r"^cpu has too little free memory for fusionnet at 96x64: it needs about"):
        choose_runner(make_network("small"), EngineConfig(device="cuda"))
    runner = choose_runner(make_network("small"), EngineConfig(precision="float32"))
    assert isinstance(runner, OpenVinoRunner) and caplog.messages[-1].endswith("depth comes from the CPU")
    assert_same(runner_depths(runner), expected)


def test_without_a_driver_auto_takes_the_cpu_and_cuda_says_what_to_do(make_network, monkeypatch, caplog):
    failing_gpu.fail("no driver", monkeypatch.setattr)
    for mode in ("auto", "reference"):
        with pytest.raises(DeviceError, match="cuda cannot be used .*nvidia-smi, or choose device cpu"):
            choose_runner(make_network("small"), EngineConfig(device="cuda", mode=mode))
    assert isinstance(choose_runner(make_network("small"), EngineConfig()), OpenVinoRunner)
    (line,) = caplog.messages
    assert line.startswith(failing_gpu.WARNINGS["no driver"])


def test_factors_of_convolutions_keep_all_their_bits(make_network, monkeypatch):
    failing_gpu.fail("capture", monkeypatch.setattr)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    choose_runner(make_network("small"), EngineConfig(precision="float16"))
    assert not torch.backends.cudnn.allow_tf32


def test_mode_fast_does_not_go_on_without_graphs(make_network, monkeypatch):
    failing_gpu.fail("capture", monkeypatch.setattr)
    with pytest.raises(DeviceError, match="CUDA graphs cannot be used .*mode fast does not go on without them"):
        choose_runner(make_network("small"), EngineConfig(mode="fast"))


@pytest.fixture(scope="module")
def small_network():
    """The network as it is shipped, for smaller images."""
    shipped, config = load_network("small")
    network = build_network(config.replace(height=64, width=96)).eval()
    network.load_state_dict(shipped.state_dict())
    return network


@pytest.mark.parametrize("forgotten", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_the_check_sees_a_graph_that_does_not_take_an_input(monkeypatch, small_network, forgotten):
    """Which then keeps what it was captured with: geometry, image, features, and the past."""
    run, kept = CudaGraphs.__call__, {}

    def call(graphs, *inputs):
        if len(inputs) > forgotten:
            inputs = list(inputs)
            inputs[forgotten] = kept.setdefault(id(graphs), inputs[forgotten].clone())
        return run(graphs, *inputs)

    monkeypatch.setattr(CudaGraphs, "__call__", call)
    with pytest.raises(DeviceError, match="depth differs from the plain network's"):
        CheckedRunner(small_network, CPU, EngineConfig(mode="fast", precision="float32"))


def test_a_plane_sweep_that_is_wrong_or_cannot_start_is_not_used(monkeypatch):
    from dvmvs_core.model.cost_volume import plane_sweep
    from dvmvs_core.runtime.cuda_runner import check_sweep

    check_sweep(plane_sweep, CPU)
    for wrong in (lambda *a: plane_sweep(*a) + 0.01, lambda *a: plane_sweep(*a[:-1], not a[-1])):
        with pytest.raises(DeviceError, match="differs from the plain one"):
            check_sweep(wrong, CPU)


def test_a_timer_is_told_by_whatever_runs(make_network, runner_depths):
    from contextlib import nullcontext

    runner, heard = CheckedRunner(make_network("small"), CPU, EngineConfig()), []
    runner.timer = lambda stage: heard.append(stage) or nullcontext()
    runner_depths(runner)
    assert heard == 4 * ["plane_sweep", "network"]
    assert checked_runner.TOLERANCE["float32"] < checked_runner.TOLERANCE["float16"]
    assert isinstance(runner._captured, CudaRunner)
