# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a CUDA graph captures holds no copy, no wait and nothing of the host; around it, a frame sends one tensor."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.utils._python_dispatch import _disable_current_modes

from dvmvs_core import captured_steps
from dvmvs_core.captured_steps import choose_confidence, choose_fusion
from dvmvs_core.config import MATCHING_PRESETS, preset
from dvmvs_core.engine_state import FrameEstimate
from dvmvs_core.matching.gpu import torch_matcher as matcher_module
from dvmvs_core.matching.gpu.kernels import PLAIN, Kernels
from dvmvs_core.matching.gpu.torch_matcher import TorchMatcher
from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.preprocess import Preprocessor
from dvmvs_core.runtime import cuda_graph, cuda_runner
from dvmvs_core.runtime.cuda_graph import CudaGraphs
from dvmvs_core.runtime.cuda_runner import CudaRunner
from dvmvs_core.runtime.runner import PreviousKeyframe
from dvmvs_core.temporal_fusion import PAST_DEPTHS, FusedDepth

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
        # In inference mode an operation that is made of others is seen from outside only.
        with watch_type() as watch, torch.inference_mode(False), torch.no_grad():
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
    on_the_host(captured_steps, "packed_geometry")
    estimate = choose_confidence(CUDA)
    estimate._checked.update((1, 2, 3))
    with fake_cuda() as watch, torch.no_grad():
        depth = torch.empty(1, HEIGHT, WIDTH, device=CUDA)
        matching = torch.empty(1, 9, HEIGHT // 2, WIDTH // 2, device=CUDA)
        views, past = [(matching, POSE)] * frames, [(depth[:, None], POSE)] * predictions
        found = estimate(depth, K, POSE, matching, views, past)
        assert found.shape == depth.shape and found.device == CUDA
    assert captured == [1] and len(watch.uploads) == 1 and not watch.waits and not watch.mixed


@pytest.mark.parametrize("keyframes", [0, 1, PAST_DEPTHS])
def test_temporal_fusion_and_sharpening(fake_cuda, captured, on_the_host, keyframes):
    on_the_host(captured_steps, "padded_matrices")
    fuse = choose_fusion(CUDA)
    fuse._checked.add(keyframes)
    with fake_cuda() as watch, torch.no_grad():
        depth, confidence = (torch.empty(1, HEIGHT, WIDTH, device=CUDA) for _ in range(2))
        image = torch.empty(HEIGHT, WIDTH, 3, device=CUDA)
        mean = FusedDepth(*(torch.empty(1, HEIGHT // 2, WIDTH // 2, device=CUDA) for _ in range(2)), POSE)
        *found, kept = fuse(depth, confidence, image, K, POSE, [mean] * keyframes)
        assert all(part.shape == depth.shape and part.device == CUDA for part in found)
        assert kept.depth.shape == kept.weight.shape == mean.depth.shape and kept.world_T_cam is POSE
    assert captured == [1] and len(watch.uploads) == 1 and not watch.waits and not watch.mixed


def test_preprocessing_sends_the_bytes_of_an_image_once(fake_cuda):
    preprocessor = Preprocessor(K[0].numpy(), (48, 80), (HEIGHT, WIDTH))
    image = np.zeros((48, 80, 3), np.uint8)
    with fake_cuda() as watch:
        normalised, resized = preprocessor.network_image(image, CUDA)
        assert normalised.device == resized.device == CUDA
    assert len(watch.uploads) == 1 and not watch.waits and not watch.mixed


def test_what_comes_back_is_waited_for_once(fake_cuda, monkeypatch):
    stream = MagicMock()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.Tensor, "numpy", lambda tensor: np.zeros(tensor.shape, np.float32))
    parts = [(HEIGHT, WIDTH, 3), (1, HEIGHT, WIDTH), (1, HEIGHT, WIDTH)]
    with fake_cuda() as watch:
        image, depth, confidence = (torch.empty(shape, device=CUDA) for shape in parts)
        estimate = FrameEstimate(image, depth, depth, None, confidence, None)
        frame = SimpleNamespace(world_T_cam=np.eye(4), stamp_ns=1, index=0)
        prediction = estimate.prediction(frame, np.eye(3), [], 0.0)
    assert prediction.depth.shape == prediction.confidence.shape == (HEIGHT, WIDTH)
    assert stream.synchronize.call_count == 1 and len(watch.mixed) == 3
    assert not any("aten.copy_" in line or "cpu()" in line for line in watch.mixed)


def test_what_a_graph_takes_is_copied_in_one_launch_a_type(fake_cuda):
    with fake_cuda() as watch:
        halves = [torch.empty(1, 4, 8, 8, dtype=torch.float16, device=CUDA) for _ in range(4)]
        floats = [torch.empty(1, 1, 8, 8, device=CUDA) for _ in range(6)]
        sent = torch.zeros(41).pin_memory()
        given = [sent, *halves, *floats]
        cuda_graph._copy(given, [torch.empty(x.shape, dtype=x.dtype, device=CUDA) for x in given])
    assert watch.operations["aten._foreach_copy_.default"] == 2 and watch.operations["aten.copy_.default"] == 1
    assert len(watch.uploads) == 1 and not watch.mixed and not watch.waits


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


@pytest.fixture
def matcher_of(on_cuda):
    """Function of a preset: matching as it would be on the device, with kernels that give tensors of the right kind."""

    def build(name):
        with _disable_current_modes():
            matcher = TorchMatcher(MATCHING_PRESETS[name], HEIGHT, WIDTH, torch.device("cpu"), STARTED)
            networks = [copy.deepcopy(network) for network in (matcher._lite0, matcher._regulariser)]
        matcher._lite0, matcher._regulariser = (on_cuda(network) for network in networks)
        fits = matcher._fitted_planes
        for owner, names in (
            (matcher, ("_log_depths", "_inverse_depths", "_fine_changes", "_weights")),
            (fits, ("_down", "_across", "_x", "_y")),
        ):
            for attribute in names:
                constant = getattr(owner, attribute)
                setattr(owner, attribute, torch.empty(constant.shape, dtype=constant.dtype, device=CUDA))
        matcher.device = CUDA
        return matcher

    return build


def _sweep(reference, views, matrices, inverse_depths, margin):
    assert reference.is_contiguous() and views.is_contiguous() and matrices.is_contiguous()
    assert reference.dtype == views.dtype == torch.int8 and reference.shape == views.shape[1:]
    assert inverse_depths.shape[:2] == reference.shape[:2] and isinstance(margin, float)
    across, cell, plane = inverse_depths.stride()
    assert across == cell * inverse_depths.shape[1] and plane == 1
    return tuple(torch.empty(inverse_depths.shape, device=reference.device) for _ in range(2))


def _paths(scores, penalties, next_penalty):
    assert scores.is_contiguous() and penalties.is_contiguous() and isinstance(next_penalty, float)
    assert scores.dtype == penalties.dtype == torch.float32 and penalties.shape == (2, *scores.shape[:2])
    return torch.empty((4, *scores.shape), device=scores.device)


def _median_bins(in_order, weights_in_order, weights):
    assert all(part.is_contiguous() and part.shape == weights.shape for part in (in_order, weights_in_order))
    assert in_order.dtype == torch.int32 and weights.is_contiguous()
    return torch.empty(weights.shape[:-1], dtype=torch.int32, device=weights.device)


STARTED = Kernels(_sweep, _paths, _median_bins)
"""In place of Triton's, which needs memory that is there: these check that it could read what it is given."""


@pytest.mark.parametrize("kernels", ["fused", "plain"])
@pytest.mark.parametrize("name", MATCHING_PRESETS)
def test_matching(fake_cuda, captured, matcher_of, monkeypatch, name, kernels):
    """A keyframe sends two tensors, and the host waits for the device once: for the prior depth and its agreement.

    Grey levels come without a wait, before the prior depth. Poses, corrected or not, are numbers.
    """
    waits, packed, intrinsics = [], {}, K[0].numpy()

    def downloaded(tensor):
        waits.append(tensor.shape)
        return SimpleNamespace(numpy=lambda: np.full(tensor.shape, 2.0, np.float32))

    def uncorrected(reference, views, *prior_and_calibration):
        *prior, calibration = prior_and_calibration
        assert [values.shape for values in prior] == 2 * [(HEIGHT // 4, WIDTH // 4)]
        assert all(view.descriptors.grey.device.type == "cpu" for view in (reference, *views))
        return views, calibration

    monkeypatch.setattr(torch.Tensor, "cpu", downloaded)
    monkeypatch.setattr(matcher_module, "corrected_views", uncorrected)
    for function in ("packed_views", "packed_cameras"):
        real = getattr(matcher_module, function)
        monkeypatch.setattr(matcher_module, function, _on_real_numbers(real, packed))
    with fake_cuda() as watch, torch.no_grad():
        matcher = matcher_of(name)
        if kernels == "plain":
            matcher._kernels = PLAIN
        watch.uploads.clear(), watch.mixed.clear(), watch.waits.clear()
        past, shapes = [], set()
        for index in range(4 if kernels == "fused" else 2):
            world_T_cam = np.eye(4, dtype=np.float32)
            world_T_cam[0, 3] = 0.1 * index
            image = torch.empty(HEIGHT, WIDTH, 3, device=CUDA)
            captured.clear(), watch.uploads.clear(), watch.mixed.clear(), waits.clear()
            view = MatchingView(matcher.describe(image), intrinsics, world_T_cam)
            matched = matcher.match(view, past, torch.empty(HEIGHT, WIDTH, device=CUDA))
            assert waits == [(2, HEIGHT // 4, WIDTH // 4)] and matched.depth.shape == (HEIGHT, WIDTH)
            (download,) = watch.mixed
            assert 'grey.to("cpu", non_blocking=True)' in download
            steps = 3 if past else 2
            assert len(captured) == steps and sum(captured) == len(watch.uploads) == steps - 1
            if past:
                assert all(getattr(matched, part).device == CUDA for part in ("depth", "confidence", "past"))
                shapes.add(tuple(packed.values()))
            past.append(view.with_depth(matched.settled(matched.depth[::2, ::2])))
        assert len(shapes) == 1, "one graph serves any number of views and of past depths"
    assert not watch.waits


def _on_real_numbers(function, shapes):
    """Geometry goes through numpy; what comes of it is sent as a fake tensor."""

    def call(*arguments):
        with _disable_current_modes():
            result = function(*arguments)
        shapes[function.__name__] = tuple(result.shape)
        return torch.empty(result.shape, dtype=result.dtype)

    return call


FORBIDDEN = {
    "list index": lambda x: x[:, [0, 1], [0, 1]],
    "new tensor": lambda x: x * x.new_tensor((1.0, 2.0, 3.0)),
    "inverse": torch.linalg.inv,
    "blocking copy": lambda x: torch.zeros(3).to("cuda"),
    "copy that is not pinned": lambda x: torch.zeros(3).to("cuda", non_blocking=True),
    "to the host": lambda x: x.cpu(),
    "mixed devices": lambda x: x * torch.tensor(2.0),
}


@pytest.mark.parametrize("name", FORBIDDEN)
@pytest.mark.parametrize("inference", [True, False])
def test_it_notes_waits_and_copies(fake_cuda, name, inference):
    with fake_cuda() as watch, torch.inference_mode(inference):
        FORBIDDEN[name](torch.empty(1, 3, 3, device="cuda"))
    with pytest.raises(AssertionError):
        watch.assert_capturable()


@pytest.mark.parametrize("wait", [lambda x: x.sum().item(), lambda x: x.nonzero(), lambda x: x[x > 0]])
def test_fake_tensors_refuse_what_depends_on_numbers(fake_cuda, wait):
    with fake_cuda(), pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        wait(torch.empty(4, device="cuda"))


def test_a_pinned_upload_is_counted_and_work_on_the_device_is_free(fake_cuda):
    with fake_cuda() as watch:
        x = torch.zeros(3).pin_memory().to("cuda", non_blocking=True)
        y = (x + 1).sum() * 2.0
    assert y.device.type == "cuda" and len(watch.uploads) == 1 and not watch.mixed and not watch.waits
