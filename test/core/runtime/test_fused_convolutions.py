# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A network with fused convolutions gives what it gave before. cuDNN's operator is put together from plain ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from dvmvs_core.config import preset
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.runtime.fused_convolutions import ConvReLU, PointwiseConv, fold_batch_norms, fuse_convolutions


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
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    kinds = [type(module) for module in fused.modules()]
    # Every convolution with a ReLU but depthwise ones, and the projections at the end of inverted residuals.
    assert kinds.count(ConvReLU) == len({id(weight) for weight in fused_calls}) > 30
    assert kinds.count(PointwiseConv) == 17
