# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Winograd's convolution equals the plain one, at every size, border and number of threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dvmvs_core.runtime.convolution import DirectConvolution, fused
from dvmvs_core.runtime.polynomials import Tiling
from dvmvs_core.runtime.winograd import LEAST_CHANNELS, Winograd, suits
from dvmvs_core.runtime.winograd_kernels import LARGE_3, LARGE_5, SMALL_3

# Height, width, channels in and out, kernel, batch: tiles that do and do not fill the image, channels that do and do
# not fill a register, one and several panels of outputs, few tiles and many.
SHAPES = [
    (16, 20, 16, 16, 3, 1),
    (17, 23, 20, 33, 5, 2),
    (32, 40, 36, 32, 5, 1),
    (3, 2, 17, 40, 5, 1),
    (8, 10, 64, 64, 3, 1),
    (9, 7, 4, 5, 3, 3),
    (33, 31, 48, 96, 3, 1),
    (64, 80, 65, 32, 5, 1),
]


def convolution_and_input(shape, bias=True):
    torch.manual_seed(sum(shape))
    height, width, channels, outputs, size, batch = shape
    convolution = nn.Conv2d(channels, outputs, size, padding=size // 2, bias=bias)
    x = torch.randn(batch, channels, height, width).contiguous(memory_format=torch.channels_last)
    return convolution, x


@torch.no_grad()
def exact(convolution, x, relu):
    result = convolution.double()(x.double())
    convolution.float()
    return result.relu() if relu else result


@pytest.mark.parametrize("tiling", [SMALL_3, LARGE_3, LARGE_5])
def test_a_line_of_pixels_is_convolved_exactly(tiling: Tiling):
    noise = np.random.default_rng(0)
    pixels, weights = noise.standard_normal(tiling.side), noise.standard_normal(tiling.size)
    even_odd, butterflies = tiling.to_points()
    sums, powers = tiling.from_points()
    products = (butterflies @ even_odd @ pixels) * (tiling.of_weights() @ weights)
    expected = [pixels[i : i + tiling.size] @ weights for i in range(tiling.step)]
    np.testing.assert_allclose(powers @ sums @ products, expected, rtol=1e-12)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_as_the_plain_convolution(shape, relu):
    convolution, x = convolution_and_input(shape, bias=relu)
    found = Winograd(convolution, relu)(x)
    expected = exact(convolution, x, relu)
    assert found.shape == expected.shape and found.is_contiguous(memory_format=torch.channels_last)
    # Outputs are about 1; in one operation of float32 6e-8 is lost.
    assert (found - expected).abs().mean() < 3e-6
    assert (found - expected).abs().max() < 5e-5
    assert expected.abs().mean() > 0.1


@pytest.mark.parametrize("shape", [(17, 23, 20, 33, 5, 2), (8, 10, 64, 96, 3, 1), (40, 40, 32, 32, 3, 1)])
@torch.inference_mode()
def test_the_same_bits_with_any_number_of_threads(shape):
    convolution, x = convolution_and_input(shape)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(Winograd(convolution, relu=True)(x))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@torch.inference_mode()
def test_channels_past_the_weights_are_left_out():
    convolution, x = convolution_and_input((32, 40, 20, 16, 5, 1))
    more = torch.cat([x, torch.full((1, 12, 32, 40), 1e30)], dim=1).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(Winograd(convolution, True)(more), Winograd(convolution, True)(x), rtol=0, atol=0)


@torch.inference_mode()
def test_one_convolution_takes_images_of_several_sizes():
    convolution, large = convolution_and_input((40, 40, 16, 16, 3, 1))
    winograd = Winograd(convolution, relu=False)
    for x in (large, large[:, :, :9, :7], large):
        assert (winograd(x) - exact(convolution, x, False)).abs().max() < 5e-5


@pytest.mark.parametrize("value", [np.nan, np.inf])
@torch.inference_mode()
def test_what_is_not_finite_stays_near_and_never_becomes_a_number(value):
    convolution, x = convolution_and_input((32, 40, 16, 16, 5, 1))
    x[0, 3, 13, 22] = value
    found = Winograd(convolution, relu=False)(x)
    expected = convolution(x)
    assert not found[~expected.isfinite()].isfinite().any()
    # A tile shares what it is made of: all of it is lost, and no other.
    near = torch.zeros(32, 40, dtype=torch.bool)
    near[8:16, 20:28] = True
    assert found[0, :, ~near].isfinite().all()
    assert Winograd(convolution, relu=True)(x).isnan().any(), "a ReLU must not hide it"


@torch.inference_mode()
def test_denormal_input_is_as_good_as_none():
    convolution, x = convolution_and_input((16, 20, 16, 16, 3, 1))
    found = Winograd(convolution, relu=False)(x * 1e-42)
    torch.testing.assert_close(found, convolution.bias.view(1, -1, 1, 1).expand_as(found), rtol=0, atol=1e-30)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"kernel_size": 5, "padding": 2}, True),
        ({"kernel_size": 1, "padding": 0}, False),
        ({"stride": 2}, False),
        ({"dilation": 2, "padding": 2}, False),
        ({"groups": 16}, False),
        ({"padding": 0}, False),
        ({"padding_mode": "replicate"}, False),
        ({"out_channels": 1}, False),
        ({"in_channels": LEAST_CHANNELS - 1}, False),
    ],
)
@torch.inference_mode()
def test_what_it_does_not_suit_is_convolved_directly(changes, expected):
    convolution = nn.Conv2d(**{"in_channels": 16, "out_channels": 16, "kernel_size": 3, "padding": 1, **changes})
    assert suits(convolution) is expected
    step = fused(convolution, None, relu=False)
    assert isinstance(step, Winograd if expected else DirectConvolution)
    if convolution.padding_mode == "zeros":
        x = torch.randn(1, convolution.in_channels, 12, 12)
        torch.testing.assert_close(step(x), convolution(x), rtol=1e-4, atol=1e-5)
