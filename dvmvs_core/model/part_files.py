# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Weights of networks that are no depth networks of their own: one in a file, with what made it in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file
from torch import nn

from dvmvs_core.errors import WeightsError
from dvmvs_core.foreign import foreign, regular
from dvmvs_core.model.checkpoint import fill, stored_tensor
from dvmvs_core.model.tensor_files import write_tensors

Network = TypeVar("Network", bound=nn.Module)


def load_part(network: Network, path: Path, what: str, command: str) -> Network:
    """Return a network with weights of its own, in evaluation mode.

    Args:
        network: is filled.
        path: the file.
        what: its weights are called.
        command: makes such files.

    Raises:
        WeightsError: if the file is missing, broken or not of this network.
    """
    with foreign(f"cannot read {what} {path}", WeightsError, "; install the package again"):
        tensors = load_file(regular(path))
    fill(network, tensors, source=f"{path}, which {command} makes")
    return network.eval().requires_grad_(False)


def save_part(path: Path, network: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write weights for `load_part`, matrices and kernels as float16; a complete file replaces the old one.

    Args:
        path: the file.
        network: with the weights.
        metadata: what JSON can hold, of how they came about.

    Raises:
        WeightsError: if they hold NaN or infinity, or the file cannot be written.
    """
    tensors = {name: stored_tensor(tensor, name, path) for name, tensor in network.state_dict().items()}
    write_tensors(path, tensors, {"metadata": json.dumps(dict(metadata))})
