# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The texture bank and how texels are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvmvs_core.synthetic.shading import sample_texture
from dvmvs_core.synthetic.textures import TextureBank, build_texture_bank


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
