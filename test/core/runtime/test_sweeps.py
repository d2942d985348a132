# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The fast plane sweeps equal the plain one, in every mode, at borders and behind the camera too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from camera_poses import pose_tensor

from dvmvs_core.model import pinhole
from dvmvs_core.model.cost_volume import cost_volume, inverse_depth_planes, plane_sweep
from dvmvs_core.model.hidden_state import reproject_depth_by
from dvmvs_core.model.pinhole import pixel_grid, scale_intrinsics
from dvmvs_core.model.ray_matching import match_at_pixels
from dvmvs_core.runtime.reprojection_kernels import splat_maps
from dvmvs_core.runtime.step_geometry import StepGeometry, step_geometry
from dvmvs_core.runtime.sweep import CompiledSweep

PLANES = inverse_depth_planes(0.25, 20.0, 12)
HEIGHT, WIDTH = 32, 48


def maps(channels, count=4):
    torch.manual_seed(channels)
    return [torch.randn(1, channels, HEIGHT, WIDTH) for _ in range(count)]


def expected(view, maps, masked, exact):
    return cost_volume(maps[0], maps[1:], view.poses[0], view.poses[1:], view.K, PLANES, masked, exact)


def assert_near(found, volume):
    """A sample on a border to the last digit may fall on either side of it: 1 in 10 000 at most."""
    wrong = (found - volume).abs() > 1e-4
    assert wrong.float().mean() < 1e-4
    assert volume.abs().mean() > 0.01


def compiled_costs(view, maps, masked, exact):
    geometry = step_geometry(view.poses[0], view.poses[1:], view.K, None, (HEIGHT, WIDTH), exact)
    sweep = CompiledSweep(maps[0], maps[1:], geometry.homographies, geometry.translations)
    return sweep.costs(PLANES.numpy(), masked)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("channels", [9, 16, 40])
def test_compiled_sweep(view, channels, masked, exact):
    descriptors = maps(channels)
    found = compiled_costs(view, descriptors, masked, exact)
    assert_near(found, expected(view, descriptors, masked, exact))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_share_the_rows(view, threads):
    descriptors, before = maps(9), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = compiled_costs(view, descriptors, True, True)
    finally:
        torch.set_num_threads(before)
    assert_near(found, expected(view, descriptors, True, True))


@pytest.mark.parametrize(("start", "step"), [(0, 1), (1, 2)])
def test_compiled_cosines_at_depths_of_each_pixel(view, start, step):
    descriptors = maps(9)
    depth = torch.rand(1, 2 * HEIGHT, 2 * WIDTH, generator=torch.Generator().manual_seed(0)) * 4 + 0.5
    factors = torch.tensor((1.0, 0.4, 0.9, 1.6))
    geometry = step_geometry(view.poses[0], view.poses[1:], view.K, None, (HEIGHT, WIDTH), True)
    sweep = CompiledSweep(descriptors[0], descriptors[1:], geometry.homographies, geometry.translations)
    means, counts = sweep.cosines(depth[0].numpy(), factors.numpy(), start, step)
    pixels = pixel_grid(HEIGHT, WIDTH, like=depth)
    frames = zip(descriptors[1:], geometry.homographies, geometry.translations, strict=True)
    total, count = match_at_pixels(
        factors.view(1, -1, 1) / depth[:, ::2, ::2].flatten(1)[:, None],
        descriptors[0].flatten(2),
        ((matching, H @ pixels, t) for matching, H, t in frames),
    )
    rows = slice(start, None, step)
    total, count = (x.view(1, -1, HEIGHT, WIDTH)[:, :, rows, rows] for x in (total, count))
    assert {0.0, 1.0, 2.0} <= set(count.unique().tolist())
    agrees = counts == count
    assert agrees.float().mean() > 0.999  # a point on a border may fall on either side of it
    assert_near(torch.where(agrees, means, 0), torch.where(agrees, total / count.clamp(min=1), 0))


@pytest.mark.parametrize(("masked", "exact"), [(True, True), (False, False)])
@pytest.mark.parametrize("sweep", ["torch", "triton"])
def test_device_sweeps(view, sweep, masked, exact, monkeypatch):
    function = plane_sweep
    if sweep == "triton":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        if not torch.cuda.is_available():
            pytest.importorskip("triton", reason="Triton is not installed")
        function = pytest.importorskip("dvmvs_core.runtime.triton_sweep").triton_sweep
    descriptors = [m[:, :, :12, :16].contiguous() for m in maps(9)] if sweep == "triton" else maps(9)
    size = descriptors[0].shape[-2:]
    geometry = step_geometry(view.poses[0], view.poses[1:], view.K, None, tuple(size), exact)
    found = function(
        descriptors[0],
        torch.stack(descriptors[1:]),
        geometry.homographies,
        geometry.translations,
        PLANES,
        masked,
    )
    assert_near(found, expected(view, descriptors, masked, exact))


def test_geometry_survives_packing(view):
    geometry = step_geometry(view.poses[0], view.poses[1:], view.K, view.poses[2], (HEIGHT, WIDTH), False)
    packed = geometry.packed()
    assert packed.dtype == torch.float32 and packed.shape[0] == 1
    torch.testing.assert_close(StepGeometry.unpacked(packed, 3), geometry, rtol=0, atol=0)
    torch.testing.assert_close(geometry.cam_T_previous, torch.linalg.inv(view.poses[0]) @ view.poses[2])


FULL = (64, 96)
K = torch.tensor(((70.0, 0, 47.5), (0, 72.0, 31.5), (0, 0, 1)))[None]


def depth_and_motion():
    """A depth map with steps, and how the camera moved since."""
    depth = torch.rand(1, *FULL, generator=torch.Generator().manual_seed(3)) * 3 + 0.2
    return depth, pose_tensor(0.1, -0.05, -0.4, turned=0.1)


def splat(depth, cam_T_past, K_here, K_past, size, min_depth, farthest):
    depths = depth.contiguous().numpy()
    splatted, weights = np.empty((2, 1, *size), np.float32)
    cameras = (matrix.contiguous().numpy() for matrix in (cam_T_past, K_here, K_past))
    splat_maps(0, 1, depths, depths + 1, *cameras, np.float32(min_depth), farthest, splatted, weights)
    known = splatted > 0
    assert 0 < known.sum() < known.size and not weights[~known].any() and (weights[known] > 0).all()
    return torch.from_numpy(splatted)


def test_the_farthest_point_is_kept_for_the_hidden_state():
    depth, cam_T_past = depth_and_motion()
    depth[0, :20, :30] = 0
    half_K = scale_intrinsics(K, 0.5)
    found = splat(depth, cam_T_past, half_K, K, (FULL[0] // 2, FULL[1] // 2), 0, True)
    expected = reproject_depth_by(cam_T_past, depth[:, None], K)[:, 0]
    assert ((found - expected).abs() > 1e-4).float().mean() < 0.01  # a point between two cells may fall into either


def test_the_nearest_point_is_kept_for_the_prior():
    depth, cam_T_past = depth_and_motion()
    quarter_K, half_K, size = scale_intrinsics(K, 0.25), scale_intrinsics(K, 0.5), (FULL[0] // 4, FULL[1] // 4)
    found = splat(depth[:, ::2, ::2], cam_T_past, quarter_K, half_K, size, 0.1, False)
    expected = pinhole.splat(depth[:, None, ::2, ::2], cam_T_past, quarter_K, half_K, size, 0.1)[:, 0]
    assert ((found - expected).abs() > 1e-4).float().mean() < 0.01  # a point between two cells may fall into either
