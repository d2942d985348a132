# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Convolutions of low rank: what a network makes of images, with a fraction of the products.

What comes into a convolution of a trained network moves in fewer directions than it has channels. Those that its
output depends on are found from images (`training.compression`). The convolution then becomes two, onto them and from
them, and nothing is trained again. After Zhang et al., "Accelerating Very Deep Convolutional Networks for
Classification and Detection", TPAMI 2016, who so split what comes out.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn

from dvmvs_core.errors import WeightsError
from dvmvs_core.foreign import foreign, regular
from dvmvs_core.model.tensor_files import write_tensors

MULTIPLE = 8
"""Ranks are multiples of it, as the vectors of processors are."""

LEAST_SAVING = 1.5
"""A convolution whose products do not become fewer by this factor stays whole."""


class Directions(NamedTuple):
    """Of what comes into a convolution: x is, as far as the output depends on it, ``back @ onto @ x``.

    Attributes:
        onto: (R, C).
        back: (C, R).
    """

    onto: Tensor
    back: Tensor


class Moments(NamedTuple):
    """Of what comes into a convolution, over pixels.

    Attributes:
        squares: (C, C) float64, the mean of x xᵀ.
        mean: (C,) float64, the mean of x.
    """

    squares: Tensor
    mean: Tensor


def directions(convolution: nn.Conv2d, moments: Moments, error: float) -> Directions | None:
    """Return the fewest directions of what comes in that tell what goes out; None where they would save too little.

    Args:
        convolution: has one group.
        moments: of what comes into it.
        error: largest mean squared error of what goes out, of its variance.
    """
    weight = convolution.weight.detach().double()
    outputs, channels, height, width = weight.shape
    taps = weight.permute(0, 2, 3, 1).reshape(-1, channels)
    varying, axes = torch.linalg.eigh(moments.squares)
    scales = varying.clamp(min=1e-12 * float(varying[-1])).sqrt()
    _, sizes, basis = torch.linalg.svd(taps @ (axes * scales), full_matrices=False)
    variance = ((taps @ (moments.squares - torch.outer(moments.mean, moments.mean))) * taps).sum()
    left_out = sizes.square().flip(0).cumsum(0).flip(0)  # with 0, 1, … directions
    rank = -(-int((left_out > error * variance).sum()) // MULTIPLE) * MULTIPLE
    kernel = outputs * height * width / (convolution.stride[0] * convolution.stride[1])
    if rank == 0 or LEAST_SAVING * rank * (channels + kernel) > channels * kernel:
        return None
    found = basis[:rank]
    return Directions((found / scales @ axes.T).float(), (axes * scales @ found.T).float())


def split(network: nn.Module, found: Mapping[str, Directions]) -> None:
    """Split convolutions of a network in two, in place.

    Args:
        network: the network.
        found: directions by the name of the convolution; names of what the network does not have are left out.
    """
    modules = dict(network.named_modules())
    # From behind: in a sequence, what follows moves.
    for name in sorted(found.keys() & modules.keys(), reverse=True):
        parent_name, _, own_name = name.rpartition(".")
        parent, (onto, rest) = modules[parent_name], _split(modules[name], found[name])
        if isinstance(parent, nn.Sequential):
            parent[int(own_name)] = rest
            parent.insert(int(own_name), onto)
        else:
            setattr(parent, own_name, nn.Sequential(onto, rest))


def _split(convolution: nn.Conv2d, found: Directions) -> tuple[nn.Conv2d, nn.Conv2d]:
    weight = convolution.weight
    rank, channels = found.onto.shape
    onto = nn.Conv2d(channels, rank, 1, bias=False, device=weight.device, dtype=weight.dtype)
    rest = copy.deepcopy(convolution)  # which may pad in a way of its own
    rest.in_channels = rank
    with torch.no_grad():
        onto.weight.copy_(found.onto[:, :, None, None])
        rest.weight = nn.Parameter(torch.einsum("ocyx,cr->oryx", weight, found.back.to(weight)).contiguous())
    for part in (onto, rest):
        part.requires_grad_(weight.requires_grad)
    return onto, rest


def directions_path(weights: Path) -> Path:
    """Return where the directions for a file of weights are: next to it."""
    return weights.with_name(f"{weights.stem}.low_rank.safetensors")


def save_directions(weights: Path, found: Mapping[str, Mapping[str, Directions]], metadata: Mapping[str, Any]) -> Path:
    """Write directions for a file of weights next to it, and return where.

    Args:
        weights: the file.
        found: of each network in it, by the name of the convolution.
        metadata: what JSON can hold, of how they came about.

    Raises:
        WeightsError: if they cannot be written.
    """
    tensors = {
        f"{network}/{name}/{key}": x.contiguous()
        for network, of_network in found.items()
        for name, one in of_network.items()
        for key, x in one._asdict().items()
    }
    path = directions_path(weights)
    write_tensors(path, tensors, {"weights_sha256": _sha256(weights), "metadata": json.dumps(dict(metadata))})
    return path


def load_directions(weights: Path, network: str) -> dict[str, Directions]:
    """Return the directions for a network; none where none were found for exactly these weights.

    Args:
        weights: the file that holds it.
        network: its name there.

    Raises:
        WeightsError: if they cannot be read.
    """
    path = directions_path(weights)
    if not path.exists():
        return {}
    hint = f"; make it again: dvmvs weights compress {weights}"
    with foreign(f"cannot read {path}", WeightsError, hint), safe_open(regular(path), framework="pt") as file:
        if file.metadata()["weights_sha256"] != _sha256(weights):
            return {}
        names = [key.split("/")[1] for key in file.keys() if key.startswith(f"{network}/") and key.endswith("/onto")]
        return {
            name: Directions(*(file.get_tensor(f"{network}/{name}/{key}") for key in Directions._fields))
            for name in names
        }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
