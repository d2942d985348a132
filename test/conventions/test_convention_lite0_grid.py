# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where the cells of EfficientNet-Lite0's maps lie: cell x on pixel 4x + 3, 8x + 7, 16x + 15, …"""

from __future__ import annotations

import torch

from dvmvs_core.model.lite0 import SamePadConvolution, load_lite0


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
