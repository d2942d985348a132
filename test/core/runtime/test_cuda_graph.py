# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Graphs take their inputs and are captured once a shape; fused convolutions give what plain ones do."""

from __future__ import annotations

import copy
import math
from unittest.mock import MagicMock

import pytest
import torch
from torch.nn import functional

from dvmvs_core.config import preset
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.runtime import cuda_graph
from dvmvs_core.runtime.cuda_graph import CudaGraphs, Graph
from dvmvs_core.runtime.fused_convolutions import ConvReLU, PointwiseConv, fold_batch_norms, fuse_convolutions

CUDA = torch.device("cuda", 0)


@pytest.fixture
def captures(monkeypatch):
    """Shapes of the first input of each capture; what is captured is on the CPU, in fixed places as on a GPU.

    A replay overwrites the outputs of all graphs, as it may where they share memory.
    """
    shapes, places = [], []

    def capture(function, inputs, device):
        assert device == CUDA
        shapes.append(tuple(inputs[0].shape))
        static = [x.clone() for x in inputs]
        outputs = tuple(torch.zeros_like(x) for x in function(*static))
        places.extend(outputs)

        def replay():
            for place in places:
                place.fill_(math.nan)
            for place, value in zip(outputs, function(*static), strict=True):
                place.copy_(value)

        return Graph(replay, static, outputs)

    monkeypatch.setattr(cuda_graph, "capture", capture)
    return shapes


def test_a_shape_is_captured_once_and_replayed_on_other_numbers(captures):
    graphs = CudaGraphs(lambda x, y: (x + y, x - y), CUDA)
    for number in range(4):
        x, y = torch.full((3,), float(number)), torch.ones(3)
        total, difference = graphs(x, y)
        assert torch.equal(total, x + 1) and torch.equal(difference, x - 1)
    assert captures == [(3,)]
    graphs(torch.zeros(3, dtype=torch.float64), torch.ones(3))
    graphs(torch.zeros(2), torch.ones(2))
    assert captures == [(3,), (3,), (2,)]


def test_what_a_replay_gave_is_kept(captures):
    """Features of one graph are used after another one, of the matcher or of another engine, has run."""
    graphs, others = (CudaGraphs(lambda x: (2 * x, x.T), CUDA) for _ in range(2))
    x = torch.arange(6.0).view(2, 3)
    calls = [(graphs, x), (graphs, x + 1), (others, x + 2), (graphs, x + 3)]
    results = [run(given) for run, given in calls]
    for (doubled, turned), (_, given) in zip(results, calls, strict=True):
        assert torch.equal(doubled, 2 * given) and torch.equal(turned, given.T)


def test_the_least_recently_used_goes(captures, monkeypatch):
    monkeypatch.setattr(cuda_graph, "MAX_GRAPHS", 2)
    graphs = CudaGraphs(lambda x: (x,), CUDA)
    for size in (1, 2, 1, 3, 1, 2):
        graphs(torch.zeros(size))
    assert captures == [(1,), (2,), (3,), (2,)]


def test_every_number_of_measurement_frames_that_can_come_has_a_place():
    assert cuda_graph.MAX_GRAPHS > 7


def test_elsewhere_the_function_runs_as_it_is(captures):
    (found,) = CudaGraphs(lambda x: (x + 1,), torch.device("cpu"))(torch.zeros(2))
    assert found.tolist() == [1.0, 1.0] and not captures


def test_graphs_share_a_pool_for_as_long_as_one_of_them_exists(monkeypatch):
    """Torch frees a pool with its last graph, and a capture into one that was freed fails."""
    pools, handles = [], iter(range(100))
    for name in ("device", "Stream", "stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", type("CUDAGraph", (), {"replay": lambda self: None}))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, next(handles)))
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **how: pools.append(how.get("pool")) or MagicMock())
    monkeypatch.setattr(cuda_graph, "_pools", {})
    cpu = torch.device("cpu")

    def captured():
        return cuda_graph.capture(lambda x: (x + 1,), (torch.zeros(2),), cpu)

    first, second = captured(), captured()
    del first
    third = captured()
    assert pools == [(0, 0)] * 3
    del second, third
    captured()
    assert pools[3] == (0, 1)


@pytest.fixture
def fused_calls(monkeypatch):
    calls = []

    def conv_relu(x, weight, bias, stride, padding, dilation, groups):
        calls.append(weight)
        return functional.conv2d(x, weight, bias, stride, padding, dilation, groups).relu()

    monkeypatch.setattr(torch, "cudnn_convolution_relu", conv_relu)
    return calls


@pytest.mark.parametrize("name", ["paper", "small"])
@torch.inference_mode()
def test_a_network_gives_the_same(fused_calls, name):
    torch.manual_seed(0)
    network = build_network(preset(name, height=64, width=96)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias)
    fused = copy.deepcopy(network)
    fold_batch_norms(fused)
    fuse_convolutions(fused)
    image, costs = torch.randn(1, 3, 64, 96), torch.randn(1, 64, 32, 48)
    found, expected = (n.decode(image, n.extract(image), costs, None)[0] for n in (fused, network))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused.modules())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    kinds = [type(module) for module in fused.modules()]
    # Every convolution with a ReLU but depthwise ones, and the projections at the end of inverted residuals.
    assert kinds.count(ConvReLU) == len({id(weight) for weight in fused_calls}) > 30
    assert kinds.count(PointwiseConv) == 17
