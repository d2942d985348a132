# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The convolution of a depth head equals the plain one."""

from __future__ import annotations

import pytest
import torch

from dvmvs_core.model.encoder_decoder import DepthHead as PlainDepthHead
from dvmvs_core.runtime.depth_head import DepthHead


@pytest.mark.parametrize("shape", [(1, 16, 16, 20), (2, 33, 7, 9), (1, 4, 1, 1), (1, 5, 2, 3), (1, 7, 5, 1)])
@torch.inference_mode()
def test_as_the_plain_head(shape):
    torch.manual_seed(0)
    plain = PlainDepthHead(shape[1])
    x = torch.randn(shape)
    head = DepthHead(plain[0])
    torch.testing.assert_close(head(x), plain(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head(x.contiguous(memory_format=torch.channels_last)), plain(x), rtol=1e-5, atol=1e-6)
    x[0, 0, 0, 0] = torch.nan
    assert torch.equal(head(x).isnan(), plain(x).isnan())


@torch.inference_mode()
def test_the_same_bits_with_any_number_of_threads():
    torch.manual_seed(0)
    head, x = DepthHead(PlainDepthHead(32)[0]), torch.randn(1, 32, 19, 23)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(head(x))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
