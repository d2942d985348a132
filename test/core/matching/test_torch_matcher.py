# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Matching in torch finds what the loops of numba find."""

from __future__ import annotations

import dataclasses

import cv2
import matching_walk
import numpy as np
import pytest
import torch

from dvmvs_core.config import MATCHING_PRESETS
from dvmvs_core.matching.gpu import kernels as kernels_module
from dvmvs_core.matching.gpu.kernels import PLAIN, Kernels, check_kernels, choose_kernels
from dvmvs_core.matching.gpu.torch_matcher import TorchMatcher
from dvmvs_core.matching.matched_confidence import matched_confidence

SIZE = (64, 96)
CPU = torch.device("cpu")
DEPTHS = ("depth", "measured_depth", "network_depth", "prior")
OTHERS = ("margin", "agreement", "parallax", "blindness", "log_odds")


@pytest.fixture(scope="module")
def keyframes():
    return matching_walk.rendered_keyframes(SIZE, 8)


@pytest.mark.parametrize("preset", MATCHING_PRESETS)
def test_a_sequence_is_matched_as_the_loops_do_it(keyframes, preset):
    """Measured: medians of 5e-7, the largest difference of a depth 2e-4."""
    expected = matching_walk.walk(matching_walk.cpu_matcher(preset, SIZE), keyframes)
    found = matching_walk.walk(TorchMatcher(MATCHING_PRESETS[preset], *SIZE, CPU), keyframes)
    assert sum(one.views.max() > 0 for one in expected) >= 6, "the world is seen by past keyframes"
    assert max(one.agreement.max() for one in expected) > 0.2 and np.ptp(expected[-1].depth) > 0.5
    for one, other in zip(found, expected, strict=True):
        for name in DEPTHS:
            relative = matching_walk.differences(getattr(one, name), getattr(other, name))
            # A cell may take another of two planes that are equally good, and neighbours go with it.
            assert np.median(relative) < 1e-5 and (relative > 1e-3).mean() < 0.02, name
        for name in OTHERS:
            if getattr(other, name) is None:
                continue
            off = np.abs(getattr(one, name) - getattr(other, name))
            assert np.median(off) < 1e-3 and (off > 0.05).mean() < 0.02, name
        assert (one.views != other.views).mean() < 0.01
        assert one.depth.shape == other.depth.shape and one.depth.dtype == np.float32


def with_little_to_see(keyframes):
    """The same world out of focus, with noise of each frame, from a camera that hardly moves."""
    noise = np.random.default_rng(0)
    for keyframe in keyframes:
        image = cv2.GaussianBlur(keyframe.frame.image, (0, 0), 5) + noise.normal(0, 8, keyframe.frame.image.shape)
        world_T_cam = keyframe.frame.world_T_cam.copy()
        world_T_cam[:3, 3] *= 0.3
        frame = dataclasses.replace(keyframe.frame, image=image.clip(0, 255).astype(np.uint8), world_T_cam=world_T_cam)
        yield keyframe._replace(frame=frame)


def test_blind_keyframes_are_as_blind_and_as_unsure(keyframes):
    keyframes = list(with_little_to_see(keyframes))
    expected = matching_walk.walk(matching_walk.cpu_matcher("fast", SIZE), keyframes)[1:]
    found = matching_walk.walk(TorchMatcher(MATCHING_PRESETS["fast"], *SIZE, CPU), keyframes)[1:]
    partly = [((one.blindness > 0.1) & (one.blindness < 0.9)).mean() for one in expected]
    assert max(partly) > 0.3
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.blindness, other.blindness, atol=0.03)
        sure = matched_confidence(other, "fast")
        off = np.abs(one.confidence - sure)
        assert np.median(off) < 1e-3 and (off > 0.05).mean() < 0.02
        seeing = dataclasses.replace(other, blindness=np.zeros_like(other.blindness))
        less_sure = matched_confidence(seeing, "fast") - sure
        assert less_sure.min() > -1e-6 and less_sure.max() > 0.01


@pytest.mark.parametrize("preset", MATCHING_PRESETS)
def test_confidence_comes_with_the_depth(keyframes, preset):
    found = matching_walk.walk(TorchMatcher(MATCHING_PRESETS[preset], *SIZE, CPU), keyframes[:5])
    for one in found:
        expected = matched_confidence(dataclasses.replace(one, confidence=None), preset)
        np.testing.assert_allclose(one.confidence, expected, atol=1e-5)
        assert matched_confidence(one, preset) is one.confidence
    assert found[0].confidence.max() == 0 and found[-1].confidence.max() > 0.3


def test_descriptors_are_those_of_the_cpu(keyframes):
    """All but a byte in ten thousand, which rounding decides."""
    cpu, torch_matcher = matching_walk.cpu_matcher("fast", SIZE), TorchMatcher(MATCHING_PRESETS["fast"], *SIZE, CPU)
    for keyframe in keyframes[:3]:
        expected, found = (matching_walk.view_of(m, keyframe.frame).descriptors for m in (cpu, torch_matcher))
        for name in ("patches", "maps", "colours", "image", "grey"):
            one, other = getattr(found, name), torch.from_numpy(getattr(expected, name))
            assert one.dtype == other.dtype and one.shape == other.shape
            off = (one.int() - other.int()).abs()
            assert off.max() <= 1 and off.float().mean() < 1e-3, name
        torch.testing.assert_close(found.levels, expected.levels, rtol=1e-4, atol=1e-4)


def test_past_keyframes_are_straightened_as_on_the_cpu(keyframes):
    """As if another distortion had been found for the last keyframe; without that, its depth would be another."""

    def matched(matcher, distortion):
        past = [matching_walk.view_of(matcher, one.frame) for one in keyframes[:4]]
        last = keyframes[4]
        reference = dataclasses.replace(matching_walk.view_of(matcher, last.frame), distortion=distortion)
        return matcher.match(reference, past, torch.from_numpy(last.network_depth)).on_host().depth

    cpu, torch_matcher = matching_walk.cpu_matcher("fast", SIZE), TorchMatcher(MATCHING_PRESETS["fast"], *SIZE, CPU)
    expected = matched(cpu, -0.2)
    assert np.median(matching_walk.differences(matched(torch_matcher, -0.2), expected)) < 1e-3
    assert np.median(matching_walk.differences(matched(cpu, 0.0), expected)) > 1e-2


@pytest.fixture
def triton_kernels(monkeypatch):
    """Triton's kernels, interpreted on a CPU."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    if not torch.cuda.is_available():
        pytest.importorskip("triton", reason="Triton is not installed")
    module = pytest.importorskip("dvmvs_core.matching.gpu.triton_kernels")
    return Kernels(module.triton_sweep, module.triton_paths, module.triton_median)


def test_fused_kernels_equal_the_plain_ones(triton_kernels):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_kernels(triton_kernels, device)
    for arguments in kernels_module.example_paths(device):
        found, expected = triton_kernels.paths(*arguments), PLAIN.paths(*arguments)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for arguments in kernels_module.example_sweeps(device):
        totals, counts = PLAIN.sweep(*arguments)
        assert totals.std() > 0.1 and counts.unique().tolist() == [0, 1, 2, 3]
    medians = kernels_module.example_medians(device)
    assert torch.equal(triton_kernels.median_bins(*medians), PLAIN.median_bins(*medians))


@pytest.mark.parametrize("which", ["sweep", "paths", "median_bins"])
def test_kernels_that_are_wrong_are_noticed(which):
    def wrong(*arguments):
        result = getattr(PLAIN, which)(*arguments)
        return tuple(1.1 * part for part in result) if isinstance(result, tuple) else result + result.abs().max() / 9

    with pytest.raises(Exception, match="differs from the plain one"):
        check_kernels(PLAIN._replace(**{which: wrong}), CPU)


def test_where_kernels_cannot_run_the_plain_ones_do(monkeypatch, caplog):
    def broken(*_arguments):
        raise RuntimeError("no C compiler\nhere")

    monkeypatch.setattr(kernels_module, "check_kernels", broken)
    pytest.importorskip("triton", reason="Triton is not installed")
    assert choose_kernels(torch.device("cuda")) is PLAIN
    (line,) = caplog.messages
    assert "fused kernels cannot run" in line and "\n" not in line
