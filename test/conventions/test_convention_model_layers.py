# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Conventions inside the layers that released weights depend on, each next to the answer it must not give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from dvmvs_core.model.convlstm import ConvLSTMCell, LSTMState
from dvmvs_core.model.encoder_decoder import CostVolumeDecoder, CostVolumeEncoder, EncodedVolume
from dvmvs_core.model.features import FeatureExtractor, FeaturePyramid, ImageFeatures, InvertedResidual
from dvmvs_core.model.lite0 import SamePadConvolution, load_lite0

X = np.array([[1.0, -2.0], [0.5, 3.0]])
CELL = np.array([[0.2, -0.4], [0.9, 0.1]])
GAINS = {"i": 0.3, "f": -0.7, "o": 1.1, "g": 0.9}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def celu(x):
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)


def layer_norm(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def cell_by_hand(order, activation=celu, normalise_first=True):
    """Hidden and cell state of one channel whose gate number k is GAINS[order[k]] · X before its activation."""
    gate = dict(zip(order, ([GAINS[name] * X for name in "ifog"]), strict=True))
    candidate = activation(layer_norm(gate["g"])) if normalise_first else layer_norm(activation(gate["g"]))
    cell = layer_norm(sigmoid(gate["f"]) * CELL + sigmoid(gate["i"]) * candidate)
    return sigmoid(gate["o"]) * activation(cell), cell


@pytest.fixture
def cell_output():
    cell = ConvLSTMCell(1, 1)
    with torch.no_grad():
        cell.conv.weight.zero_()
        cell.conv.weight[:, 0, 1, 1] = torch.tensor([GAINS[name] for name in "ifog"])
        as_tensor = [torch.tensor(a, dtype=torch.float32).view(1, 1, 2, 2) for a in (X, CELL)]
        hidden, carried = cell(as_tensor[0], LSTMState(torch.zeros(1, 1, 2, 2), as_tensor[1]))
    return hidden.view(2, 2).numpy(), carried.view(2, 2).numpy()


def test_convention_gates_are_input_forget_output_candidate(cell_output):
    np.testing.assert_allclose(cell_output, cell_by_hand("ifog"), atol=1e-5)
    for wrong in ("ifgo", "fiog", "gifo"):
        assert not np.allclose(cell_output, cell_by_hand(wrong), atol=1e-3), wrong


def test_convention_candidate_is_normalised_before_celu_and_celu_is_no_tanh(cell_output):
    assert not np.allclose(cell_output, cell_by_hand("ifog", normalise_first=False), atol=1e-3)
    assert not np.allclose(cell_output, cell_by_hand("ifog", activation=np.tanh), atol=1e-3)


def test_convention_carried_cell_state_is_the_normalised_one(cell_output):
    _, carried = cell_output
    assert carried.mean() == pytest.approx(0, abs=1e-6)
    assert carried.std() == pytest.approx(1, abs=1e-3), "the cell state before layer norm would spread less"


def test_convention_lstm_reads_input_before_hidden():
    cell = ConvLSTMCell(1, 1)
    seen = []
    cell.conv.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    cell(torch.full((1, 1, 2, 2), 7.0), LSTMState(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)))
    assert seen[0][0, :, 0, 0].tolist() == [7.0, 0.0], "hidden first would give [0, 7]"


def features_of(value, channels=2, size=32):
    maps = [torch.full((1, channels, size // s, size // s), value) for s in (2, 4, 8, 16)]
    return ImageFeatures(*maps, matching=maps[0])


def test_convention_encoder_joins_image_features_before_costs():
    encoder = CostVolumeEncoder(pyramid_channels=2, depth_hypotheses=3, hyper_channels=1).eval()
    seen = {}
    for level in range(4):
        layer = getattr(encoder, f"aggregator{level}")
        layer.register_forward_pre_hook(lambda _, arguments, level=level: seen.update({level: arguments[0]}))
    with torch.no_grad():
        encoder(features_of(7.0), torch.full((1, 3, 16, 16), -1.0))
    assert seen[0][0, :, 0, 0].tolist() == [7.0, 7.0, -1.0, -1.0, -1.0], "costs first would start with -1"
    for level in range(1, 4):
        assert (seen[level][:, :2] == 7.0).all()


@pytest.fixture
def decoded():
    """A decoder's output, and what entered three of its layers."""
    torch.manual_seed(0)
    decoder = CostVolumeDecoder(hyper_channels=2, min_depth_m=0.25, max_depth_m=20.0).eval()
    skips = [torch.randn(1, 2 * s, 32 // s, 32 // s) for s in (1, 2, 4, 8)]
    encoded = EncodedVolume(*skips, bottom=torch.randn(1, 32, 2, 2))
    image = torch.randn(1, 3, 64, 64)
    seen = {}
    layers = {
        "block2": decoder.decoder_block2.convolution1,
        "refine": decoder.refine,
        "up": decoder.decoder_block1.up_convolution["conv"],
    }
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, arguments, name=name: seen.update({name: arguments[0]}))
    with torch.no_grad():
        return decoder(image, encoded)[0], seen, encoded, image


def doubled(x):
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def test_convention_inverse_depth_is_affine_in_the_sigmoid_which_is_fed_upward(decoded):
    depth, seen, _, _ = decoded
    inverse_depth = 1 / depth.sixteenth[:, None]
    sigmoid_map = (inverse_depth - 0.05) / 3.95
    fed = seen["block2"][:, -1:]
    torch.testing.assert_close(fed, doubled(sigmoid_map), atol=1e-5, rtol=1e-5)
    for wrong in (inverse_depth, depth.sixteenth[:, None]):
        assert not torch.allclose(fed, doubled(wrong), atol=1e-2)


def test_convention_decoder_joins_upsampled_then_skip_then_prediction(decoded):
    _, seen, encoded, image = decoded
    assert torch.equal(seen["block2"][:, 8:16], encoded.skip_eighth)
    assert seen["block2"].shape[1] == 8 + 8 + 1
    assert torch.equal(seen["refine"][:, 3:], image), "the image comes last, after features and prediction"


def test_convention_upsampling_aligns_corners(decoded):
    _, seen, encoded, _ = decoded
    torch.testing.assert_close(seen["up"][..., -1, -1], encoded.bottom[..., -1, -1])
    plain = functional.interpolate(encoded.bottom, scale_factor=2, mode="bilinear", align_corners=False)
    assert not torch.allclose(seen["up"], plain, atol=1e-2)


def test_convention_pyramid_upsamples_by_nearest_neighbour_before_its_3x3():
    pyramid = FeaturePyramid([1] * 5, 1)
    seen = []
    pyramid.fpn.layer_blocks[3].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    for layer in pyramid.fpn.inner_blocks:
        torch.nn.init.ones_(layer.weight)
    coarsest = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    with torch.no_grad():
        pyramid([torch.zeros(1, 1, s, s) for s in (32, 16, 8, 4)] + [coarsest])
    assert seen[0][0, 0, 0].tolist() == [1.0, 1.0, 2.0, 2.0], "bilinear would give values between"


def test_convention_extractor_stages_end_without_activation():
    torch.manual_seed(0)
    extractor = FeatureExtractor(4, (4, 4, 4, 4, 4)).eval()
    with torch.no_grad():
        maps = extractor(torch.randn(1, 3, 64, 64))
    assert all((m < 0).any() for m in maps), "a ReLU at the end would leave nothing below 0"
    assert [m.shape[-1] for m in maps] == [32, 16, 8, 4, 2]


@pytest.mark.parametrize(("out_channels", "stride", "adds"), [(4, 1, True), (4, 2, False), (5, 1, False)])
def test_convention_input_is_added_only_where_the_shape_is_kept(out_channels, stride, adds):
    block = InvertedResidual(4, out_channels, 3, stride, 3).eval()
    torch.nn.init.zeros_(block.layers[6].weight)
    x = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        out = block(x)
    assert torch.equal(out, x) if adds else not out.any()


def test_convention_batch_norm_momentum_of_the_extractor_is_its_own():
    extractor = FeatureExtractor(4, (4, 4, 4, 4, 4))
    momenta = {m.momentum for m in extractor.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert [round(momentum, 6) for momentum in momenta] == [0.0003], "torch's default would be 0.1"


def test_convention_lite0_maps_are_centred_on_the_last_pixel_of_a_cell() -> None:
    """The output of cell x depends on pixels that lie evenly about 4x + 3, and not about 4x or 4x + 1.5."""
    encoder = load_lite0()
    image = torch.zeros(1, 3, 64, 96, requires_grad=True)
    encoder(image)[1][0, :, 8, 10].sum().backward()
    touched = image.grad[0].abs().sum(dim=(0, 1)).nonzero()[:, 0]
    assert (touched[0] + touched[-1]) / 2 == 4 * 10 + 3


def test_convention_stride_two_convolutions_keep_to_lite0s_pixels() -> None:
    """Cell x of the coarser level is centred on cell 2x + 1: pixel 4 (2x + 1) + 3 = 8x + 7. Padding on both sides as in
    other networks would give cell 2x, pixel 8x + 3."""
    down = SamePadConvolution(1, 1, 3, stride=2)
    with torch.no_grad():
        down.weight.zero_()
        down.weight[0, 0, 1, 1] = 1.0
        down.bias.zero_()
        cells = torch.arange(12.0).view(1, 1, 1, 12).expand(1, 1, 8, 12)
        torch.testing.assert_close(down(cells)[0, 0, 0], 2 * torch.arange(6.0) + 1)
