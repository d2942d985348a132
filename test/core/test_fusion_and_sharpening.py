# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Means over keyframes are exact in geometry, less noisy than one keyframe, and deaf to what does not agree.

Then ramps between two surfaces become steps at the image's edge; surfaces, flat or slanted, stay as they are.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from camera_poses import pose_tensor as pose
from torch.nn import functional

from dvmvs_core import edge_sharpening
from dvmvs_core.captured_steps import (
    CapturedFusion,
    captured_step,
    choose_fusion,
    compiled_propagate_fuse_sharpen,
    propagate_fuse_sharpen,
)
from dvmvs_core.edge_sharpening import MIN_RANGE, REACHES, compiled_edges, sharpen_edges
from dvmvs_core.runtime.cuda_graph import CudaGraphs
from dvmvs_core.temporal_fusion import (
    DOUBT,
    MAX_WEIGHT,
    MIN_WEIGHT,
    PAST_WEIGHT,
    FusedDepth,
    compiled_fusion,
    fuse_depth,
)

HEIGHT, WIDTH = 48, 64
K = torch.tensor([[[60.0, 0, 31], [0, 55.0, 22], [0, 0, 1]]])
SURE = torch.ones(1, HEIGHT, WIDTH)


@pytest.fixture(params=[fuse_depth, compiled_fusion])
def fuse(request):
    """Both ways to compute it."""
    return request.param


@pytest.fixture(params=[sharpen_edges, compiled_edges])
def sharpen(request):
    """Both ways to compute it."""
    return request.param


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


@pytest.mark.parametrize(
    "there", [pose(0.1), pose(z=0.3), pose(-0.2, z=0.1, turned=0.1), pose(0.05, z=-0.2, turned=-0.2)]
)
def test_depth_of_a_wall_stays_as_it_is(fuse, there):
    here = pose(0.02)
    fused, confidence, _ = fuse(wall(here), SURE, K, here, [seen(wall(there), there)])
    torch.testing.assert_close(fused, wall(here), rtol=2e-4, atol=0)
    torch.testing.assert_close(confidence, SURE, rtol=1e-3, atol=0)


def test_the_past_moves_depth_by_its_share(fuse):
    """Of a wall 2 % too near here and 2 % too far there; out of view nothing is added."""
    here, there = pose(), pose(0.4)
    own, past = wall(here) * 0.98, wall(there) * 1.02
    confidence = 0.8 * SURE
    fused, _, kept = fuse(own, confidence, K, here, [seen(past, there, 1.6)])
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


def test_what_does_not_agree_has_no_say_but_raises_doubt(fuse):
    here, there = pose(), pose(0.1)
    fused, confidence, _ = fuse(wall(here), SURE, K, here, [seen(1.3 * wall(there), there, 3.0)])
    torch.testing.assert_close(fused, wall(here), rtol=1e-4, atol=0)
    assert confidence[0, 4:-4, 8:-4].numpy() == pytest.approx(1 - DOUBT, abs=0.01)


def test_noise_settles_over_keyframes_and_weights_stay_in_their_bounds(fuse):
    random = torch.Generator().manual_seed(0)
    past, errors = [], []
    for number in range(12):
        here = pose(0.03 * number)
        noisy = wall(here) * (1 + 0.02 * torch.randn(1, HEIGHT // 8, WIDTH // 8, generator=random)).repeat_interleave(
            8, dim=1
        ).repeat_interleave(8, dim=2)
        confidence = torch.rand(1, HEIGHT, WIDTH, generator=random)
        fused, _, mean = fuse(noisy, confidence, K, here, past[-2:])
        past.append(mean)
        errors.append([float((d / wall(here)).log().square().mean().sqrt()) for d in (noisy, fused)])
        assert MIN_WEIGHT <= float(mean.weight.min()) and float(mean.weight.max()) <= MAX_WEIGHT
    before, after = np.mean(errors[4:], axis=0)
    assert after < 0.75 * before


def test_a_camera_that_looks_away_changes_nothing(fuse):
    here, there = pose(), pose(turned=np.pi)
    fused, confidence, _ = fuse(wall(here), SURE, K, here, [seen(SURE * 2, there)])
    assert torch.equal(fused, wall(here)) and torch.equal(confidence, SURE)


def walk(fuse):
    """Depth, confidence and means of four keyframes of a wall, each fused with those before."""
    random, past, found = torch.Generator().manual_seed(0), [], []
    for number in range(4):
        here = pose(0.05 * number, z=0.02 * number, turned=0.03 * number)
        noisy = wall(here) * (1 + 0.05 * torch.rand(1, HEIGHT, WIDTH, generator=random))
        noisy[:, :, WIDTH // 2 :] *= 0.7
        image = 255 * torch.rand(HEIGHT, WIDTH, 3, generator=random)
        *full, mean = fuse(noisy, torch.rand(1, HEIGHT, WIDTH, generator=random), image, K, here, past[-2:])
        past.append(mean)
        found.append((*full, mean.depth, mean.weight))
    return found


def test_one_step_for_any_number_of_keyframes_gives_the_same():
    captured = CapturedFusion(CudaGraphs(captured_step, torch.device("cpu")), torch.device("cpu"))
    torch.testing.assert_close(walk(captured), walk(propagate_fuse_sharpen), rtol=1e-5, atol=1e-6)
    assert captured._trusted and captured._checked == {0, 1, 2}


def test_compiled_all_of_it_is_the_same():
    assert choose_fusion(torch.device("cpu")) is compiled_propagate_fuse_sharpen
    expected = walk(propagate_fuse_sharpen)
    torch.testing.assert_close(walk(compiled_propagate_fuse_sharpen), expected, rtol=3e-4, atol=1e-6)


def test_without_numba_the_operators_do_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dvmvs_core.runtime.plane_kernels", None)
    assert choose_fusion(torch.device("cpu")) is propagate_fuse_sharpen


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
    torch.testing.assert_close(found, walk(propagate_fuse_sharpen), rtol=1e-5, atol=1e-6)
    (line,) = caplog.messages
    assert line.startswith("temporal fusion runs as separate steps, since its CUDA graph failed: ")
    assert len(calls) == after + 1


GREY = torch.full((40, 60, 3), 128.0)
# Windows are cut at the border, and later rounds look at what became of it there.
MARGIN = 2 * max(REACHES) + sum(REACHES[1:])


def pole(first_column: int) -> torch.Tensor:
    """Depth (1, 40, 60) of a pole 1 m away before a wall at 2 m."""
    depth = torch.full((1, 40, 60), 2.0)
    depth[:, 10:, first_column : first_column + 12] = 1.0
    return depth


def blurred(depth: torch.Tensor, reach: int = 1) -> torch.Tensor:
    padded = functional.pad(depth.log()[None], (reach,) * 4, "replicate")
    return functional.avg_pool2d(padded, 2 * reach + 1, stride=1)[0].exp()


def textured(generator: int = 0) -> torch.Tensor:
    """Colours (40, 60, 3) that say nothing."""
    return 255 * torch.rand(40, 60, 3, generator=torch.Generator().manual_seed(generator))


def painted(depth: torch.Tensor) -> torch.Tensor:
    """An image (40, 60, 3) of surfaces that differ in colour, with some texture."""
    return 40 * (depth[0, ..., None] * torch.tensor((1.0, 2.0, 2.5))) + 0.1 * textured()


def log_error(depth: torch.Tensor, truth: torch.Tensor) -> float:
    return float((depth / truth).log().abs().mean())


def steepest(depth: torch.Tensor) -> float:
    return float(depth.log().diff(dim=2).abs().max())


def test_a_ramp_between_two_surfaces_becomes_a_step(sharpen):
    truth = pole(20)
    ramps = blurred(truth)
    sharp = sharpen(ramps, painted(truth))
    assert steepest(ramps) < 0.24 and steepest(sharp) > 0.6
    assert log_error(sharp, truth) < 0.2 * log_error(ramps, truth)
    assert sharp.min() >= 1 - 1e-5 and sharp.max() <= 2 + 1e-5


def test_a_step_goes_where_the_image_has_it(sharpen):
    """Depth is two pixels off."""
    truth = pole(20)
    shifted = blurred(pole(22))
    sharp = sharpen(shifted, painted(truth))
    assert log_error(sharp, truth) < 0.3 * log_error(shifted, truth)


def test_colours_that_say_nothing_do_no_harm(sharpen):
    truth = pole(20)
    ramps = blurred(truth)
    for image in (GREY, textured()):
        assert log_error(sharpen(ramps, image), truth) < 1.1 * log_error(ramps, truth)


def test_a_slanted_surface_stays(sharpen):
    """A floor seen from above, whose depth changes by a third within the reach, whatever is painted on it."""
    rows = torch.linspace(0.3, 2.3, 40)
    floor = rows.exp()[None, :, None].expand(1, 40, 60).contiguous()
    reach = max(REACHES)
    assert float(floor.log()[0, 2 * reach, 0] - floor.log()[0, 0, 0]) > 0.2
    inner = slice(MARGIN, -MARGIN)
    tiles = 255.0 * (torch.arange(40)[:, None, None] // 7 % 2).expand(40, 60, 3)
    torch.testing.assert_close(sharpen(floor, tiles)[:, inner], floor[:, inner], rtol=1e-4, atol=0)


def test_noise_on_a_wall_is_left_alone(sharpen):
    noise = torch.rand(1, 40, 60, generator=torch.Generator().manual_seed(0))
    wall = 2 * (0.9 * MIN_RANGE * noise).exp()
    torch.testing.assert_close(sharpen(wall, textured()), wall)


def test_neighbourhoods_are_the_same_on_every_device():
    """OpenCV's on the CPU, torch's on a GPU."""
    values = torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(1)) + 0.5
    largest = functional.max_pool2d(values, 9, stride=1, padding=4)
    np.testing.assert_array_equal(edge_sharpening._largest(values, 4), largest)
    padded = functional.pad(values[None], (5,) * 4, "replicate")
    means = functional.avg_pool2d(padded, 11, stride=1)[0]
    torch.testing.assert_close(edge_sharpening._means(values, 5), means, rtol=1e-5, atol=0)
