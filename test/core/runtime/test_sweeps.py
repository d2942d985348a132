# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Both fast plane sweeps equal the plain one, in every mode, at borders and behind the camera too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvmvs_core.model.cost_volume import cost_volume, inverse_depth_planes
from dvmvs_core.runtime.geometry import StepGeometry, step_geometry
from dvmvs_core.runtime.plane_sweep import PlaneSweep
from dvmvs_core.runtime.whole_sweep import whole_sweep

PLANES = inverse_depth_planes(0.25, 20.0, 12)
HEIGHT, WIDTH = 32, 48


def maps(channels, count=4):
    torch.manual_seed(channels)
    return [torch.randn(2, channels, HEIGHT, WIDTH) for _ in range(count)]


def expected(view, maps, masked, exact):
    return cost_volume(maps[0], maps[1:], view.poses[0], view.poses[1:], view.K, PLANES, masked, exact)


def assert_near(found, volume):
    """A sample that lies on a border to the last digit may fall on either side of it: 1 in 10 000 at most."""
    wrong = (found - volume).abs() > 1e-4
    assert wrong.float().mean() < 1e-4
    assert volume.abs().mean() > 0.01


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("channels", [9, 16, 40])
def test_compiled_sweep(view, channels, masked, exact):
    descriptors = maps(channels)
    costs = np.full((2, HEIGHT, WIDTH, 3 + len(PLANES) + 1), 7.0, np.float32)
    sweep = PlaneSweep(PLANES, masked, exact)
    sweep(descriptors[0], descriptors[1:], view.poses[0], view.poses[1:], view.K, costs, offset=3)
    found = torch.from_numpy(costs[..., 3:-1]).permute(0, 3, 1, 2)
    assert_near(found, expected(view, descriptors, masked, exact))
    assert (costs[..., :3] == 7).all() and (costs[..., -1] == 7).all()


def test_compiled_sweep_with_fewer_frames_than_before(view):
    descriptors = maps(9)
    costs = np.zeros((2, HEIGHT, WIDTH, len(PLANES)), np.float32)
    sweep = PlaneSweep(PLANES, True, True)
    for last in (4, 2, 3):
        sweep(descriptors[0], descriptors[1:last], view.poses[0], view.poses[1:last], view.K, costs)
        volume = cost_volume(
            descriptors[0], descriptors[1:last], view.poses[0], view.poses[1:last], view.K, PLANES, True, True
        )
        assert_near(torch.from_numpy(costs).permute(0, 3, 1, 2), volume)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_share_the_rows(view, threads):
    descriptors, before = maps(9), torch.get_num_threads()
    costs = np.full((2, HEIGHT, WIDTH, len(PLANES)), np.nan, np.float32)
    try:
        torch.set_num_threads(threads)
        PlaneSweep(PLANES, True, True)(descriptors[0], descriptors[1:], view.poses[0], view.poses[1:], view.K, costs)
    finally:
        torch.set_num_threads(before)
    assert_near(torch.from_numpy(costs).permute(0, 3, 1, 2), expected(view, descriptors, True, True))


@pytest.mark.parametrize(("masked", "exact"), [(True, True), (False, False)])
@pytest.mark.parametrize("sweep", ["whole", "triton"])
def test_device_sweeps(view, sweep, masked, exact, monkeypatch):
    function = whole_sweep
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
    assert packed.dtype == torch.float32 and packed.shape[0] == 2
    for before, after in zip(geometry, StepGeometry.unpacked(packed, 3), strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=0)
    torch.testing.assert_close(geometry.cam_T_previous, torch.linalg.inv(view.poses[0]) @ view.poses[2])
