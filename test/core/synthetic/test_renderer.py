# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth worked out by hand and by brute force, light and shade, and that tiles change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvmvs_core.synthetic import renderer as renderer_module
from dvmvs_core.synthetic.camera import sample_intrinsics
from dvmvs_core.synthetic.paths import WorldProbe, clip_path
from dvmvs_core.synthetic.raycast import Pairs, Rays, box_interval, pixel_rays
from dvmvs_core.synthetic.renderer import Renderer, coarse_view
from dvmvs_core.synthetic.shading import Hits, light_through, matter_towards, mirrored, occlusion
from dvmvs_core.synthetic.world_tensors import (
    BOXES,
    ELLIPSOIDS,
    ROOMS,
    SOLIDS,
    SolidFrames,
    WorldTensors,
    solid_frames,
)
from dvmvs_core.synthetic.worlds import sample_world

SIZE = (30, 40)
BALL, DRUM = BOXES, BOXES + ELLIPSOIDS


def rays_of(camera, samples: int = 1) -> Rays:
    """All rays of an image of SIZE as one tile."""
    tiles, _ = renderer_module._tiles(1, *SIZE, samples, torch.device("cpu"))
    assert len(tiles.frame) == 1
    return pixel_rays(*camera, tiles.x, tiles.y)


@pytest.fixture
def one_tile(monkeypatch):
    monkeypatch.setattr(renderer_module, "_TILE", 1000)


def depth_of(world, camera, bank):
    return Renderer(bank)(world, *camera, *SIZE)[1][0]


def test_convention_depth_of_a_facing_wall_is_z_depth_not_ray_length(make_world, camera, bank):
    depth = depth_of(make_world(high=(2.0, 30.0, 30.0), low=(-1.0, -30.0, -30.0)), camera, bank)
    assert depth == pytest.approx(np.full(SIZE, 2.0), abs=1e-6)  # a ray length would be 2.34 in the corner


def test_convention_pixel_zero_is_the_centre_of_the_first_pixel(camera, one_tile):
    rays = rays_of(camera)
    direction = rays.direction[0].view(3, *SIZE)
    # Pixel (cx, cy) = (20, 15) looks straight ahead; (0, 0) looks 20 / 40 to the left and 15 / 50 up.
    assert direction[:, 15, 20].tolist() == pytest.approx([1.0, 0.0, 0.0])
    assert direction[:, 0, 0].tolist() == pytest.approx([1.0, 0.5, 0.3])


def test_samples_of_a_pixel_average_to_its_centre(camera, one_tile):
    fine = rays_of(camera, samples=3).direction.view(1, 3, *(3 * side for side in SIZE))
    averaged = torch.nn.functional.avg_pool2d(fine, 3).flatten(2)
    assert averaged == pytest.approx(rays_of(camera).direction, abs=1e-6)


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
    # Behind, beside and around the camera: what has no bounds on the image.
    solids |= {8: ((-0.2, 0.0, 1.5), (0.1, 0.1, 0.1)), 9: ((0.3, 0.6, 1.5), (0.6, 0.2, 1.0))}
    world = make_world(solids=solids)
    world.gloss[:] = 0.5
    views = []
    for side in (4, 16, 1000):
        monkeypatch.setattr(renderer_module, "_TILE", side)
        views.append(Renderer(bank)(world, *camera, *SIZE))
    for colour, depth in views[:2]:
        assert torch.equal(depth, views[2][1])
        assert colour.numpy() == pytest.approx(views[2][0].numpy(), rel=1e-4, abs=1e-5)


def test_threads_change_nothing(make_world, camera, bank, monkeypatch):
    world = make_world(solids={i: ((2.0, -1.5 + 0.4 * i, 1.5), (0.2, 0.15, 0.25)) for i in range(8)})
    whole = Renderer(bank)(world, *camera, *SIZE)
    monkeypatch.setitem(renderer_module._TILES_AT_ONCE, "cpu", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        parts = Renderer(bank)(world, *camera, *SIZE)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def brute_force(world: WorldTensors, world_T_cam: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Depth (N,) of rays (N, 3) in float64, every solid and room against every ray, one after the other."""
    start, found = world_T_cam[:3, 3], np.full(len(directions), np.inf)
    for number in range(SOLIDS):
        rotation = world.world_R_solid[number].double().numpy()
        half, centre = world.half[number].double().numpy(), world.centre[number].double().numpy()
        origin, way = rotation.T @ (start - centre) / half, (directions @ rotation) / half
        with np.errstate(divide="ignore", invalid="ignore"):
            slabs = np.sort(np.stack([(-1 - origin) / way, (1 - origin) / way]), axis=0)
            low, high = slabs[0].max(1), slabs[1].min(1)
            if number >= BOXES:
                axes = slice(0, 2) if number >= BOXES + ELLIPSOIDS else slice(0, 3)
                a, b = (way[:, axes] ** 2).sum(1), way[:, axes] @ origin[axes]
                root = np.sqrt(b * b - a * ((origin[axes] ** 2).sum() - 1))
                ends = slabs[:, :, 2] if number >= BOXES + ELLIPSOIDS else np.array([[-np.inf], [np.inf]])
                low, high = np.maximum((-b - root) / a, ends[0]), np.minimum((-b + root) / a, ends[1])
        hit = (low < high) & (low > 1e-3)
        found = np.where(hit & (low < found), low, found)
    far = np.zeros(len(directions))
    with np.errstate(divide="ignore"):
        room_low, room_high = world.room_low.double().numpy(), world.room_high.double().numpy()
        slabs = np.sort(
            np.stack([(low - start) / directions for low in (room_low[:, None], room_high[:, None])]), axis=0
        )
    for _ in range(ROOMS):
        for entry, leave in zip(slabs[0].max(2), slabs[1].min(2), strict=True):
            far = np.where((entry <= far + 1e-4) & (leave > far), leave, far)
    return np.minimum(found, far)


@pytest.mark.parametrize("seed", range(4))
def test_depth_of_crowded_worlds_is_that_of_a_brute_force_ray_caster(bank, seed):
    rng = np.random.default_rng(seed)
    path = None
    while path is None:
        world = sample_world(rng, bank.count, bank.plain_count)
        K = sample_intrinsics(rng, 48, 64)
        path = clip_path(rng, world, K, 48, 64, 2)
    pose = path.world_T_cam[0].astype(np.float32)
    camera = torch.from_numpy(pose)[None], torch.from_numpy(K).float()[None]
    depth = Renderer(bank)(WorldTensors(*(part[None] for part in world)), *camera, 48, 64)[1][0].numpy()
    y, x = np.mgrid[0:48, 0:64]
    pixels = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], 1)
    directions = pixels @ np.linalg.inv(K.astype(np.float32).astype(np.float64)).T @ pose[:3, :3].T.astype(np.float64)
    expected = brute_force(world, pose.astype(np.float64), directions).reshape(48, 64)
    # Rays that graze an edge may go either way; all others agree to float32's precision.
    close = np.isclose(depth, expected, rtol=1e-4)
    assert close.mean() > 0.998
    assert (world.centre[:, 2] > 0).sum() > 100


def test_supersampling_smooths_edges_and_keeps_depth(make_world, camera, bank):
    world = make_world(solids={0: ((2.0, 0.0, 1.5), (0.2, 0.27, 0.33))})
    render = Renderer(bank)
    colour, depth = render(world, *camera, *SIZE)
    for samples in (2, 3):
        fine_colour, fine_depth = render(world, *camera, *SIZE, samples=samples)
        assert fine_depth == pytest.approx(depth, rel=1e-5)
        assert fine_colour.shape == colour.shape
        assert not torch.equal(fine_colour, colour)


def test_coarse_view_tells_solids_from_walls(make_world, camera):
    depth, seen = coarse_view(make_world(solids={5: ((2.0, 0.0, 1.5), (0.5, 0.2, 0.2))}), *camera, *SIZE)
    assert seen[0, 15, 20] == 5 and seen[0, 0, 0] >= SOLIDS
    assert depth[0, 15, 20] == pytest.approx(1.5, rel=2e-5)


def hits_at(*points: tuple[float, float, float]) -> Hits:
    where = torch.tensor(points).T[None]
    up = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1).expand_as(where)
    return Hits(where, up, torch.ones_like(where), torch.zeros_like(where[:, 0]), torch.zeros_like(where[:, 0]))


def test_clearance_is_the_distance_to_solids_and_walls(make_world):
    world = make_world(solids={0: ((0.0, 0.0, 0.5), (0.5, 0.5, 0.5))})
    points = np.array([[0.0, 0.0, 1.25], [0.8, 0.9, 0.5], [2.9, 0.0, 1.5], [0.0, 0.0, 0.5]])
    found = WorldProbe(WorldTensors(*(part[0] for part in world))).clearance(points)
    assert found.tolist() == pytest.approx([0.25, 0.5, 0.1, -0.5], abs=1e-6)


def test_corners_are_darker_than_open_floor(make_world):
    world = make_world(solids={0: ((0.0, 0.0, 0.5), (0.5, 0.5, 0.5))})
    hits = hits_at((1.8, 0.0, 0.0), (0.55, 0.0, 0.0), (2.98, 2.98, 0.0))
    open_sky = occlusion(world, torch.zeros(1, dtype=torch.int64), BOX, tables(world, scaled=False), hits)[0].tolist()
    assert open_sky[0] == 1.0
    assert max(open_sky[1:]) < 0.7


BOX = Pairs(torch.tensor([0]), torch.tensor([0]))


def tables(world: WorldTensors, scaled: bool) -> SolidFrames:
    return SolidFrames(*(part.flatten(0, 1) for part in solid_frames(world, scaled)))


def test_a_box_between_a_point_and_the_light_shades_it(make_world):
    world = make_world(solids={0: ((0.0, 0.0, 1.0), (0.5, 0.5, 0.1))})
    crossed = torch.zeros(1, 2)
    hits = hits_at((0.0, 0.0, 0.0), (2.0, 0.0, 0.0))
    matter_towards(crossed, BOX, box_interval, tables(world, scaled=True), world.light[:, 0], hits)
    assert crossed[0].tolist() == pytest.approx([0.2, 0.0], abs=1e-5)
    assert light_through(crossed)[0].tolist() == [0.0, 1.0]


def test_mirrored_rays_leave_as_they_came_and_grazing_ones_are_brighter():
    hits = hits_at((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))._replace(gloss=torch.ones(1, 2))
    steep, flat = [0.6, 0.0, -0.8], [0.995, 0.0, -0.1]
    rays, share = mirrored(Rays(torch.zeros(1, 3, 1), torch.tensor([steep, flat]).T[None]), hits)
    assert rays.direction[0, :, 0].tolist() == pytest.approx([0.6, 0.0, 0.8])
    assert rays.origin[0, 2].min() > 0  # above the surface, not in it
    assert 0.05 < share[0, 0] < 0.1 and share[0, 1] > 0.5


def test_glossy_floors_mirror_bright_windows(make_world, camera, bank):
    # Row 25 meets the floor 7.5 m away, and its mirror image the window at the end of the room, 0.9 m high.
    world = make_world(high=(12.0, 6.0, 3.0), low=(-1.0, -6.0, 0.0), solids={0: ((12.0, 0.0, 1.0), (0.02, 1.0, 0.5))})
    world.glow[:, 0] = 20.0
    dull = Renderer(bank)(world, *camera, *SIZE, shadows=False)[0]
    floors = slice(SOLIDS + 4, None, 6)
    world.gloss[:, floors] = 0.8
    glossy = Renderer(bank)(world, *camera, *SIZE, shadows=False)[0]
    gained = (glossy - dull).mean(1)[0]
    assert gained[25, 20] > 0.2 > gained[25, 0]


def test_rays_of_several_frames_do_not_mix(make_world, camera, bank):
    near, far = make_world(high=(2.0, 9.0, 9.0)), make_world(high=(5.0, 9.0, 9.0))
    both = WorldTensors(*(torch.cat(parts) for parts in zip(near, far, strict=True)))
    pose, K = camera
    depth = Renderer(bank)(both, pose.expand(2, 4, 4), K.expand(2, 3, 3), *SIZE)[1]
    assert depth[:, 15, 20].tolist() == pytest.approx([2.0, 5.0])
