# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""EfficientNet-Lite0: a pretrained image encoder, up to its maps at 1/32 of the resolution.

Each batch norm is folded into the convolution before it. Convolutions pad as TensorFlow does ("same"), so the centres
of the maps are at pixels 2x + 1, 4x + 3, 8x + 7, 16x + 15 and 32x + 31 of the image.

Source: Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, 2020: EfficientNet-B0 (Tan and
Le, ICML 2019) with ReLU6 and without squeeze-and-excitation. The weights are described in weights/lite0.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from dvmvs_core.errors import WeightsError
from dvmvs_core.foreign import foreign

IMAGE_MEAN, IMAGE_SCALE = 127.0, 128.0
"""Its input is (image − mean) / scale of RGB values 0…255."""

STEM_CHANNELS = 32

WEIGHTS = Path(__file__).resolve().parent.parent / "weights" / "lite0.safetensors"


@dataclass(frozen=True)
class BlockStage:
    """Blocks of one resolution and width.

    Attributes:
        blocks: how many.
        kernel: side of their depthwise kernels.
        stride: of the first block.
        expansion: width inside a block over its input channels.
        channels: that come out.
    """

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    BlockStage(1, 3, 1, 1, 16),
    BlockStage(2, 3, 2, 6, 24),
    BlockStage(2, 5, 2, 6, 40),
    BlockStage(3, 3, 2, 6, 80),
    BlockStage(3, 5, 1, 6, 112),
    BlockStage(4, 5, 2, 6, 192),
    BlockStage(1, 3, 1, 6, 320),
)
"""Their outputs are at 1/2, 1/4, 1/8, 1/16, 1/16, 1/32 and 1/32 of the resolution."""

LEVEL_STAGES = (1, 2, 4, 6)
"""The stages that give the maps at 1/4, 1/8, 1/16 and 1/32 ..."""
LEVEL_CHANNELS = tuple(STAGES[stage].channels for stage in LEVEL_STAGES)
"""... and how many channels these have."""

_TINY = 1e-6


class SamePadConvolution(nn.Conv2d):
    """A convolution whose output has ⌈size / stride⌉ cells; an odd pixel of padding is at the right and the bottom."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, ⌈h / stride⌉, ⌈w / stride⌉) of (B, inputs, h, w)."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        missing = [max(0, (-size % stride) + kernel - stride) for size in x.shape[-2:]]
        if stride == 1 or missing[0] % 2 == missing[1] % 2 == 0:
            padding = [m // 2 for m in missing]
            return functional.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)
        before = [m // 2 for m in missing]
        x = functional.pad(x, (before[1], missing[1] - before[1], before[0], missing[0] - before[0]))
        return functional.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


class InvertedBottleneck(nn.Module):
    """Expand, filter each channel, project; added to the input where the shapes agree (MobileNetV2)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = SamePadConvolution(inputs, width, 1) if expansion > 1 else None
        self.depthwise = SamePadConvolution(width, width, kernel, stride, groups=width)
        self.project = SamePadConvolution(width, outputs, 1)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, h / stride, w / stride) of (B, inputs, h, w)."""
        inner = x if self.expand is None else functional.relu6(self.expand(x))
        inner = functional.relu6(self.depthwise(inner))
        out = self.project(inner)
        return x + out if self.is_residual else out


class Lite0(nn.Module):
    """The trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SamePadConvolution(3, STEM_CHANNELS, 3, stride=2)
        self.stages = nn.ModuleList()
        channels = STEM_CHANNELS
        for stage in STAGES:
            blocks = []
            for i in range(stage.blocks):
                stride = stage.stride if i == 0 else 1
                blocks.append(InvertedBottleneck(channels, stage.channels, stage.kernel, stride, stage.expansion))
                channels = stage.channels
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return what each stage gives.

        Args:
            image: (B, 3, H, W) RGB, (values 0…255 − IMAGE_MEAN) / IMAGE_SCALE.
        """
        x = functional.relu6(self.stem(image))
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs


def scaled_level(level: Tensor) -> Tensor:
    """Return a map (B, C, h, w) over its standard deviation."""
    return level / (level.std(dim=(1, 2, 3), keepdim=True) + _TINY)


def load_lite0(path: Path = WEIGHTS) -> Lite0:
    """Return the network with its pretrained weights, in evaluation mode.

    Raises:
        WeightsError: if the file is missing, broken or not of this network.
    """
    network = Lite0()
    wanted = network.state_dict()
    with foreign(f"cannot read the encoder's weights {path}", WeightsError, "; install the package again"):
        tensors = load_file(path)
    with foreign(
        f"{path} does not hold EfficientNet-Lite0", WeightsError, "; benchmarks/convert_lite0.py makes the file"
    ):
        network.load_state_dict({name: tensors[name].float() for name in wanted})
    return network.eval().requires_grad_(False)
