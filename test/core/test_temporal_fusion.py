# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Means over keyframes: exact in geometry, less noisy than one keyframe, and deaf to what does not agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvmvs_core.captured_steps import CapturedFusion, captured_step, fuse_and_sharpen
from dvmvs_core.runtime.cuda_graph import CudaGraphs
from dvmvs_core.temporal_fusion import DOUBT, MAX_WEIGHT, MIN_WEIGHT, PAST_WEIGHT, FusedDepth, fuse_depth

HEIGHT, WIDTH = 48, 64
K = torch.tensor([[[60.0, 0, 31], [0, 55.0, 22], [0, 0, 1]]])
SURE = torch.ones(1, HEIGHT, WIDTH)


def pose(x=0.0, z=0.0, angle=0.0) -> torch.Tensor:
    """Moved to the right and forwards, and turned to the right."""
    T = torch.eye(4)[None]
    T[0, :3, 3] = torch.tensor([x, 0.0, z])
    c, s = np.cos(angle), np.sin(angle)
    T[0, :3, :3] = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return T


def wall(world_T_cam: torch.Tensor) -> torch.Tensor:
    """Depth (1, H, W) of a slanted wall, z = 3 + 0.2 x + 0.1 y in the world."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    T, camera = world_T_cam[0].double().numpy(), K[0].double().numpy()
    rays = np.linalg.inv(camera) @ np.stack([x, y, np.ones(x.shape)]).reshape(3, -1)
    normal = np.array([-0.2, -0.1, 1.0])
    depth = (3 - normal @ T[:3, 3]) / (normal @ T[:3, :3] @ rays)
    return torch.from_numpy(depth.reshape(1, HEIGHT, WIDTH).astype(np.float32))


def seen(depth: torch.Tensor, world_T_cam: torch.Tensor, weight: float = 1.0) -> FusedDepth:
    own = depth[:, ::2, ::2]
    return FusedDepth(own, torch.full_like(own, weight), world_T_cam)


@pytest.mark.parametrize("there", [pose(0.1), pose(z=0.3), pose(-0.2, 0.1, 0.1), pose(0.05, -0.2, -0.2)])
def test_depth_of_a_wall_stays_as_it_is(there):
    here = pose(0.02)
    fused, confidence, _ = fuse_depth(wall(here), SURE, K, here, [seen(wall(there), there)])
    torch.testing.assert_close(fused, wall(here), rtol=2e-4, atol=0)
    torch.testing.assert_close(confidence, SURE, rtol=1e-3, atol=0)


def test_the_past_moves_depth_by_its_share():
    """Of a wall 2 % too near here and 2 % too far there; out of view nothing is added."""
    here, there = pose(), pose(0.4)
    own, past = wall(here) * 0.98, wall(there) * 1.02
    confidence = 0.8 * SURE
    fused, _, kept = fuse_depth(own, confidence, K, here, [seen(past, there, 1.6)])
    difference = np.log(1.02 / 0.98)
    share = PAST_WEIGHT * 1.6 * np.exp(-((difference / 0.05) ** 2))
    expected = difference * share / (0.8 + share)
    correction = (fused / own).log()[0]
    right = correction[4:-4, WIDTH // 2 : -4]
    assert right.numpy() == pytest.approx(np.full(right.shape, expected), rel=0.03)
    assert float(correction[:, :2].abs().max()) == 0, "there it is out of view"
    torch.testing.assert_close(kept.depth, fused[:, ::2, ::2], rtol=1e-5, atol=0)
    assert float(kept.weight[0, 5, 25]) == pytest.approx(0.8 + share, rel=0.03)
    assert torch.equal(kept.world_T_cam, here)


def test_what_does_not_agree_has_no_say_but_raises_doubt():
    here, there = pose(), pose(0.1)
    fused, confidence, _ = fuse_depth(wall(here), SURE, K, here, [seen(1.3 * wall(there), there, 3.0)])
    torch.testing.assert_close(fused, wall(here), rtol=1e-4, atol=0)
    assert confidence[0, 4:-4, 8:-4].numpy() == pytest.approx(1 - DOUBT, abs=0.01)


def test_noise_settles_over_keyframes_and_weights_stay_in_their_bounds():
    random = torch.Generator().manual_seed(0)
    past, errors = [], []
    for number in range(12):
        here = pose(0.03 * number)
        noisy = wall(here) * (1 + 0.02 * torch.randn(1, HEIGHT // 8, WIDTH // 8, generator=random)).repeat_interleave(
            8, dim=1
        ).repeat_interleave(8, dim=2)
        confidence = torch.rand(1, HEIGHT, WIDTH, generator=random)
        fused, _, mean = fuse_depth(noisy, confidence, K, here, past[-2:])
        past.append(mean)
        errors.append([float((d / wall(here)).log().square().mean().sqrt()) for d in (noisy, fused)])
        assert MIN_WEIGHT <= float(mean.weight.min()) and float(mean.weight.max()) <= MAX_WEIGHT
    before, after = np.mean(errors[4:], axis=0)
    assert after < 0.75 * before


def test_a_camera_that_looks_away_changes_nothing():
    here, there = pose(), pose(angle=np.pi)
    fused, confidence, _ = fuse_depth(wall(here), SURE, K, here, [seen(SURE * 2, there)])
    assert torch.equal(fused, wall(here)) and torch.equal(confidence, SURE)


def walk(fuse):
    """Depth, confidence and means of four keyframes of a wall, each fused with those before."""
    random, past, found = torch.Generator().manual_seed(0), [], []
    for number in range(4):
        here = pose(0.05 * number, 0.02 * number, 0.03 * number)
        noisy = wall(here) * (1 + 0.05 * torch.rand(1, HEIGHT, WIDTH, generator=random))
        noisy[:, :, WIDTH // 2 :] *= 0.7
        image = 255 * torch.rand(HEIGHT, WIDTH, 3, generator=random)
        *full, mean = fuse(noisy, torch.rand(1, HEIGHT, WIDTH, generator=random), image, K, here, past[-2:])
        past.append(mean)
        found.append((*full, mean.depth, mean.weight))
    return found


def test_one_step_for_any_number_of_keyframes_gives_the_same():
    captured = CapturedFusion(CudaGraphs(captured_step, torch.device("cpu")), torch.device("cpu"))
    for found, expected in zip(walk(captured), walk(fuse_and_sharpen), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert captured._trusted and captured._checked == {0, 1, 2}


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("kind", ["fails", "wrong"])
def test_a_step_that_fails_or_is_wrong_is_replaced_with_one_line(caplog, kind, after):
    calls = []

    def step(*inputs):
        calls.append(1)
        full, mean = captured_step(*inputs)
        if len(calls) > after and kind == "fails":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return full * (1.1 if len(calls) > after else 1), mean

    found = walk(CapturedFusion(step, torch.device("cpu")))
    for one, other in zip(found, walk(fuse_and_sharpen), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    (line,) = caplog.messages
    assert line.startswith("temporal fusion runs as separate steps, since its CUDA graph failed: ")
    assert len(calls) == after + 1
