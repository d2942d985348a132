# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""OpenVINO runs whatever `model` holds, and what it compiled is kept and never trusted blindly."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from dvmvs_core.config import EngineConfig, preset
from dvmvs_core.engine import DepthEngine
from dvmvs_core.errors import DeviceError
from dvmvs_core.model.dvmvs import FusionNet
from dvmvs_core.runtime import model_cache
from dvmvs_core.runtime.openvino_export import ExportedFunction, Target, network_key
from dvmvs_core.runtime.openvino_runner import OpenVinoRunner

TARGET = Target("CPU", "float32")


@pytest.fixture(autouse=True)
def compiled_models(tmp_path, monkeypatch):
    """Folder of compiled models that starts empty."""
    folder = tmp_path / "compiled"
    folder.mkdir()
    monkeypatch.setenv(model_cache.FOLDER_VARIABLE, str(folder))
    return folder


def runner_of(network):
    return OpenVinoRunner(network, "CPU", "float32", strict=True)


def exported(name="test", function=lambda x: torch.nn.functional.avg_pool2d(x, 2)):
    return ExportedFunction(function, lambda: (torch.zeros(1, 3, 4, 6),), TARGET, name)


class WiderFusionNet(FusionNet):
    """A network with layers that nothing outside of it knows of."""

    def __init__(self, config):
        super().__init__(config)
        channels = config.pyramid_channels
        self.attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Hardsigmoid())
        self.mix = nn.Sequential(nn.Conv2d(channels, channels, 5, padding=2, groups=channels), nn.GELU())

    def extract(self, image):
        features = super().extract(image)
        half = features.half * self.attention(features.half)
        return features._replace(half=half + self.mix(half))


def test_new_layers_take_a_change_of_the_model_only(make_network, plain_depths, runner_depths):
    torch.manual_seed(0)
    wider = WiderFusionNet(make_network("small").config).eval()
    wider.load_state_dict(make_network("small").state_dict(), strict=False)
    expected, without = plain_depths(wider), plain_depths(make_network("small"))
    assert ((expected[0][0] - without[0][0]).abs() / without[0][0]).mean() > 1e-5
    for (depth, state), (plain_depth, plain_state) in zip(runner_depths(runner_of(wider)), expected, strict=True):
        assert ((depth - plain_depth).abs() / plain_depth).max() < 1e-5
        torch.testing.assert_close(state.cell, plain_state.cell, rtol=1e-3, atol=1e-3)


def test_a_second_start_compiles_nothing(make_network, runner_depths, compiled_models, monkeypatch):
    first = runner_depths(runner_of(make_network("small", refinement_channels=6)))
    assert len(list(compiled_models.iterdir())) == 3

    def refuse(*arguments):
        raise AssertionError("compiled again")

    monkeypatch.setattr(ExportedFunction, "_compile", refuse)
    second = runner_depths(runner_of(make_network("small", refinement_channels=6)))
    torch.testing.assert_close([depth for depth, _ in second], [depth for depth, _ in first], rtol=1e-5, atol=1e-5)
    with pytest.raises(AssertionError, match="compiled again"):
        runner_of(make_network("small", seed=1, refinement_channels=6))


def key_of(network, target=TARGET):
    return network_key(network, target, network.config)


def test_every_change_has_a_name_of_its_own(make_network):
    network = make_network("small")
    key = key_of(network)
    assert key == key_of(make_network("small"))
    others = {key_of(network, Target("CPU", "bfloat16")), key_of(make_network("small", seed=1))}
    others.add(key_of(make_network("small", height=96)))
    next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d)).running_mean[0] += 1
    others.add(key_of(network))
    assert len(others | {key}) == 5


def test_a_damaged_file_is_compiled_again_with_one_line(compiled_models, caplog):
    x = torch.rand(1, 3, 4, 6)
    (expected,) = exported()(x)
    (file,) = compiled_models.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(damaged)
        caplog.clear()
        torch.testing.assert_close(exported()(x)[0], expected)
        assert len(caplog.records) == 1 and "is damaged" in caplog.text
        assert model_cache.load("test"), "a whole one is in its place"
    caplog.clear()
    exported()
    assert not caplog.records


def test_a_foreign_file_is_compiled_again_with_one_line(compiled_models, caplog):
    model_cache.store("test", b"of another program")
    x = torch.rand(1, 3, 4, 6)
    torch.testing.assert_close(exported()(x)[0], torch.nn.functional.avg_pool2d(x, 2))
    assert len(caplog.records) == 1 and "refuses" in caplog.text


def test_a_pipe_in_place_of_a_file_is_not_waited_for(compiled_models, caplog):
    device = compiled_models / "test.compiled"
    device.parent.mkdir(exist_ok=True)
    device.symlink_to("/dev/null")
    assert model_cache.load("test") is None
    assert len(caplog.records) == 1 and "it is a pipe or a device" in caplog.text
    model_cache.store("test", b"whole")
    assert model_cache.load("test") == b"whole"


def test_what_a_killed_start_left_is_cleared_by_the_next(compiled_models):
    killed = (
        "import os; from dvmvs_core.runtime import model_cache; os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "model_cache.store('test', b'whole')"
    )
    assert subprocess.run([sys.executable, "-c", killed]).returncode == -9
    assert len(list(compiled_models.iterdir())) == 1
    model_cache.store("test", b"whole")
    assert [path.name for path in compiled_models.iterdir()] == ["test.compiled"]


def test_without_a_folder_it_compiles_each_time_with_one_line(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv(model_cache.FOLDER_VARIABLE, str(tmp_path / "file"))
    x = torch.rand(1, 3, 4, 6)
    torch.testing.assert_close(exported()(x)[0], torch.nn.functional.avg_pool2d(x, 2))
    assert any("cannot be kept" in record.message for record in caplog.records)


def test_the_files_of_longest_ago_go(compiled_models, monkeypatch):
    monkeypatch.setattr(model_cache, "KEPT_FILES", 2)
    for name in ("a", "b", "c"):
        model_cache.store(name, name.encode())
        path = compiled_models / f"{name}.compiled"
        stamp = {"a": 1, "b": 2, "c": 3}[name]
        os.utime(path, (stamp, stamp))
        if name == "b":
            assert model_cache.load("a") == b"a"  # used just now
    assert model_cache.load("b") is None and model_cache.load("a") == b"a" and model_cache.load("c") == b"c"


def test_two_inputs_that_are_equal_stay_two():
    function = ExportedFunction(lambda a, b: a - b, lambda: (torch.zeros(1, 3),) * 2, TARGET, "two")
    a, b = torch.rand(1, 3), torch.rand(1, 3)
    torch.testing.assert_close(function(a, b)[0], a - b)


def test_unused_inputs_keep_their_place():
    function = ExportedFunction(
        lambda a, b, c: a - c, lambda: tuple(torch.zeros(1, 3) for _ in "abc"), TARGET, "unused"
    )
    a, b, c = torch.rand(3, 1, 3)
    torch.testing.assert_close(function(a, b, c)[0], a - c)


def test_it_follows_the_number_of_threads():
    function, before = exported(), torch.get_num_threads()
    x = torch.rand(1, 3, 4, 6)
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.testing.assert_close(function(x)[0], torch.nn.functional.avg_pool2d(x, 2))
            compiled = function._request().get_compiled_model()
            assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
    finally:
        torch.set_num_threads(before)


def test_what_openvino_cannot_compile_is_an_error_with_a_way_out():
    with pytest.raises(DeviceError, match=r"(?s)cannot compile the network for CPU.*mode reference"):
        exported(function=lambda x: torch.linalg.eigvals(x[0, :, :3, :3]).real)


def test_a_precision_that_the_processor_lacks(make_network, monkeypatch, caplog):
    monkeypatch.setattr(Target, "has_precision", lambda self: self.precision == "float32")
    runner = OpenVinoRunner(make_network("small"), "CPU", "bfloat16", strict=False)
    assert "float32" in runner.description and len(caplog.records) == 1
    with pytest.raises(DeviceError, match="does not compute in bfloat16; choose precision float32"):
        OpenVinoRunner(make_network("small"), "CPU", "bfloat16", strict=True)


@torch.no_grad()
def test_bfloat16(view, make_network, plain_depths, runner_depths):
    if not Target("CPU", "bfloat16").has_precision():
        pytest.skip("this processor does not compute in bfloat16")
    network = make_network("small", refinement_channels=6)
    runner = OpenVinoRunner(network, "CPU", "bfloat16", strict=True)
    exact = network.extract(view.images[0])
    rounded = runner.features(view.images[0])
    torch.testing.assert_close(rounded.matching, exact.matching, rtol=1e-4, atol=1e-5)  # fixed descriptors
    assert 1e-4 < ((rounded.half - exact.half).abs().mean() / exact.half.abs().mean()) < 3e-2
    for (depth, state), (plain_depth, _) in zip(runner_depths(runner), plain_depths(network), strict=True):
        assert depth.dtype == state.cell.dtype == torch.float32
        assert 0 < ((depth - plain_depth).abs() / plain_depth).mean() < 3e-2
        # More values than bfloat16 has there: what follows the last convolution is float32.
        assert len(depth.unique()) > 10 * len(depth.bfloat16().unique())


def test_training_goes_on_with_a_network_that_runs(make_network):
    network = make_network("small")
    trainable = [p.requires_grad for p in network.parameters()]
    runner_of(network)
    assert [p.requires_grad for p in network.parameters()] == trainable and any(trainable)


def test_the_engine_runs_it(make_network):
    engine = DepthEngine(make_network("small"), EngineConfig(device="openvino", mode="fast"))
    engine.warm_up()
    assert engine.device == torch.device("cpu") and "OpenVINO on CPU" in engine.runs_as
    assert engine.model_config == preset("small").replace(**engine.model_config.to_dict())
