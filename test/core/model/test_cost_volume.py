# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dvmvs_core.model.cost_volume import cost_volume, inverse_depth_planes
from dvmvs_core.model.patch_matching import patch_descriptors

IDENTITY = torch.eye(4)[None]


def random_pose(generator, angle=0.2, distance=0.2):
    axis_angle = (torch.rand(3, generator=generator) - 0.5) * angle
    skew = torch.zeros(3, 3)
    skew[0, 1], skew[0, 2], skew[1, 2] = -axis_angle[2], axis_angle[1], -axis_angle[0]
    pose = torch.eye(4)
    pose[:3, :3] = torch.linalg.matrix_exp(skew - skew.T)
    pose[:3, 3] = (torch.rand(3, generator=generator) - 0.5) * distance
    return pose[None]


def bilinear(image, x, y):
    """Sample (C, h, w) at one place, zeros outside."""
    x0, y0 = math.floor(x), math.floor(y)
    value = np.zeros(image.shape[0])
    for column, row in ((x0, y0), (x0 + 1, y0), (x0, y0 + 1), (x0 + 1, y0 + 1)):
        if 0 <= column < image.shape[2] and 0 <= row < image.shape[1]:
            value += image[:, row, column] * (1 - abs(x - column)) * (1 - abs(y - row))
    return value


def slow_cost_volume(reference, measurements, world_T_ref, world_T_meas, K, inverse_depths, masked, exact):
    """The definition, sample by sample in float64."""
    half_K = np.diag([0.5, 0.5, 1]) @ K
    _, height, width = reference.shape
    costs = np.zeros((len(inverse_depths), height, width))
    for d, inverse_depth in enumerate(inverse_depths):
        for y in range(height):
            for x in range(width):
                total, seen = 0.0, 0
                for measurement, world_T_one in zip(measurements, world_T_meas, strict=True):
                    ray = np.linalg.inv(half_K) @ (x, y, 1) / inverse_depth
                    point = (np.linalg.inv(world_T_one) @ world_T_ref @ (*ray, 1))[:3]
                    u, v, w = half_K @ point
                    u, v = u / w, v / w
                    if not exact:
                        u, v = u * (width - 1) / width, v * (height - 1) / height
                    if masked and not (w > 0 and 0 <= u <= width - 1 and 0 <= v <= height - 1):
                        continue
                    seen += 1
                    total += (reference[:, y, x] * bilinear(measurement, u, v)).mean()
                costs[d, y, x] = total / max(seen, 1)
    return costs


@pytest.mark.parametrize(("masked", "exact"), [(False, False), (True, False), (True, True)])
def test_equals_a_plain_loop(masked, exact):
    generator = torch.Generator().manual_seed(4)
    maps = [torch.randn(1, 3, 6, 8, generator=generator) for _ in range(3)]
    poses = [random_pose(generator) for _ in range(3)]
    K = torch.tensor([[[15.0, 0.0, 7.6], [0.0, 14.0, 5.4], [0.0, 0.0, 1.0]]])
    inverse_depths = inverse_depth_planes(0.3, 5.0, 5)
    fast = cost_volume(maps[0], maps[1:], poses[0], poses[1:], K, inverse_depths, masked, exact)
    as_arrays = [[t[0].double().numpy() for t in ts] for ts in (maps, poses)]
    slow = slow_cost_volume(
        as_arrays[0][0], as_arrays[0][1:], as_arrays[1][0], as_arrays[1][1:],
        K[0].double().numpy(), inverse_depths.double().numpy(), masked, exact,
    )  # fmt: skip
    assert fast.shape == (1, 5, 6, 8)
    np.testing.assert_allclose(fast[0].numpy(), slow, atol=2e-4)


def test_samples_of_a_batch_do_not_mix():
    generator = torch.Generator().manual_seed(1)
    maps = [torch.randn(2, 3, 6, 8, generator=generator) for _ in range(2)]
    poses = [torch.cat([random_pose(generator), random_pose(generator)]) for _ in range(2)]
    K = torch.eye(3).expand(2, 3, 3) * torch.tensor([10.0, 12.0, 1.0])
    planes = inverse_depth_planes(0.3, 5.0, 5)
    both = cost_volume(maps[0], maps[1:], poses[0], poses[1:], K, planes)
    for i in (0, 1):
        one = [t[i : i + 1] for t in (*maps, *poses, K[:])]
        alone = cost_volume(one[0], [one[1]], one[2], [one[3]], one[4], planes)
        torch.testing.assert_close(both[i : i + 1], alone)


def test_gradient_reaches_both_maps():
    maps = [torch.randn(1, 2, 4, 4, requires_grad=True) for _ in range(2)]
    K = torch.tensor([[[8.0, 0.0, 4.0], [0.0, 8.0, 4.0], [0.0, 0.0, 1.0]]])
    cost_volume(maps[0], maps[1:], IDENTITY, [IDENTITY], K, torch.tensor([1.0])).sum().backward()
    for m in maps:
        assert m.grad.isfinite().all()
        assert m.grad.abs().sum() > 0


def test_no_measurement_frame_is_refused():
    m = torch.ones(1, 1, 2, 2)
    with pytest.raises(ValueError, match="at least one measurement frame"):
        cost_volume(m, [], IDENTITY, [], torch.eye(3)[None], torch.ones(1))


def test_patches_of_a_textured_plane_match_best_at_its_depth():
    # A wall at plane 5 of 8, seen from two cameras 0.2 m apart: f · b / d = 8 pixels of shift between the images.
    planes = inverse_depth_planes(0.5, 8.0, 8)
    focal, baseline, truth = 64.0, 0.2, 5
    shift = focal * baseline * planes[truth].item()
    rng = np.random.default_rng(0)
    frequency, phase = rng.uniform(-1.2, 1.2, (60, 2)), rng.uniform(0, 6, 60)
    x, y = np.meshgrid(np.arange(96.0), np.arange(64.0))

    def photograph(offset):
        waves = [np.sin(fx * (x + offset) + fy * y + p) for (fx, fy), p in zip(frequency, phase, strict=True)]
        return torch.tensor(sum(waves) / 8, dtype=torch.float32).expand(1, 3, 64, 96)

    world_T_meas = torch.eye(4)[None].clone()
    world_T_meas[0, 0, 3] = baseline
    K = torch.tensor([[[focal, 0.0, 48.0], [0.0, focal, 32.0], [0.0, 0.0, 1.0]]])
    maps = [patch_descriptors(photograph(offset)) for offset in (0.0, shift)]
    costs = cost_volume(maps[0], maps[1:], IDENTITY, [world_T_meas], K, planes, True, True)
    best = costs.argmax(dim=1)[0, 2:-2, 12:-2]  # the left border is out of the second view
    assert (best == truth).float().mean() > 0.95
    assert costs.abs().max() <= 1 + 1e-4
