# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""In which arithmetic a step is computed, and under torch.compile or not."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch
from torch import nn

from dvmvs_core.errors import DeviceError

Precision = Literal["float32", "bfloat16", "float16"]

_COMPILED = ("feature_extractor", "feature_pyramid", "encoder", "lstm_fusion", "decoder", "fine_sweep")


class Arithmetic:
    """Autocast for the forward pass, and for float16 a scale that keeps small gradients from vanishing.

    Weights, cost volume and losses stay in float32.

    Args:
        precision: of convolutions and other large products.
        device: where they are computed.

    Raises:
        DeviceError: if the GPU cannot compute in bfloat16.
    """

    def __init__(self, precision: Precision, device: torch.device) -> None:
        if precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise DeviceError(f"{torch.cuda.get_device_name(device)} has no bfloat16; use precision float16 or float32")
        self._dtype = None if precision == "float32" else getattr(torch, precision)
        self._device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")

    def forward(self) -> contextlib.AbstractContextManager:
        """Return the context of the forward pass."""
        if self._dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=self._dtype)


def compile_parts(network: nn.Module, backend: str = "inductor") -> None:
    """Have the parts of a network compiled when they first run; geometry between them stays as it is.

    Args:
        network: changed in place; its weights and their names stay.
        backend: of torch.compile.
    """
    for name in _COMPILED:
        part = getattr(network, name, None)
        if part is not None:
            part.compile(backend=backend)
