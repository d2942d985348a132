# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What worlds are made of, and what they are covered with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvmvs_core.synthetic.assembly import Builder, Look, Place
from dvmvs_core.synthetic.clutter import ON_FLOORS, ON_TABLES
from dvmvs_core.synthetic.fixtures import wall_fixture
from dvmvs_core.synthetic.furniture import FURNITURE, dining_set, kitchen
from dvmvs_core.synthetic.materials import draw_materials
from dvmvs_core.synthetic.shading import sample_texture
from dvmvs_core.synthetic.textures import TextureBank, build_texture_bank
from dvmvs_core.synthetic.world_tensors import BOXES, ROOMS, SOLIDS, SURFACES
from dvmvs_core.synthetic.worlds import sample_world


def test_a_seed_gives_one_world_of_fixed_shapes():
    first, again, other = (sample_world(np.random.default_rng(seed), 24, 6) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.centre, other.centre)
    assert [part.shape for part in first] == [part.shape for part in other]
    assert first.centre.shape == (SOLIDS, 3) and first.gain.shape == (SURFACES, 3)


def test_worlds_are_furnished_and_sound():
    plain_walls = []
    for seed in range(12):
        world = sample_world(np.random.default_rng(seed), 24, 6)
        assert all(torch.isfinite(part.float()).all() for part in world)
        assert (world.half > 0).all() and (world.room_high > world.room_low).all()
        assert torch.linalg.det(world.world_R_solid).sub(1).abs().max() < 1e-5
        assert world.texture.min() >= 0 and world.texture.max() < 24
        standing = world.centre[:, 2] > 0
        assert standing[:BOXES].sum() >= 60 and standing.sum() >= 90
        # What stands in a room stands inside it, give or take a leaning edge.
        low, high = world.room_low[0] - 0.3, world.room_high[0] + 0.3
        inside = (world.centre[standing] > low) & (world.centre[standing] < high)
        assert inside.all(1).float().mean() > 0.95
        plain_walls.append(float((world.texture[SOLIDS : SOLIDS + 4] < 6).float().mean()))
    assert 0.1 < np.mean(plain_walls) < 0.6


def test_a_world_without_furniture_is_a_bare_room():
    world = sample_world(np.random.default_rng(3), 24, 6, furniture=False)
    assert (world.centre[:, 2] < 0).all()


def check_bounds(made: Builder, low: float, high: float, farthest: float) -> None:
    """All that was built at (1, -2) stands between two heights, and no farther away."""
    solids = made.boxes + made.ellipsoids + made.cylinders
    assert solids
    for solid in solids:
        reach = np.abs(solid.rotation[2]) @ solid.half
        assert solid.centre[2] - reach > low and solid.centre[2] + reach < high
        assert np.linalg.norm(solid.centre[:2] - [1.0, -2.0]) < farthest


@pytest.mark.parametrize("maker", [*FURNITURE, kitchen, dining_set], ids=lambda maker: maker.__name__)
def test_assemblies_stand_on_the_floor_under_the_ceiling(maker):
    for seed in range(5):
        builder = Builder(np.random.default_rng(seed))
        maker(builder, Place(1.0, -2.0, 0.7), 1.4, 0.5, 2.4)
        check_bounds(builder, -0.16, 2.46, 1.6)  # a tilted corner may sink in


def test_chairs_stand_on_both_sides_of_their_table_and_face_it():
    sides, stands = [], set()
    for seed in range(12):
        builder = Builder(np.random.default_rng(seed))
        dining_set(builder, Place(0.0, 0.0, 0.0), 1.8, 1.4, 2.4)
        seats = [solid for solid in builder.boxes if solid.half[2] == 0.03 and solid.half[0] > 0.1]
        backs = [solid for solid in builder.boxes if solid.half[1] == 0.02 and solid.half[0] > 0.1]
        assert len(seats) == len(backs) <= 4
        for seat, back in zip(seats, backs, strict=True):
            assert abs(back.centre[1]) > abs(seat.centre[1]) and back.centre[2] > seat.centre[2]
            assert back.material == seat.material == seats[0].material
            sides.append(np.sign(seat.centre[1]))
        stands.add(any(solid.half[0] == 0.03 for solid in builder.cylinders))
    assert abs(np.mean(sides)) < 0.2
    assert stands == {False, True}  # some on a foot, some on legs


def test_a_place_next_to_another_is_turned_with_it():
    place = Place(1.0, 2.0, np.pi / 2).moved(0.5, 0.1, -np.pi / 2)
    assert (place.x, place.y, place.yaw) == pytest.approx((0.9, 2.5, 0.0))


def test_nothing_hangs_across_an_opening():
    low = np.tile([-2.0, -2.0, 0.0], (ROOMS, 1))
    high = np.tile([2.0, 2.0, 2.5], (ROOMS, 1))
    # An opening as wide as the wall at high x leaves three walls to hang things on.
    low[1], high[1] = [1.98, -2.0, 0.0], [4.0, 2.0, 2.5]
    builder = Builder(np.random.default_rng(0))
    for _ in range(40):
        builder.boxes.clear()
        wall_fixture(builder, low, high)
        assert all(solid.centre[0] < 1.95 for solid in builder.boxes)


def test_looks_decide_on_paint():
    looks = [look for look in Look for _ in range(300)]
    role = np.full(len(looks), "solid")
    drawn = draw_materials(np.random.default_rng(0), looks, role, textures=100, plain_textures=20)
    # A plain texture is about 0.7, so that this is the colour that a material shows.
    colour = (drawn.bias + 0.7 * drawn.gain).mean(1)
    plain = drawn.texture < 20

    def of(look: Look) -> np.ndarray:
        return np.array([other is look for other in looks])

    assert plain[of(Look.DARK)].all() and colour[of(Look.DARK)].max() < 0.21
    assert plain[of(Look.WHITE)].all() and colour[of(Look.WHITE)].min() > 0.4
    assert plain[of(Look.BARE)].all() and np.ptp(colour[of(Look.BARE)]) > 0.5
    assert 0.05 < plain[of(Look.ANY)].mean() < 0.2
    for look in (Look.POSTER, Look.LABEL, Look.RUG):
        assert not plain[of(look)].any()
    assert plain[of(Look.METAL)].all() and (drawn.gloss[of(Look.METAL)] > 0).all()
    assert (drawn.glow[of(Look.GLOWING)] > 0.5).all() and (drawn.glow[~of(Look.GLOWING)] == 0).all()
    green = drawn.bias[of(Look.LEAF)].mean(0)
    assert green[1] > green[0] > green[2]


def test_what_glows_comes_first_so_that_mirrors_find_it():
    for seed in range(6):
        world = sample_world(np.random.default_rng(seed), 24, 6)
        shining = torch.nonzero(world.glow[:BOXES] > 0)[:, 0]
        assert torch.equal(shining, torch.arange(len(shining)))


@pytest.mark.parametrize("maker", [*ON_TABLES, *ON_FLOORS], ids=lambda maker: maker.__name__)
def test_things_stand_on_their_surface_and_fit_under_the_next(maker):
    for seed in range(6):
        builder = Builder(np.random.default_rng(seed))
        maker(builder, Place(1.0, -2.0, 0.3), 0.75, 0.5)
        check_bounds(builder, 0.75 - 0.03, 1.35, 0.75)


def test_a_rod_runs_from_start_to_end():
    builder = Builder(np.random.default_rng(0))
    start, end = np.array([0.1, 0.2, 0.3]), np.array([0.6, -0.2, 1.3])
    builder.rod(Place(1.0, 0.0, np.pi / 2), start, end, 0.004, 0)
    rod = builder.cylinders[0]
    ends = sorted((rod.centre + sign * rod.rotation @ [0, 0, rod.half[2]] for sign in (-1, 1)), key=lambda p: p[2])
    # A quarter turn takes x to y and y to -x.
    assert ends[0] == pytest.approx([0.8, 0.1, 0.3]) and ends[1] == pytest.approx([1.2, 0.6, 1.3])
    assert rod.half[0] == rod.half[1] == 0.004
    assert np.linalg.det(rod.rotation) == pytest.approx(1.0)


def test_a_seed_gives_one_bank():
    first, again = build_texture_bank(5, 6, 32), build_texture_bank(5, 6, 32)
    assert torch.equal(first.texels, again.texels)
    assert not torch.equal(first.texels, build_texture_bank(6, 6, 32).texels)
    assert first.texels.dtype == torch.int32
    assert len(first.texels) == 6 * first.texels_per_texture == 6 * (32 * 32 + 16 * 16 + 64 + 16 + 4 + 1)


def test_plain_textures_come_first_and_are_plain():
    bank = build_texture_bank(1, 60, 64, plain_share=0.3)
    assert bank.plain_count == 18
    finest = bank.texels.view(60, -1)[:, : 64 * 64]
    contrast = torch.stack([(finest >> shift & 255).float().std(1) for shift in (0, 8, 16)]).mean(0)
    assert contrast[:18].max() < 15
    assert contrast[18:].median() > 2 * contrast[:18].median()


def one_texture(finest: np.ndarray) -> TextureBank:
    """A bank of one grey 4x4 texture and its averages."""
    levels = [finest.astype(float)]
    while levels[-1].shape[0] > 1:
        level = levels[-1]
        levels.append((level[::2, ::2] + level[1::2, ::2] + level[::2, 1::2] + level[1::2, 1::2]) / 4)
    grey = np.concatenate([level.ravel() for level in levels]).astype(np.int32)
    return TextureBank(torch.from_numpy(grey * (1 + 256 + 65536)), 4, 1, 0)


def read(bank: TextureBank, u: float, v: float, footprint: float) -> float:
    values = (torch.tensor([[x]]) for x in (u, v, footprint))
    red, green, blue = sample_texture(bank.texels, bank.size, torch.zeros(1, 1, dtype=torch.long), *values)
    assert red == green == blue
    return float(red) * 255


def test_texels_are_read_at_their_centres_and_wrap_around():
    bank = one_texture(np.arange(16).reshape(4, 4) * 10)
    assert read(bank, 0.5 / 4, 0.5 / 4, 1.0) == pytest.approx(0, abs=1e-4)
    assert read(bank, 2.5 / 4, 1.5 / 4, 1.0) == pytest.approx(60, abs=1e-4)
    assert read(bank, 2.0 / 4, 1.5 / 4, 1.0) == pytest.approx(55, abs=1e-4)
    assert read(bank, 2.5 / 4 - 3, 1.5 / 4 + 7, 1.0) == pytest.approx(60, abs=1e-3)
    assert read(bank, 0.0, 0.5 / 4, 1.0) == pytest.approx(15, abs=1e-4)  # half-way between columns 0 and 3


def test_wide_footprints_read_averages():
    bank = one_texture(np.arange(16).reshape(4, 4) * 10)
    assert read(bank, 0.3, 0.8, 1000.0) == pytest.approx(75, abs=1)
    assert read(bank, 0.25, 0.25, 2.0**1.5) == pytest.approx(25, abs=1)  # the 2x2 level's first texel
