# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What one image says of depth: geometry of its cells, focal length, and weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dvmvs_core.errors import WeightsError
from dvmvs_core.model.lite0 import IMAGE_MEAN, IMAGE_SCALE, LEVEL_CHANNELS, load_lite0
from dvmvs_core.model.monocular import MonocularHead, cell_rays, focal_length, load_monocular
from dvmvs_core.model.parts import lite0_part, monocular_part
from dvmvs_core.synthetic.clips import SyntheticClips

HEIGHT, WIDTH = 64, 96
K = torch.tensor(((90.0, 0, 47), (0, 100, 30), (0, 0, 1)))[None]


def maps(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.rand(1, channels, HEIGHT // side, WIDTH // side, generator=generator)
        for channels, side in zip(LEVEL_CHANNELS[1:], (8, 16, 32), strict=True)
    ]


def test_rays_go_through_the_middles_of_cells():
    rays = cell_rays(K, HEIGHT, WIDTH)
    assert rays.shape == (1, 2, 4, 6)
    np.testing.assert_allclose(rays[0, 0, :, 2], (39.5 - 47) / 90, rtol=1e-6)
    np.testing.assert_allclose(rays[0, 1, 1, :], (23.5 - 30) / 100, rtol=1e-6)
    assert focal_length(K).item() == pytest.approx(math.sqrt(9000))


def test_twice_the_focal_length_is_twice_the_depth():
    head, rays = MonocularHead().eval(), cell_rays(K, HEIGHT, WIDTH)
    near, far = (head(*maps(0), rays, torch.tensor((focal,))) for focal in (100.0, 200.0))
    torch.testing.assert_close(far.log_depth - near.log_depth, torch.full((1, 4, 6), math.log(2)))
    torch.testing.assert_close(far.log_deviation, near.log_deviation)
    assert near.log_depth.std() > 1e-3, "it looks at its maps"


def test_its_part_answers_as_the_head_does():
    head = load_monocular()
    inputs = *maps(1), cell_rays(K, HEIGHT, WIDTH), focal_length(K)
    part = monocular_part(head, HEIGHT, WIDTH)
    assert [tuple(x.shape) for x in inputs] == list(part.inputs.values())
    for found, expected in zip(part.run(*inputs), head(*inputs), strict=True):
        torch.testing.assert_close(found, expected)
        assert tuple(found.shape) == part.outputs["log_depth"]


def test_the_shipped_head_tells_near_from_far():
    """Of one frame of each of eight worlds, far better than one depth for all."""
    clips = SyntheticClips(256, 320, 1, seed=4321, textures=48)
    lite0, head = lite0_part(load_lite0(), 256, 320), load_monocular()
    found, truth = [], []
    for number in range(8):
        clip = clips.batch(1, number)
        levels = lite0.run((clip.image[:, 0].float() - IMAGE_MEAN) / IMAGE_SCALE)
        answer = head(*levels[1:], cell_rays(clip.K, 256, 320), focal_length(clip.K))
        depth = clip.depth[0, 0, 8::16, 8::16]
        found.append(answer.log_depth[0][depth > 0].median())
        truth.append(depth[depth > 0].log().median())
    found, truth = torch.stack(found), torch.stack(truth)
    assert truth.std() > 0.3, "worlds differ"
    assert (found - truth).abs().mean() < 0.7 * (truth - truth.median()).abs().mean()


def test_other_weights_and_none_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="cannot read the weights of monocular depth"):
        load_monocular(tmp_path / "none.safetensors")
    save_file({"answer.bias": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="which dvmvs train monocular makes"):
        load_monocular(tmp_path / "other.safetensors")
