# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`base` as a whole: what it gives without training, its memory, and its files."""

from __future__ import annotations

import math

import pytest
import torch

from dvmvs_core.config import BaseConfig, ModelConfig, network_config, preset
from dvmvs_core.errors import ConfigError, WeightsError
from dvmvs_core.model.base import ENCODER_PREFIX, BaseNet
from dvmvs_core.model.checkpoint import load_network, read_info, save_checkpoint
from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.depth_hint import DepthHint, no_hint
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.model.score_volume import ScoreVolume

HEIGHT, WIDTH = 64, 96
CELLS = (HEIGHT // 4, WIDTH // 4)
CONFIG = preset("base", height=HEIGHT, width=WIDTH, widths=(16, 16, 16, 16), upsampling_width=8)
K = torch.tensor([[[80.0, 0.0, 47.0], [0.0, 80.0, 31.0], [0.0, 0.0, 1.0]]])


@pytest.fixture
def network() -> BaseNet:
    torch.manual_seed(0)
    return build_network(CONFIG).eval()


def scores_of(network: BaseNet, depth_m: float, height: float = 1.0) -> ScoreVolume:
    """Scores that peak at one depth in every cell."""
    off = (network.planes - math.log(depth_m)) / network.plane_step
    peak = (height * torch.exp(-0.5 * off.square())).view(1, -1, 1, 1).expand(1, -1, *CELLS)
    ones = torch.ones(1, 1, *CELLS)
    return ScoreVolume(peak, peak, ones, 3 * ones)


def hint_of(depth_m: float) -> DepthHint:
    ones = torch.ones(1, 1, *CELLS)
    return DepthHint(math.log(depth_m) * ones, 0 * ones, 4 * ones)


def predict(network: BaseNet, scores: ScoreVolume, hint: DepthHint | None = None, state: LSTMState | None = None):
    torch.manual_seed(1)
    image = torch.randn(1, 3, HEIGHT, WIDTH)
    return network(image, network.extract(image), scores, hint or no_hint(scores.patch), K, state)


@torch.no_grad()
@pytest.mark.parametrize("depth_m", [0.4, 2.0, 11.0])
def test_untrained_depth_is_that_of_the_scores(network, depth_m) -> None:
    prediction, state = predict(network, scores_of(network, depth_m))
    assert prediction.depth.shape == (1, HEIGHT, WIDTH)
    assert prediction.logits.shape == (1, 64, *CELLS)
    assert prediction.coarse_log_depth.shape == prediction.log_error.shape == (1, *CELLS)
    assert state.hidden.shape == (1, 16, 2, 3)
    torch.testing.assert_close(prediction.depth, torch.full((1, HEIGHT, WIDTH), depth_m), rtol=0.02, atol=0)


@torch.no_grad()
def test_without_scores_the_hint_decides_and_good_scores_overrule_it(network) -> None:
    nothing = scores_of(network, 2.0, height=0.0)
    by_hint, _ = predict(network, nothing, hint_of(3.0))
    torch.testing.assert_close(by_hint.depth, torch.full((1, HEIGHT, WIDTH), 3.0), rtol=0.02, atol=0)
    by_scores, _ = predict(network, scores_of(network, 1.0), hint_of(3.0))
    torch.testing.assert_close(by_scores.depth, torch.full((1, HEIGHT, WIDTH), 1.0), rtol=0.02, atol=0)


@torch.no_grad()
def test_an_uncertain_hint_weighs_less(network) -> None:
    certain, ones = hint_of(3.0), torch.ones(1, 1, *CELLS)
    bumps = [
        network._hint_bump(hint).amax()
        for hint in (certain, certain._replace(count=ones), no_hint(scores_of(network, 1.0).patch))
    ]
    assert bumps[0] > bumps[1] > bumps[2] == 0


@torch.no_grad()
def test_depth_stays_in_its_range(network) -> None:
    torch.nn.init.constant_(network.cell_values.bias, 50.0)
    prediction, _ = predict(network, scores_of(network, 20.0))
    assert prediction.depth.amax() <= 20.0 * (1 + 1e-5)


@torch.no_grad()
def test_the_memory_is_carried_to_the_new_view(network) -> None:
    """A camera that turns in place sees the hidden state move; one that stands still sees it as it was; where nothing
    is known of depth the state is 0."""
    hidden = torch.randn(1, 16, 2, 3)
    state = LSTMState(hidden, torch.randn(1, 16, 2, 3))
    still = network.carry(state, torch.eye(4)[None], hint_of(2.0), K)
    torch.testing.assert_close(still.hidden, hidden)
    assert still.cell is state.cell
    # One cell is 32 pixels: at 2 m that is 0.8 m.
    sideways = torch.eye(4)[None].clone()
    sideways[0, 0, 3] = 0.8
    moved = network.carry(state, sideways, hint_of(2.0), K)
    torch.testing.assert_close(moved.hidden[..., :2], hidden[..., 1:], atol=1e-4, rtol=1e-4)
    unknown = network.carry(state, torch.eye(4)[None], no_hint(scores_of(network, 1.0).patch), K)
    assert not unknown.hidden.any()


def test_gradients_reach_all_but_the_encoder(network) -> None:
    torch.nn.init.normal_(network.plane_logits.weight, std=0.1)
    torch.nn.init.normal_(network.cell_values.weight, std=0.1)
    torch.nn.init.normal_(network.aggregation.affinity.weight, std=0.1)
    # The zero state leaves half of the first step's gates without a gradient.
    _, state = predict(network, scores_of(network, 2.0), hint_of(2.2))
    prediction, _ = predict(network, scores_of(network, 2.0), hint_of(2.2), state)
    (
        prediction.depth.log().square().mean() + prediction.logits.square().mean() + prediction.log_error.mean()
    ).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without and all(name.startswith(ENCODER_PREFIX) for name in without)


@torch.no_grad()
def test_a_file_holds_no_encoder_and_gives_the_same_network(network, tmp_path) -> None:
    for parameter in network.plane_logits.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    path = tmp_path / "base.safetensors"
    save_checkpoint(path, {"basenet": network}, {"steps": 3}, half=False)
    info = read_info(path)
    assert info.networks == {"basenet": CONFIG} and info.metadata == {"steps": 3}
    encoder = sum(p.numel() for p in network.encoder.parameters())
    assert info.parameters["basenet"] == sum(t.numel() for t in network.state_dict().values()) - encoder
    loaded, config = load_network(path)
    assert config == CONFIG
    scores = scores_of(network, 2.0)
    torch.testing.assert_close(predict(loaded, scores)[0].depth, predict(network, scores)[0].depth)


def test_a_file_of_another_shape_is_refused(network, tmp_path) -> None:
    path = tmp_path / "base.safetensors"
    save_checkpoint(path, {"basenet": network}, {})
    with pytest.raises(WeightsError, match="pairnet was asked for"):
        load_network(path, "pairnet")
    with pytest.raises(WeightsError, match="under their own name"):
        save_checkpoint(path, {"fusionnet": network}, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 100}, "multiple of 32"),
        ({"width": 32}, "at least 64"),
        ({"min_depth_m": 30.0}, "depth range"),
        ({"depth_hypotheses": 4}, "at least 8"),
        ({"widths": (16, 16, 16)}, "4 positive multiples of 8"),
        ({"widths": (16, 16, 16, 20)}, "4 positive multiples of 8"),
        ({"upsampling_width": 0}, "upsampling_width"),
        ({"network": "pairnet"}, "network must be 'basenet'"),
        ({"hyper_channels": 8}, "no setting hyper_channels"),
    ],
)
def test_bad_sizes_are_refused(changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        preset("base", **changes)


def test_a_dictionary_of_settings_finds_its_configuration() -> None:
    for config in (preset("base", height=128), preset("small", network="pairnet")):
        again = network_config(config.to_dict())
        assert again == config and isinstance(again, BaseConfig if config.network == "basenet" else ModelConfig)


def test_the_shipped_sizes_stay_within_their_budget() -> None:
    """Convolutions take 3.1 of the 3.7 billion multiplications a keyframe; weights without the encoder 11 MB."""
    network = build_network(preset("base"))
    multiplications = 0

    def count(module, _inputs, output) -> None:
        nonlocal multiplications
        multiplications += output.shape[-2] * output.shape[-1] * module.weight.numel()

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    image, cells = torch.zeros(1, 3, 256, 320), (64, 80)
    ones = torch.ones(1, 1, *cells)
    volume = ScoreVolume(torch.zeros(1, 64, *cells), torch.zeros(1, 64, *cells), ones, ones)
    with torch.no_grad():
        network(image, network.extract(image), volume, no_hint(volume.patch), K, None)
    assert 2.5e9 < multiplications < 3.1e9
    own = sum(p.numel() for name, p in network.named_parameters() if not name.startswith(ENCODER_PREFIX))
    assert 2 * own < 15e6
