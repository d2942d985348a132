# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Convolutions of low rank."""

import copy

import pytest
import torch
from tiny_networks import tiny_network
from torch import nn

from dvmvs_core.errors import WeightsError
from dvmvs_core.model.checkpoint import load_network, save_checkpoint
from dvmvs_core.model.dvmvs import ending_at_quarter
from dvmvs_core.model.lite0 import SamePadConvolution
from dvmvs_core.model.low_rank import (
    Directions,
    Moments,
    directions,
    directions_path,
    load_directions,
    save_directions,
    split,
)

CHANNELS, OUTPUTS = 48, 32
AGGREGATOR = "encoder.aggregator0.0"


def seen(rank, noise=0.0):
    """Maps (1, CHANNELS, 20, 24) that move in some directions, around a mean that is not 0."""
    random = torch.Generator().manual_seed(rank)
    moving = torch.einsum(
        "cr,rhw->chw",
        torch.randn(CHANNELS, rank, generator=random),
        torch.randn(rank, 20, 24, generator=random),
    )
    maps = 3 + moving + noise * torch.randn(CHANNELS, 20, 24, generator=random)
    return maps[None]


def moments_of(maps):
    pixels = maps[0].flatten(1).double()
    return Moments(pixels @ pixels.T / pixels.shape[1], pixels.mean(dim=1))


@pytest.fixture
def convolution():
    torch.manual_seed(0)
    return nn.Conv2d(CHANNELS, OUTPUTS, 3, stride=2, padding=1)


def split_alone(convolution, found):
    network = nn.Sequential(copy.deepcopy(convolution))
    split(network, {"0": found})
    return network


def test_what_moves_in_few_directions_needs_no_more(convolution):
    maps = seen(rank=5)
    found = directions(convolution, moments_of(maps), error=1e-6)
    assert found.onto.shape == (8, CHANNELS) and found.back.shape == (CHANNELS, 8)
    onto, rest = two = split_alone(convolution, found)
    assert onto.weight.shape == (8, CHANNELS, 1, 1) and rest.weight.shape == (OUTPUTS, 8, 3, 3)
    torch.testing.assert_close(two(maps), convolution(maps), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("error", [0.1, 0.01])
def test_the_output_is_off_by_no_more_than_was_asked_for(convolution, error):
    maps = seen(rank=14, noise=0.05)
    found = directions(convolution, moments_of(maps), error)
    whole, two = (network(maps)[..., 1:-1, 1:-1] for network in (convolution, split_alone(convolution, found)))
    left_out = (whole - two).square().mean() / whole.var(dim=(0, 2, 3)).mean()
    assert 1e-5 < left_out < 1.5 * error


def test_what_moves_in_every_direction_stays_whole(convolution):
    assert directions(convolution, moments_of(seen(rank=CHANNELS, noise=1.0)), error=1e-3) is None


def test_only_what_reaches_the_output_counts(convolution):
    with torch.no_grad():
        convolution.weight[:, 6:] = 0
    assert directions(convolution, moments_of(seen(rank=CHANNELS)), error=1e-6).onto.shape == (8, CHANNELS)


def test_a_convolution_keeps_its_own_way_to_pad_and_its_place():
    torch.manual_seed(0)
    block = nn.Module()
    block.down = SamePadConvolution(CHANNELS, OUTPUTS, 3, stride=2)
    block.tail = nn.Sequential(nn.Conv2d(OUTPUTS, OUTPUTS, 3), nn.ReLU(), nn.Conv2d(OUTPUTS, 4, 3))
    maps = seen(rank=3)[..., :19, :]
    between = block.down(maps)
    expected = between, block.tail(between)
    found = {
        "down": directions(block.down, moments_of(maps), 1e-7),
        "tail.0": directions(block.tail[0], moments_of(between.detach()), 1e-7),
        "tail.2": Directions(torch.eye(OUTPUTS), torch.eye(OUTPUTS)),
        "gone": Directions(torch.eye(3), torch.eye(3)),
    }
    found = {name: one for name, one in found.items() if one is not None}
    split(block, found)
    assert isinstance(block.down[1], SamePadConvolution)
    assert isinstance(block.tail[-1], nn.Conv2d) and block.tail[-1].in_channels == OUTPUTS
    between = block.down(maps)
    torch.testing.assert_close((between, block.tail(between)), expected, rtol=1e-3, atol=1e-2)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, {"fusionnet": tiny_network()}, {})
    return path


def first_eight(channels):
    return Directions(torch.eye(channels)[:8], torch.eye(channels)[:, :8])


def test_a_network_that_ends_early_uses_the_directions_next_to_its_weights(checkpoint):
    assert load_network(checkpoint)[0].low_rank == {}
    whole = load_network(checkpoint)[0].encoder.aggregator0[0].weight
    written = save_directions(
        checkpoint, {"fusionnet": {AGGREGATOR: first_eight(whole.shape[1])}}, {"command": "a test"}
    )
    assert written == directions_path(checkpoint) == checkpoint.with_name("mine.low_rank.safetensors")
    network, _ = load_network(checkpoint)
    assert network.encoder.aggregator0[0].weight.shape == whole.shape, "alone, the network stays as it is"
    early = ending_at_quarter(network)
    assert [tuple(m.weight.shape[:2]) for m in early.encoder.aggregator0[:2]] == [(8, whole.shape[1]), (len(whole), 8)]
    torch.testing.assert_close(early.encoder.aggregator0[1].weight, whole[:, :8])
    assert network.encoder.aggregator0[0].weight.shape == whole.shape


def test_directions_are_for_the_network_that_they_were_found_for(tmp_path):
    networks = {name: tiny_network(network=name) for name in ("fusionnet", "pairnet")}
    path = tmp_path / "both.safetensors"
    save_checkpoint(path, networks, {})
    save_directions(path, {"pairnet": {AGGREGATOR: first_eight(12)}}, {})
    assert load_network(path, "fusionnet")[0].low_rank == {}
    assert load_network(path, "pairnet")[0].low_rank.keys() == {AGGREGATOR}


def test_directions_are_for_the_weights_that_they_were_found_for(checkpoint):
    save_directions(checkpoint, {"fusionnet": {AGGREGATOR: first_eight(12)}}, {})
    save_checkpoint(checkpoint, {"fusionnet": tiny_network(seed=1)}, {})
    assert load_directions(checkpoint, "fusionnet") == {}


def test_damaged_directions_are_an_error_that_says_what_to_do(checkpoint):
    path = save_directions(checkpoint, {"fusionnet": {AGGREGATOR: first_eight(12)}}, {})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WeightsError, match="dvmvs weights compress"):
        load_network(checkpoint)
