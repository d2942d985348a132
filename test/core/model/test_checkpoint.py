# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_networks import tiny_config, tiny_network

from dvmvs_core.errors import DataError, WeightsError
from dvmvs_core.model import checkpoint
from dvmvs_core.model.averaging import average_checkpoints
from dvmvs_core.model.checkpoint import (
    export_released,
    import_released,
    list_shipped,
    load_network,
    read_info,
    save_checkpoint,
)
from dvmvs_core.training.run_folder import RunFolder

FILES = {
    "fusionnet": ["0_feature_extractor", "1_feature_pyramid", "2_encoder", "3_lstm_fusion", "4_decoder"],
    "pairnet": ["0_feature_extractor", "1_feature_pyramid", "2_encoder", "3_decoder"],
}


def write_released(folder, network, nested=False):
    """A folder in the released layout; ``nested`` uses torchvision's newer names of the pyramid."""
    folder.mkdir(exist_ok=True)
    for name in FILES[network.config.network]:
        state = getattr(network, name[2:]).state_dict()
        if nested and name == "1_feature_pyramid":
            state = {k.replace(".weight", ".0.weight").replace(".bias", ".0.bias"): v for k, v in state.items()}
        torch.save(state, folder / name, _use_new_zipfile_serialization=False)
    return folder


def assert_same(module, other, half=False):
    state, expected = module.state_dict(), other.state_dict()
    assert list(state) == list(expected)
    for key, tensor in expected.items():
        rounded = tensor.half().float() if half and tensor.ndim > 1 else tensor
        assert torch.equal(state[key], rounded), key


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, {n: tiny_network(network=n) for n in ("fusionnet", "pairnet")}, {"steps": 3})
    return path


# ---- saving and loading


@pytest.mark.parametrize("half", [True, False])
def test_what_is_saved_is_loaded(tmp_path, half):
    network = tiny_network()
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, {"fusionnet": network}, {}, half=half)
    loaded, config = load_network(path)
    assert config == network.config == loaded.config
    assert not loaded.training
    assert all(t.dtype == torch.float32 for t in loaded.parameters())
    assert_same(loaded, network, half=half)


def test_half_precision_halves_the_file_and_spares_statistics(tmp_path, saved):
    stored = load_file(saved)
    assert stored["fusionnet/lstm_fusion.lstm_cell.conv.weight"].dtype == torch.float16
    assert stored["fusionnet/encoder.aggregator0.1.running_var"].dtype == torch.float32


def test_first_network_is_the_default_and_others_can_be_chosen(saved):
    assert load_network(saved)[1].network == "fusionnet"
    assert load_network(str(saved), "pairnet")[1].network == "pairnet"


def test_info_tells_what_is_inside(saved):
    info = read_info(saved)
    assert list(info.networks) == ["fusionnet", "pairnet"]
    assert info.networks["pairnet"] == tiny_config(network="pairnet")
    assert info.metadata == {"steps": 3}
    assert info.size_bytes == saved.stat().st_size
    assert info.parameters["fusionnet"] == sum(t.numel() for t in tiny_network().state_dict().values())


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path, saved, monkeypatch):
    before = saved.read_bytes()

    def fails_half_way(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError("no space left on device")

    monkeypatch.setattr(type(saved), "write_bytes", fails_half_way)
    with pytest.raises(WeightsError, match="no space left"):
        save_checkpoint(saved, {"fusionnet": tiny_network()}, {})
    assert saved.read_bytes() == before
    assert list(tmp_path.iterdir()) == [saved]


def test_a_checkpoint_is_as_readable_as_any_new_file(saved, tmp_path):
    other = tmp_path / "other"
    other.touch()
    assert saved.stat().st_mode == other.stat().st_mode


def test_diverged_weights_are_not_saved(tmp_path):
    network = tiny_network()
    with torch.no_grad():
        network.decoder.depth_layer_full[0].bias.fill_(float("nan"))
    with pytest.raises(WeightsError, match=r"depth_layer_full\.0\.bias holds NaN"):
        save_checkpoint(tmp_path / "w.safetensors", {"fusionnet": network}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_network_under_the_wrong_name_is_not_saved(tmp_path):
    with pytest.raises(WeightsError, match="got a fusionnet as 'pairnet'"):
        save_checkpoint(tmp_path / "w.safetensors", {"pairnet": tiny_network()}, {})


def test_shipped_checkpoints_load_by_name(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SHIPPED_FOLDER", tmp_path)
    assert list_shipped() == ["tiny"]
    assert load_network("tiny")[1] == tiny_config()


@pytest.mark.parametrize("name", list_shipped())
def test_each_shipped_checkpoint_loads_and_has_a_card(name):
    load_network(name)
    card = (checkpoint.SHIPPED_FOLDER / f"{name}.md").read_text()
    for heading in ("Network", "Data", "Licence", "Command", "Metrics", "Limits"):
        assert f"## {heading}" in card


# ---- files that must be refused


def test_unknown_name_lists_the_shipped_ones(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SHIPPED_FOLDER", tmp_path)
    with pytest.raises(WeightsError, match=r"no weights file big .*shipped are: tiny"):
        load_network("big")


def test_folder_is_refused_with_the_command_that_helps(tmp_path):
    with pytest.raises(WeightsError, match="dvmvs weights import"):
        load_network(tmp_path)


@pytest.mark.parametrize("size", [0, 5, 200, -1])
def test_truncated_file(saved, size):
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(WeightsError, match="truncated or not a safetensors file"):
        load_network(saved)


@pytest.mark.parametrize("legacy", [True, False])
def test_torch_file(tmp_path, legacy):
    path = tmp_path / "w.pth"
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match="pickle .*dvmvs weights import"):
        load_network(path)


def test_a_torch_file_that_inflates_is_refused_before_it_is(tmp_path):
    """torch compresses nothing, but reads what is."""
    values = 100_000_000
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(10)}, buffer)
    path = tmp_path / "bomb"
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in whole.namelist():
            content = whole.read(name)
            if name.endswith("data.pkl"):  # ten values, of the storage and of the tensor, become more
                content = content.replace(b"K\n", b"J" + struct.pack("<i", values))
            bomb.writestr(name, bytes(4 * values) if name.endswith("data/0") else content)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(WeightsError, match="would become"):
        checkpoint.read_released(path)
    folder = RunFolder(tmp_path)
    folder.checkpoint.write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="would become"):
        folder.load()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        pytest.param({"metadata": "[1]"}, "cannot read", id="metadata are no dictionary"),
        pytest.param(None, "must be a checkpoint of format dvmvs-1; its header says None", id="of something else"),
        ({"networks": "not json"}, "cannot read"),
        ({"networks": "{}"}, "at least one network"),
        ({"networks": "[]"}, "cannot read"),
        ({"networks": '{"fusionnet": {"no_such_setting": 1}}'}, "cannot read"),
        ({"networks": '{"fusionnet": 3}'}, "cannot read"),
    ],
)
def test_unreadable_header(saved, header, message):
    whole = {"format": "dvmvs-1", "networks": json.dumps({"fusionnet": tiny_config().to_dict()}), "metadata": "{}"}
    tensors = load_file(saved)
    save_file(tensors, saved, whole)
    assert read_info(saved).metadata == {}
    save_file(tensors, saved, header and {**whole, **header})
    for read in (read_info, load_network):
        with pytest.raises(WeightsError, match=message):
            read(saved)


def test_other_network_than_asked_for(tmp_path):
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, {"pairnet": tiny_network(network="pairnet")}, {})
    with pytest.raises(WeightsError, match="holds pairnet; fusionnet was asked for"):
        load_network(path, "fusionnet")


def test_other_preset_than_asked_for(saved):
    assert load_network(saved, preset="small")
    with pytest.raises(WeightsError, match="of preset small; paper was asked for"):
        load_network(saved, preset="paper")


def broken(saved, change):
    with checkpoint._opened(saved) as file:
        header = file.metadata()
    tensors = load_file(saved)
    change(tensors)
    save_file(tensors, saved, header)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("fusionnet/decoder.refine.0.0.weight"), r"1 missing: decoder\.refine\.0\.0\.weight"),
        (lambda t: t.update({"fusionnet/stray": torch.ones(1)}), r"1 unexpected: stray"),
        (
            lambda t: t.update({"fusionnet/decoder.depth_layer_half.0.bias": torch.ones(2)}),
            r"1 misshapen: decoder\.depth_layer_half\.0\.bias \(must have shape \(1,\); got \(2,\)\)",
        ),
        (
            lambda t: t.update({"fusionnet/decoder.depth_layer_half.0.bias": torch.tensor([float("inf")])}),
            r"1 NaN or infinite: decoder\.depth_layer_half\.0\.bias",
        ),
        (lambda t: [t.pop(k) for k in list(t) if "decoder" in k], r"missing: .* and \d+ more"),
    ],
)
def test_tensors_that_do_not_fit(saved, change, message):
    broken(saved, change)
    with pytest.raises(WeightsError, match=message):
        load_network(saved)


# ---- the released layout


@pytest.mark.parametrize("network", ["fusionnet", "pairnet"])
@pytest.mark.parametrize("nested", [False, True])
def test_released_folder_is_imported_exactly(tmp_path, network, nested):
    original = tiny_network(network=network)
    folder = write_released(tmp_path / "released", original, nested)
    (folder / "0_a_stray_file").write_text("ignored")
    info = import_released(folder, tmp_path / "w.safetensors", tiny_config())
    assert list(info.networks) == [network]
    assert_same(load_network(tmp_path / "w.safetensors")[0], original)


def test_float16_files_are_read_as_float32_and_stay_small(tmp_path):
    folder = write_released(tmp_path / "released", tiny_network().half())
    import_released(folder, tmp_path / "w.safetensors", tiny_config())
    assert load_file(tmp_path / "w.safetensors")["fusionnet/encoder.aggregator0.0.weight"].dtype == torch.float16
    assert load_network(tmp_path / "w.safetensors")[0].encoder.aggregator0[0].weight.dtype == torch.float32


def test_legacy_files_of_a_cuda_machine_are_imported(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
    original = tiny_network()
    folder = write_released(tmp_path / "released", original)
    monkeypatch.undo()
    assert b"cuda:0" in (folder / "2_encoder").read_bytes()
    import_released(folder, tmp_path / "w.safetensors", tiny_config())
    assert_same(load_network(tmp_path / "w.safetensors")[0], original)


@pytest.mark.parametrize("network", ["fusionnet", "pairnet"])
def test_export_is_the_inverse_of_import(tmp_path, saved, network):
    written = export_released(saved, tmp_path / "released", network)
    assert (
        sorted(p.name for p in written) == sorted(p.name for p in (tmp_path / "released").iterdir()) == FILES[network]
    )
    import_released(tmp_path / "released", tmp_path / "again.safetensors", tiny_config())
    assert_same(load_network(tmp_path / "again.safetensors")[0], load_network(saved, network)[0])


def test_export_of_a_fine_sweep_is_refused(tmp_path):
    save_checkpoint(tmp_path / "w.safetensors", {"fusionnet": tiny_network(refinement_channels=4)}, {})
    with pytest.raises(WeightsError, match="has a second plane sweep, for which the released layout has no place"):
        export_released(tmp_path / "w.safetensors", tmp_path / "released")
    assert not (tmp_path / "released").exists()


def test_export_replaces_no_folder(tmp_path, saved):
    (tmp_path / "released").mkdir()
    with pytest.raises(WeightsError, match="exists already"):
        export_released(saved, tmp_path / "released")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["released", "tiny.safetensors"]


@pytest.fixture
def released(tmp_path):
    return write_released(tmp_path / "released", tiny_network())


def refused(released, tmp_path, match):
    out = tmp_path / "out.safetensors"
    with pytest.raises(WeightsError, match=match):
        import_released(released, out, tiny_config())
    assert not out.exists()


def test_import_of_a_missing_and_of_an_empty_folder(tmp_path):
    refused(tmp_path / "folder", tmp_path, "no such folder")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", tmp_path, "lacks 0_feature_extractor")


def rename_a_tensor(released):
    state = torch.load(released / "4_decoder", weights_only=True)
    state["renamed"] = state.pop("depth_layer_full.0.bias")
    torch.save(state, released / "4_decoder")


def truncate(released):
    path = released / "2_encoder"
    path.write_bytes(path.read_bytes()[:1000])


NO_DICTIONARY = "must hold a dictionary of tensors; it holds an? "
UNFIT = {
    "a file is missing": (
        lambda released: (released / "1_feature_pyramid").unlink(),
        r"lacks 1_feature_pyramid: FusionNet needs .*PairNet needs",
    ),
    "both networks": (
        lambda released: write_released(released, tiny_network(network="pairnet")),
        "each network in its own folder",
    ),
    "misshapen tensors": (
        lambda released: write_released(released, tiny_network(hyper_channels=8)),
        r"2_encoder: .*misshapen: aggregator0\.0\.weight \(must have shape",
    ),
    "a renamed tensor": (rename_a_tensor, r"1 missing: depth_layer_full\.0\.bias\. 1 unexpected: renamed"),
    "truncated": (truncate, "2_encoder cannot be read"),
    "a tensor": (lambda released: torch.save(torch.ones(3), released / "2_encoder"), NO_DICTIONARY),
    "numbers": (lambda released: torch.save({"epoch": 3}, released / "2_encoder"), NO_DICTIONARY),
    "nested": (lambda released: torch.save({"state": {"a": torch.ones(1)}}, released / "2_encoder"), NO_DICTIONARY),
}


@pytest.mark.parametrize("fault", UNFIT)
def test_import_of_what_does_not_fit_is_refused(released, tmp_path, fault):
    harm, message = UNFIT[fault]
    harm(released)
    refused(released, tmp_path, message)


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("container", ["legacy", "zip", "plain pickle"])
def test_import_runs_no_code(released, tmp_path, container):
    marker = tmp_path / "was-executed"
    path = released / "2_encoder"
    if container == "plain pickle":
        path.write_bytes(pickle.dumps(Malicious(marker), protocol=2))
    else:
        torch.save({"a": Malicious(marker)}, path, _use_new_zipfile_serialization=container == "zip")
    refused(released, tmp_path, "refused because it could run code")
    assert not marker.exists()


@pytest.fixture
def make_checkpoint(tmp_path):
    """Function of a name, a seed and a network's settings: the file of a network with random weights."""

    def save(name, seed, **settings):
        network = tiny_network(seed=seed, **{"network": "pairnet", **settings})
        path = tmp_path / f"{name}.safetensors"
        save_checkpoint(path, {network.config.network: network}, {"seed": seed}, half=False)
        return path

    return save


def test_every_weight_is_the_mean(make_checkpoint, tmp_path) -> None:
    files = [make_checkpoint(str(seed), seed) for seed in range(3)]
    info = average_checkpoints(files, tmp_path / "mean.safetensors")
    assert info.metadata == {"mean_of": ["0.safetensors", "1.safetensors", "2.safetensors"]}
    mean = load_network(tmp_path / "mean.safetensors")[0].state_dict()
    states = [load_network(file)[0].state_dict() for file in files]
    moved = 0
    for key, value in mean.items():
        expected = sum(state[key] for state in states) / 3
        # Kernels are stored as float16.
        torch.testing.assert_close(value, expected.to(value.dtype), rtol=1e-3, atol=1e-4)
        moved += not torch.equal(value, states[0][key])
    assert moved > 50


def test_all_networks_of_the_files_are_averaged(tmp_path) -> None:
    files = []
    for seed in (0, 1):
        networks = {name: tiny_network(seed=seed, network=name) for name in ("fusionnet", "pairnet")}
        files.append(tmp_path / f"{seed}.safetensors")
        save_checkpoint(files[-1], networks, {})
    average_checkpoints(files, tmp_path / "mean.safetensors")
    assert set(read_info(tmp_path / "mean.safetensors").networks) == {"fusionnet", "pairnet"}
    for name in ("fusionnet", "pairnet"):
        first, second, mean = (
            load_network(file, name)[0].encoder.aggregator0[0].weight
            for file in (*files, tmp_path / "mean.safetensors")
        )
        torch.testing.assert_close(mean, (first + second) / 2, rtol=1e-3, atol=1e-4)


def test_one_alone_has_no_mean(make_checkpoint, tmp_path) -> None:
    with pytest.raises(WeightsError, match="at least 2 checkpoints; got 1"):
        average_checkpoints([make_checkpoint("a", 0)], tmp_path / "mean.safetensors")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "fusionnet"}, "holds pairnet, .* holds fusionnet"),
        ({"depth_hypotheses": 4}, "has depth_hypotheses 8, that of .* 4"),
        ({"hyper_channels": 2}, "has hyper_channels 4, that of .* 2"),
    ],
)
def test_other_shapes_have_no_mean(make_checkpoint, tmp_path, settings, message) -> None:
    files = [make_checkpoint("a", 0), make_checkpoint("b", 1, **settings)]
    with pytest.raises(WeightsError, match=message):
        average_checkpoints(files, tmp_path / "mean.safetensors")
    assert not (tmp_path / "mean.safetensors").exists()
