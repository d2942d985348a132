# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Convolution, batch norm and ReLU as one step, for inference on a CPU.

The batch norm is folded into the weights. Where it pays, tiles are convolved by Winograd's method; elsewhere the
weights lie in memory as the kernel of oneDNN that will run wants them. All happens on copies: the network that was
given can go on training.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dvmvs_core.runtime.winograd import Winograd, suits

_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def fused(convolution: nn.Conv2d, batch_norm: nn.BatchNorm2d | None, relu: bool) -> Callable[[Tensor], Tensor]:
    """One convolution with what follows it, by the method that suits it; channels-last in and out.

    The input may have more channels than the weights; the rest is left out.

    Args:
        convolution: its weights, which are copied.
        batch_norm: the batch norm after it, in evaluation mode, or None.
        relu: whether a ReLU comes last.
    """
    folded = fuse_conv_bn_eval(convolution, batch_norm) if batch_norm is not None else convolution
    return Winograd(folded, relu) if suits(folded) else DirectConvolution(folded, relu)


class DirectConvolution:
    """One convolution with ReLU; channels-last in and out.

    Args:
        convolution: its weights, with a batch norm folded in.
        relu: whether a ReLU follows.
    """

    def __init__(self, convolution: nn.Conv2d, relu: bool) -> None:
        self._weight = convolution.weight.detach().clone(memory_format=torch.channels_last)
        self._bias = None if convolution.bias is None else convolution.bias.detach().clone()
        self._geometry = (convolution.padding, convolution.stride, convolution.dilation, convolution.groups)
        self._channels = convolution.in_channels
        self._relu = relu
        self._packed_for: torch.Size | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(B, at least in, h, w) -> (B, out, h', w'); channels of the input past the weights' are left out."""
        x = x[:, : self._channels]
        padding, stride, dilation, groups = self._geometry
        if not _ONEDNN:
            x = functional.conv2d(x, self._weight, self._bias, stride, padding, dilation, groups)
            return x.relu_() if self._relu else x
        if self._packed_for is None:
            self._pack(x.shape)
        # The operators that torch.compile would have called, which takes minutes and a C++ compiler to do so.
        after = "relu" if self._relu else "none"
        return torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self._bias, padding, stride, dilation, groups, after, [], ""
        )

    def _pack(self, shape: torch.Size) -> None:
        padding, stride, dilation, groups = self._geometry
        self._weight = torch._C._nn.mkldnn_reorder_conv2d_weight(
            self._weight.to_mkldnn(), padding, stride, dilation, groups, list(shape)
        )
        self._packed_for = shape


class Convolutions:
    """A chain of convolutions, made of an `nn.Sequential` of nothing but convolutions, batch norms and ReLUs."""

    def __init__(self, layers: nn.Sequential) -> None:
        self._steps = []
        modules = list(layers)
        while modules:
            convolution = modules.pop(0)
            batch_norm = modules.pop(0) if modules and isinstance(modules[0], nn.BatchNorm2d) else None
            relu = bool(modules) and isinstance(modules[0], nn.ReLU)
            if relu:
                modules.pop(0)
            self._steps.append(fused(convolution, batch_norm, relu))

    def __call__(self, x: Tensor) -> Tensor:
        """Applies them in turn."""
        for step in self._steps:
            x = step(x)
        return x
