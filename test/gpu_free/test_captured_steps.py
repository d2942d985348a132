# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a CUDA graph captures holds no copy, no wait and nothing of the host; around it, a frame sends one tensor."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import _disable_current_modes

from dvmvs_core import choose_confidence as choose_confidence_module
from dvmvs_core.choose_confidence import choose_confidence
from dvmvs_core.config import preset
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.preprocess import Preprocessor
from dvmvs_core.runtime import cuda_runner
from dvmvs_core.runtime.cuda_graph import CudaGraphs
from dvmvs_core.runtime.cuda_runner import CudaRunner
from dvmvs_core.runtime.previous_keyframe import PreviousKeyframe

HEIGHT, WIDTH = 64, 96
CUDA = torch.device("cuda", 0)
NETWORKS = {
    "paper fusionnet": ("paper", "fusionnet", {}),
    "paper pairnet": ("paper", "pairnet", {}),
    "small fusionnet": ("small", "fusionnet", {}),
    "small pairnet": ("small", "pairnet", {}),
    "refined fusionnet": ("small", "fusionnet", {"refinement_channels": 6}),
}
POSE = torch.eye(4)[None]
K = torch.tensor([[[80.0, 0, 48], [0, 84.0, 30], [0, 0, 1]]])


@pytest.fixture
def captured(monkeypatch, fake_cuda):
    """List of what was run in place of captures: number of inputs that had to be sent to the device."""
    with fake_cuda() as outer:
        watch_type = type(outer)
    sent = []

    def call(graphs, *inputs):
        sent.append(sum(x.device.type == "cpu" for x in inputs))
        inputs = [x.to(CUDA, non_blocking=True) if x.device.type == "cpu" else x for x in inputs]
        with watch_type() as watch:
            outputs = graphs._function(*inputs)
        watch.assert_capturable()
        return outputs

    monkeypatch.setattr(CudaGraphs, "__call__", call)
    return sent


@pytest.fixture
def runner_of(on_cuda, on_the_host):
    """Function of a name of NETWORKS and a precision: the runner as it would be on the device."""
    on_the_host(cuda_runner, "step_geometry")

    def build(name, dtype):
        chosen, network, changes = NETWORKS[name]
        with _disable_current_modes():
            config = preset(chosen, network=network, height=HEIGHT, width=WIDTH, **changes)
            runner = CudaRunner(build_network(config).eval(), torch.device("cpu"), getattr(torch, dtype), strict=False)
        on_cuda(runner._network)
        runner.device = CUDA
        runner.timer = _refuse
        runner._no_memory = tuple(torch.empty(x.shape, device=CUDA) for x in runner._no_memory)
        return runner

    return build


def _refuse(stage):
    """In place of a timer, which may wait for the device."""
    raise AssertionError(f"{stage} was timed within a capture")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_keyframes(fake_cuda, captured, runner_of, name, dtype):
    with fake_cuda() as watch, torch.no_grad():
        runner = runner_of(name, dtype)
        watch.uploads.clear(), watch.mixed.clear(), watch.waits.clear()
        image = torch.empty(1, 3, HEIGHT, WIDTH, device=CUDA)
        features = runner.features(image)
        previous = None
        for frames in (1, 2, 3):
            captured.clear(), watch.uploads.clear()
            measurements = [features.matching] * frames
            depth, state = runner.depth(image, features, measurements, POSE, [POSE] * frames, K, previous)
            assert depth.shape == (1, HEIGHT, WIDTH) and depth.device == CUDA and depth.dtype == torch.float32
            assert captured == [1] and len(watch.uploads) == 1
            previous = PreviousKeyframe(depth[:, None], POSE, state)
            assert all(part.dtype == torch.float32 for part in state or ())
    assert not watch.waits and not watch.mixed


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("predictions", [0, 2, 5])
def test_confidence(fake_cuda, captured, on_the_host, frames, predictions):
    on_the_host(choose_confidence_module, "packed_geometry")
    estimate = choose_confidence(CUDA)
    estimate._checked.update((1, 2, 3))
    with fake_cuda() as watch, torch.no_grad():
        depth = torch.empty(1, HEIGHT, WIDTH, device=CUDA)
        matching = torch.empty(1, 9, HEIGHT // 2, WIDTH // 2, device=CUDA)
        views, past = [(matching, POSE)] * frames, [(depth[:, None], POSE)] * predictions
        found = estimate(depth, K, POSE, matching, views, past)
        assert found.shape == depth.shape and found.device == CUDA
    assert captured == [1] and len(watch.uploads) == 1 and not watch.waits and not watch.mixed


def test_preprocessing_sends_the_bytes_of_an_image_once(fake_cuda):
    preprocessor = Preprocessor(K[0].numpy(), (48, 80), (HEIGHT, WIDTH))
    image = np.zeros((48, 80, 3), np.uint8)
    with fake_cuda() as watch:
        normalised, resized = preprocessor.network_image(image, CUDA)
        assert normalised.device == resized.device == CUDA
    assert len(watch.uploads) == 1 and not watch.waits and not watch.mixed


class Kernel:
    """In place of Triton's: notes that it is started on tensors it can read."""

    def __init__(self):
        self.grids = []

    def __getitem__(self, grid):
        def start(*arguments, **constants):
            tensors = [x for x in arguments if isinstance(x, torch.Tensor)]
            assert all(x.device == CUDA and x.is_contiguous() and x.dtype == torch.float32 for x in tensors)
            self.grids.append(grid)

        return start


def test_fused_plane_sweep(fake_cuda, monkeypatch):
    # Settled at the first import, and other tests have kernels interpreted.
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    from dvmvs_core.runtime import triton_sweep

    kernel = Kernel()
    monkeypatch.setattr(triton_sweep, "_sweep_kernel", kernel)
    with fake_cuda() as watch:
        reference = torch.empty(1, 9, 32, 48, device=CUDA)
        homographies = torch.empty(1, 2, 3, 3, device=CUDA).transpose(0, 1)
        translations = torch.empty(1, 2, 3, device=CUDA).transpose(0, 1)
        measurements = torch.empty(2, 1, 9, 32, 48, device=CUDA)
        arguments = (reference, measurements, homographies, translations, torch.empty(12, device=CUDA), True)
        costs = triton_sweep.triton_sweep(*arguments)
        assert costs.shape == (1, 12, 32, 48) and costs.device == CUDA
    watch.assert_capturable()
    assert kernel.grids == [(math.ceil(32 * 48 / triton_sweep.PIXELS), 12, 1)]
