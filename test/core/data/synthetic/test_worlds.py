"""What worlds are made of."""

from __future__ import annotations

import numpy as np
import torch

from dvmvs_core.data.synthetic.world_tensors import BOXES, SOLIDS, SURFACES
from dvmvs_core.data.synthetic.worlds import sample_world


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
        assert standing[:BOXES].sum() >= 15
        # What stands in a room stands inside it, give or take a leaning edge.
        low, high = world.room_low[0] - 0.3, world.room_high[0] + 0.3
        inside = (world.centre[standing] > low) & (world.centre[standing] < high)
        assert inside.all(1).float().mean() > 0.95
        plain_walls.append(float((world.texture[SOLIDS : SOLIDS + 4] < 6).float().mean()))
    assert 0.3 < np.mean(plain_walls) < 0.9
