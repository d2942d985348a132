# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The regulariser before training, its weights on disk, and as OpenVINO runs it."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from dvmvs_core.errors import WeightsError
from dvmvs_core.matching import choose_matcher as choose
from dvmvs_core.model import regulariser
from dvmvs_core.model.averaging import average_regularisers
from dvmvs_core.model.part_files import save_part
from dvmvs_core.model.regulariser import (
    ANCHOR,
    LITTLE_PARALLAX_PX,
    NO_ANCHOR,
    Regulariser,
    RegulariserInputs,
    example_inputs,
    load_regulariser,
    prepared,
    regulariser_metadata,
)

HEIGHT, WIDTH = 64, 96


@pytest.fixture(scope="module")
def inputs() -> RegulariserInputs:
    """What matching might find, with an image of 0…255."""
    torch.manual_seed(3)
    noise = RegulariserInputs(*(0.3 * torch.randn_like(part) for part in example_inputs(HEIGHT, WIDTH)))
    return noise._replace(
        image=128 + 100 * noise.image, views=noise.views.abs(), margin=noise.margin.abs(), evidence=noise.evidence + 0.1
    )


@pytest.fixture(scope="module")
def network() -> Regulariser:
    """Weights that make use of everything."""
    torch.manual_seed(4)
    network = Regulariser()
    for layer in (network.cells, network.upsampling[-1]):
        torch.nn.init.normal_(layer.weight, std=0.05)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def test_untrained_it_nearly_returns_matched_depth(inputs):
    torch.manual_seed(0)
    answer = Regulariser().eval()(prepared(inputs))
    fits = functional.interpolate(inputs.fits, scale_factor=2.0, mode="bilinear")
    others = torch.cat((fits, torch.zeros_like(inputs.matched)), dim=1)
    farthest = (others - inputs.matched).abs().amax(dim=1, keepdim=True)
    assert answer.log_depth.shape == (1, 1, HEIGHT, WIDTH)
    assert ((answer.coarse - inputs.matched).abs() <= 0.1 * farthest).all()
    assert (answer.coarse - inputs.matched).abs().mean() < 0.1 * (inputs.network - inputs.matched).abs().mean()
    # Cells are at pixels 2x; a weight of 0.01 for each neighbour keeps all of them alive.
    torch.testing.assert_close(answer.log_depth[..., ::2, ::2], answer.coarse, atol=0.1, rtol=0)
    assert not answer.log_odds.any()


def _as_clear_as(inputs: RegulariserInputs, mean: float) -> RegulariserInputs:
    """The inputs with another mean of the first cue of evidence."""
    evidence = inputs.evidence.clone()
    evidence[:, 0] += mean - evidence[:, 0].mean()
    return inputs._replace(evidence=evidence)


@torch.no_grad()
def test_where_nothing_is_measured_depth_is_between_its_candidates(inputs, network):
    inputs = _as_clear_as(inputs, NO_ANCHOR - 0.01)
    answer = network(prepared(inputs))
    fits = functional.interpolate(inputs.fits, scale_factor=2.0, mode="bilinear")
    candidates = torch.cat((inputs.matched, fits, torch.zeros_like(inputs.matched)), dim=1)
    assert (answer.coarse >= candidates.amin(dim=1, keepdim=True) - 1e-5).all()
    assert (answer.coarse <= candidates.amax(dim=1, keepdim=True) + 1e-5).all()
    assert candidates.amin() <= answer.log_depth.min() and answer.log_depth.max() <= candidates.amax()


@torch.no_grad()
def test_corrections_grow_with_what_images_measured(inputs, network, monkeypatch):
    def corrected(mean: float) -> torch.Tensor:
        clear = prepared(_as_clear_as(inputs, mean))
        with_it = network(clear).coarse
        with monkeypatch.context() as without:
            without.setattr(regulariser, "NO_ANCHOR", 10.0)
            without.setattr(regulariser, "ANCHOR", 11.0)
            return (with_it - network(clear).coarse).abs().mean()

    nothing, half, whole, more = map(corrected, (NO_ANCHOR, (NO_ANCHOR + ANCHOR) / 2, ANCHOR, 2 * ANCHOR))
    assert nothing == 0
    assert 0.3 * whole < half < 0.7 * whole
    torch.testing.assert_close(more, whole, rtol=0.2, atol=0)


@torch.no_grad()
def test_corrections_grow_with_parallax(inputs, network, monkeypatch):
    inputs = _as_clear_as(inputs, ANCHOR)
    pixels = torch.zeros_like(inputs.parallax)
    pixels[..., pixels.shape[-1] // 2 :] = LITTLE_PARALLAX_PX
    given = prepared(inputs._replace(parallax=pixels.log1p()))
    with_it = network(given).coarse
    with monkeypatch.context() as far:
        far.setattr(regulariser, "LITTLE_PARALLAX_PX", 1e-9)
        whole = network(given).coarse
        far.setattr(regulariser, "LITTLE_PARALLAX_PX", 1e9)
        none = network(given).coarse
    left, right = slice(0, WIDTH // 4 - 2), slice(WIDTH // 4 + 2, None)
    made, possible = with_it - none, whole - none
    assert possible[..., right].abs().mean() > 1e-3
    torch.testing.assert_close(made[..., left], torch.zeros_like(made[..., left]))
    torch.testing.assert_close(made[..., right], (1 - math.exp(-1)) * possible[..., right], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_openvino_computes_what_torch_does(inputs, network, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(choose, "load_regulariser", lambda: network)
    answer = choose.shared_regulariser.__wrapped__(HEIGHT, WIDTH, "float32")(inputs)
    expected = network(prepared(inputs))
    for name in expected._fields:
        torch.testing.assert_close(getattr(answer, name), getattr(expected, name), atol=2e-4, rtol=1e-3, msg=name)


@torch.no_grad()
def test_a_correction_that_is_not_needed_is_not_made(inputs):
    torch.manual_seed(5)
    network = Regulariser().eval()
    plain = network(prepared(inputs)).coarse
    torch.nn.init.normal_(network.cells.weight[-4:], std=0.05)  # corrections
    corrected = network(prepared(inputs)).coarse
    network.cells.bias[-8:-4] = -30.0
    assert not torch.allclose(corrected, plain, atol=1e-3)
    torch.testing.assert_close(network(prepared(inputs)).coarse, plain, atol=1e-6, rtol=0)


def test_weights_survive_the_file(tmp_path, network, inputs):
    path = tmp_path / "regulariser.safetensors"
    save_part(path, network, {"step": 7})
    loaded = load_regulariser(path)
    assert regulariser_metadata(path) == {"step": 7}
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(prepared(inputs)).log_depth, network(prepared(inputs)).log_depth, atol=0.01, rtol=0
        )


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    path, network = tmp_path / "regulariser.safetensors", Regulariser()
    save_part(path, network, {})
    before = path.read_bytes()
    with torch.no_grad():
        network.cells.bias[0] = torch.nan
    with pytest.raises(WeightsError, match=r"cells\.bias holds NaN"):
        save_part(path, network, {})
    assert path.read_bytes() == before


def test_missing_damaged_and_other_weights_are_named(tmp_path, network):
    path = tmp_path / "regulariser.safetensors"
    with pytest.raises(WeightsError, match=r"cannot read .*regulariser\.safetensors.*install the package again"):
        load_regulariser(path)
    save_part(path, network, {})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"cannot read .*install the package again"):
        load_regulariser(path)
    save_file({"stem.0.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(
        WeightsError, match=r"train regulariser makes: the tensors do not fit the network\. \d+ missing"
    ):
        load_regulariser(path)


def test_the_mean_of_two_has_the_mean_of_each_weight_and_the_commands_of_both(tmp_path):
    files = [tmp_path / name / "regulariser.safetensors" for name in ("a", "b")]
    for seed, (file, commands) in enumerate(zip(files, (["first", "second"], ["first", "third"]), strict=True)):
        file.parent.mkdir()
        torch.manual_seed(seed)
        save_part(file, Regulariser(), {"commands": commands})
    average_regularisers(files, tmp_path / "mean.safetensors")
    one, other, mean = (load_regulariser(file).state_dict() for file in (*files, tmp_path / "mean.safetensors"))
    for key, value in mean.items():
        torch.testing.assert_close(value, (one[key] + other[key]) / 2, rtol=2e-3, atol=1e-4)
    assert regulariser_metadata(tmp_path / "mean.safetensors") == {
        "commands": ["first", "second", "third"],
        "mean_of": ["a/regulariser.safetensors", "b/regulariser.safetensors"],
    }
    with pytest.raises(WeightsError, match="at least 2 checkpoints; got 1"):
        average_regularisers(files[:1], tmp_path / "mean.safetensors")
