# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The compiled z-buffers are those of the models."""

from __future__ import annotations

import numpy as np
import torch

from dvmvs_core.model import pinhole
from dvmvs_core.model.hidden_state import reproject_depth_by
from dvmvs_core.model.pinhole import scale_intrinsics
from dvmvs_core.runtime.reprojection_kernels import splat_maps

HEIGHT, WIDTH = 64, 96
K = torch.tensor(((70.0, 0, 47.5), (0, 72.0, 31.5), (0, 0, 1)))[None]


def scene():
    """A depth map with steps, and how the camera moved since."""
    depth = torch.rand(1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(3)) * 3 + 0.2
    cam_T_past = torch.eye(4)[None]
    cam_T_past[0, 0, 0] = cam_T_past[0, 2, 2] = np.cos(0.1)
    cam_T_past[0, 0, 2], cam_T_past[0, 2, 0] = np.sin(0.1), -np.sin(0.1)
    cam_T_past[0, :3, 3] = torch.tensor((0.1, -0.05, -0.4))
    return depth, cam_T_past


def splat(depth, cam_T_past, K_here, K_past, size, min_depth, farthest):
    depths = depth.contiguous().numpy()
    splatted, weights = np.empty((2, 1, *size), np.float32)
    cameras = (matrix.contiguous().numpy() for matrix in (cam_T_past, K_here, K_past))
    splat_maps(0, 1, depths, depths + 1, *cameras, np.float32(min_depth), farthest, splatted, weights)
    known = splatted > 0
    assert 0 < known.sum() < known.size and not weights[~known].any() and (weights[known] > 0).all()
    return torch.from_numpy(splatted)


def test_the_farthest_point_is_kept_for_the_hidden_state():
    depth, cam_T_past = scene()
    depth[0, :20, :30] = 0
    half_K = scale_intrinsics(K, 0.5)
    found = splat(depth, cam_T_past, half_K, K, (HEIGHT // 2, WIDTH // 2), 0, True)
    expected = reproject_depth_by(cam_T_past, depth[:, None], K)[:, 0]
    assert ((found - expected).abs() > 1e-4).float().mean() < 0.01  # a point between two cells may fall into either


def test_the_nearest_point_is_kept_for_the_prior():
    depth, cam_T_past = scene()
    quarter_K, half_K, size = scale_intrinsics(K, 0.25), scale_intrinsics(K, 0.5), (HEIGHT // 4, WIDTH // 4)
    found = splat(depth[:, ::2, ::2], cam_T_past, quarter_K, half_K, size, 0.1, False)
    expected = pinhole.splat(depth[:, None, ::2, ::2], cam_T_past, quarter_K, half_K, size, 0.1)[:, 0]
    assert ((found - expected).abs() > 1e-4).float().mean() < 0.01  # a point between two cells may fall into either
