# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth worked out by hand, and the two ways to render against each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvmvs_core.data.synthetic import renderer as renderer_module
from dvmvs_core.data.synthetic.raycast import Rays, box_entry, camera_rays, clearance
from dvmvs_core.data.synthetic.renderer import Renderer, coarse_view
from dvmvs_core.data.synthetic.shading import Hits, box_shadow, occlusion
from dvmvs_core.data.synthetic.world_tensors import BOXES, ELLIPSOIDS, WorldTensors, solid_frames

SIZE = (30, 40)
BALL, DRUM = BOXES, BOXES + ELLIPSOIDS
ROUNDING = 2e-5
"""The low bits of a solid's depth hold its number, so that float rounding before them can move it by 8e-6."""


def depth_of(world, camera, bank):
    return Renderer(bank, compile=False)(world, *camera, *SIZE)[1][0]


def test_convention_depth_of_a_facing_wall_is_z_depth_not_ray_length(make_world, camera, bank):
    depth = depth_of(make_world(high=(2.0, 30.0, 30.0), low=(-1.0, -30.0, -30.0)), camera, bank)
    assert depth == pytest.approx(np.full(SIZE, 2.0), abs=1e-6)  # a ray length would be 2.34 in the corner


def test_convention_pixel_zero_is_the_centre_of_the_first_pixel(camera):
    rays = camera_rays(*camera, *SIZE)
    direction = rays.direction[0].view(3, *SIZE)
    # Pixel (cx, cy) = (20, 15) looks straight ahead; (0, 0) looks 20 / 40 to the left and 15 / 50 up.
    assert direction[:, 15, 20].tolist() == pytest.approx([1.0, 0.0, 0.0])
    assert direction[:, 0, 0].tolist() == pytest.approx([1.0, 0.5, 0.3])


def test_samples_of_a_pixel_average_to_its_centre(camera):
    fine = camera_rays(*camera, *SIZE, samples=3).direction.view(1, 3, *(3 * side for side in SIZE))
    averaged = torch.nn.functional.avg_pool2d(fine, 3).flatten(2)
    assert averaged == pytest.approx(camera_rays(*camera, *SIZE).direction, abs=1e-6)


def test_floor_depth_follows_from_the_camera_height(make_world, camera, bank):
    depth = depth_of(make_world(low=(-1.0, -50.0, 0.0), high=(50.0, 50.0, 3.0)), camera, bank)
    # Row v looks (v - 15) / 50 down per metre forward; the floor lies 1.5 m below.
    assert depth[25, :] == pytest.approx(np.full(40, 1.5 * 50 / 10), rel=1e-5)
    assert depth[29, 0] == pytest.approx(1.5 * 50 / 14, rel=1e-5)


def test_boxes_ellipsoids_and_cylinders_stand_where_they_should(make_world, camera, bank):
    for number in (0, BALL, DRUM):
        depth = depth_of(make_world(solids={number: ((2.0, 0.0, 1.5), (0.5, 0.25, 0.4))}), camera, bank)
        assert depth[15, 20] == pytest.approx(1.5, rel=2e-5)
        assert depth[15, 39] == pytest.approx(3.0, rel=1e-6)
    # 0.2 m up from the middle (row 8 at 1.43 m), the ball has receded: hit of z (1, 0, 0.14) with the ellipsoid.
    ball = depth_of(make_world(solids={BALL: ((2.0, 0.0, 1.5), (0.5, 0.25, 0.4))}), camera, bank)
    up = 7 / 50
    a, b, c = 1 / 0.25 + up**2 / 0.16, -2.0 / 0.25, 4.0 / 0.25 - 1.0
    assert ball[8, 20] == pytest.approx((-b - np.sqrt(b * b - a * c)) / a, rel=2e-5)


def test_a_doorway_opens_into_the_room_behind(make_world, camera, bank):
    world = make_world(low=(-1.0, -3.0, 0.0), high=(2.0, 3.0, 3.0))
    low, high = world.room_low.clone(), world.room_high.clone()
    # Listed in the wrong order on purpose: the far room before the doorway that leads to it.
    low[0, 1], high[0, 1] = torch.tensor([2.2, -3.0, 0.0]), torch.tensor([5.0, 3.0, 3.0])
    low[0, 2], high[0, 2] = torch.tensor([1.98, -0.4, 0.0]), torch.tensor([2.22, 0.4, 2.0])
    depth = depth_of(world._replace(room_low=low, room_high=high), camera, bank)
    assert depth[15, 20] == pytest.approx(5.0, rel=1e-6)
    assert depth[15, 0] == pytest.approx(2.0, rel=1e-6)
    # Column 13 looks 0.175 to the left a metre: it passes the door's front edge at 0.35 and ends at its jamb? At
    # x = 2.22 it is 0.389 off, inside; column 12 (0.2) meets the jamb where 0.2 x = 0.4.
    assert depth[15, 13] == pytest.approx(5.0, rel=1e-6)
    assert depth[15, 12] == pytest.approx(2.0, rel=1e-6)


def test_tiles_give_what_all_rays_at_once_give(make_world, camera, bank, monkeypatch):
    solids = {i: ((2.0, -1.5 + 0.4 * i, 0.3 + 0.3 * i), (0.2, 0.15, 0.25)) for i in range(8)}
    solids |= {BALL: ((1.5, 0.3, 1.4), (0.2, 0.2, 0.2)), DRUM: ((1.8, -0.5, 0.4), (0.2, 0.2, 0.4))}
    world = make_world(solids=solids)
    monkeypatch.setattr(renderer_module, "_TILE", 16)
    colour, depth = Renderer(bank, compile=False)(world, *camera, *SIZE)
    scene = renderer_module._prepare(world, *camera, 1)
    rays = camera_rays(*camera, *SIZE)
    whole_colour, whole_depth = renderer_module._trace(scene, rays, bank, True, renderer_module._run)
    assert depth.flatten(1).numpy() == pytest.approx(whole_depth.numpy(), rel=ROUNDING)
    # A texture's level or an edge of a face may round either way at single pixels.
    close = torch.isclose(colour.flatten(2), whole_colour, rtol=2e-3, atol=2e-3)
    assert close.float().mean() > 0.995


@pytest.mark.slow
def test_the_compiler_changes_nothing(make_world, camera):
    world = make_world(solids={0: ((2.0, 0.3, 1.0), (0.3, 0.3, 0.3)), BALL: ((1.5, -0.4, 1.4), (0.2, 0.2, 0.2))})
    scene, rays = renderer_module._prepare(world, *camera, 1), camera_rays(*camera, *SIZE)
    depth, index = renderer_module._first_hit(scene, rays, renderer_module._run)

    def run(stage, *args):
        # One stage, to spare time: the one that is fused the hardest.
        return (renderer_module._run_compiled if stage is box_entry else renderer_module._run)(stage, *args)

    try:
        compiled_depth, compiled_index = renderer_module._first_hit(scene, rays, run)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        pytest.skip(f"torch.compile needs a C++ compiler: {str(error)[:80]}")
    assert compiled_depth.numpy() == pytest.approx(depth.numpy(), rel=ROUNDING)
    assert torch.equal(compiled_index, index)


def test_a_machine_without_a_compiler_renders_all_the_same(make_world, camera, bank, monkeypatch, caplog):
    def no_compiler(stage, *args):
        raise torch._dynamo.exc.BackendCompilerFailed("inductor", RuntimeError("no C++ compiler"), None)

    monkeypatch.setattr(renderer_module, "_run_compiled", no_compiler)
    world = make_world()
    colour, depth = Renderer(bank, compile=True)(world, *camera, *SIZE)
    plain = Renderer(bank, compile=False)(world, *camera, *SIZE)
    assert torch.equal(colour, plain[0]) and torch.equal(depth, plain[1])
    assert "torch.compile failed" in caplog.text


def test_supersampling_smooths_edges_and_keeps_depth(make_world, camera, bank):
    world = make_world(solids={0: ((2.0, 0.0, 1.5), (0.2, 0.27, 0.33))})
    render = Renderer(bank, compile=False)
    colour, depth = render(world, *camera, *SIZE)
    for samples in (2, 3):
        fine_colour, fine_depth = render(world, *camera, *SIZE, samples=samples)
        assert fine_depth == pytest.approx(depth, rel=1e-5)
        assert fine_colour.shape == colour.shape
        assert not torch.equal(fine_colour, colour)


def test_coarse_view_tells_solids_from_walls(make_world, camera):
    depth, solid = coarse_view(make_world(solids={5: ((2.0, 0.0, 1.5), (0.5, 0.2, 0.2))}), *camera, *SIZE)
    assert solid[0, 15, 20] and not solid[0, 0, 0]
    assert depth[0, 15, 20] == pytest.approx(1.5, rel=2e-5)


def hits_at(*points: tuple[float, float, float]) -> Hits:
    where = torch.tensor(points).T[None]
    up = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1).expand_as(where)
    return Hits(where, up, torch.ones_like(where), torch.zeros_like(where[:, 0]), torch.zeros_like(where[:, 0]))


def test_clearance_is_the_distance_to_solids_and_walls(make_world):
    world = make_world(solids={0: ((0.0, 0.0, 0.5), (0.5, 0.5, 0.5))})
    points = torch.tensor([[0.0, 0.0, 1.25], [0.8, 0.9, 0.5], [2.9, 0.0, 1.5], [0.0, 0.0, 0.5]]).T[None]
    found = clearance(solid_frames(world, scaled=False), world.half, world.room_low, world.room_high, points)
    assert found[0].tolist() == pytest.approx([0.25, 0.5, 0.1, -0.5], abs=1e-6)


def test_corners_are_darker_than_open_floor(make_world):
    world = make_world(solids={0: ((0.0, 0.0, 0.5), (0.5, 0.5, 0.5))})
    hits = hits_at((1.8, 0.0, 0.0), (0.55, 0.0, 0.0), (2.98, 2.98, 0.0))
    frames = solid_frames(world, scaled=False)
    open_sky = occlusion(frames, world.half, world.room_low, world.room_high, hits)[0].tolist()
    assert open_sky[0] == 1.0
    assert max(open_sky[1:]) < 0.6


def test_a_box_between_a_point_and_the_light_shades_it(make_world):
    world = make_world(solids={0: ((0.0, 0.0, 1.0), (0.5, 0.5, 0.1))})
    frames = solid_frames(world, scaled=True)
    hits = hits_at((0.0, 0.0, 0.0), (2.0, 0.0, 0.0))
    passed = box_shadow(frames.rows[:, :BOXES], frames.shift[:, :BOXES], world.light[:, 0], hits)
    assert passed[0].tolist() == [0.0, 1.0]


def test_rays_of_several_frames_do_not_mix(make_world, camera, bank):
    near, far = make_world(high=(2.0, 9.0, 9.0)), make_world(high=(5.0, 9.0, 9.0))
    both = WorldTensors(*(torch.cat(parts) for parts in zip(near, far, strict=True)))
    pose, K = camera
    depth = Renderer(bank, compile=False)(both, pose.expand(2, 4, 4), K.expand(2, 3, 3), *SIZE)[1]
    assert depth[:, 15, 20].tolist() == pytest.approx([2.0, 5.0])
    assert isinstance(camera_rays(pose, K, *SIZE), Rays)
