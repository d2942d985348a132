# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where the cells of `base` lie: cell x of its volume on pixel 4x + 3, of coarser levels on 8x + 7, 16x + 15, …"""

from __future__ import annotations

import torch

from dvmvs_core.model.intrinsics import grid_intrinsics
from dvmvs_core.model.lite0 import SamePadConvolution, load_lite0
from dvmvs_core.model.score_head import ConvexUpsampling
from dvmvs_core.model.score_volume import VOLUME_OFFSET, VOLUME_STRIDE, pooled_patches


def test_convention_lite0_maps_are_centred_on_the_last_pixel_of_a_cell() -> None:
    """The output of cell x depends on pixels that lie evenly about 4x + 3, and not about 4x or 4x + 1.5."""
    encoder = load_lite0(stages=2)
    image = torch.zeros(1, 3, 64, 96, requires_grad=True)
    encoder(image)[1][0, :, 8, 10].sum().backward()
    touched = image.grad[0].abs().sum(dim=(0, 1)).nonzero()[:, 0]
    assert (touched[0] + touched[-1]) / 2 == 4 * 10 + 3


def test_convention_stride_two_convolutions_keep_to_lite0s_pixels() -> None:
    """Cell x of the coarser level is centred on cell 2x + 1: pixel 4 (2x + 1) + 3 = 8x + 7. Padding on both sides as in
    other networks would give cell 2x, pixel 8x + 3."""
    down = SamePadConvolution(1, 1, 3, stride=2)
    with torch.no_grad():
        down.weight.zero_()
        down.weight[0, 0, 1, 1] = 1.0
        down.bias.zero_()
        cells = torch.arange(12.0).view(1, 1, 1, 12).expand(1, 1, 8, 12)
        torch.testing.assert_close(down(cells)[0, 0, 0], 2 * torch.arange(6.0) + 1)


def test_convention_patch_scores_are_averaged_about_the_cells_pixel() -> None:
    """Patches lie at pixels 2i: the mean of 4x + 2 and 4x + 4 lies at 4x + 3; that of a plain 2×2 mean at 4x + 1."""
    at_pixel = 2.0 * torch.arange(12.0)
    scores = at_pixel.view(1, 1, 1, 12).expand(1, 1, 8, 12)
    pooled = pooled_patches(scores)[0, 0, 0]
    torch.testing.assert_close(pooled[:-1], VOLUME_STRIDE * torch.arange(5.0) + VOLUME_OFFSET)
    assert pooled[-1] == at_pixel[-1]  # beyond the last patch there is none


def test_convention_untrained_upsampling_interpolates_between_the_cells_pixels() -> None:
    """Depth that grows evenly with the pixels stays so. Centres at 4x + 1.5 would leave it 1.5 pixels off."""
    torch.manual_seed(0)
    upsampling = ConvexUpsampling(channels=4, width=8)
    torch.nn.init.zeros_(upsampling.weights.weight)
    ramp = (VOLUME_STRIDE * torch.arange(12.0) + VOLUME_OFFSET).view(1, 1, 12).expand(1, 8, 12)
    full = upsampling(ramp, torch.zeros(1, 4, 8, 12), torch.zeros(1, 3, 32, 48))
    inner = slice(4, 44)
    # A weight of 0.01 for each of the nine keeps all of them alive; it moves pixels by less than a third.
    torch.testing.assert_close(full[0, 10, inner], torch.arange(48.0)[inner], atol=0.3, rtol=0)


def test_convention_grid_intrinsics_project_to_cells() -> None:
    K = torch.tensor([[[100.0, 0.0, 47.0], [0.0, 110.0, 31.0], [0.0, 0.0, 1.0]]])
    point = torch.tensor([0.2, -0.1, 1.0])
    pixel, cell = K[0] @ point, grid_intrinsics(K, 32, 31)[0] @ point
    torch.testing.assert_close(32 * cell[:2] + 31, pixel[:2])
