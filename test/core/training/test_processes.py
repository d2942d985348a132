# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Two real processes, started by torchrun, train as one process with the doubled batch does."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dvmvs_core.errors import DeviceError
from dvmvs_core.training.processes import SharedBatchNorm2d, share_batch_norm, training_processes
from dvmvs_core.training.run_folder import CHECKPOINT_NAME, LOG_NAME

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def inputs(tiny, wall_clips):
    """Four clips, one with half of its depth missing and one with none: the halves have unequal shares of pixels."""
    batch = wall_clips(0, batch=4)
    batch.depth[0, :, :32] = 0.0
    batch.depth[1] = 0.0
    return {"batch": tuple(batch), "model": dataclasses.asdict(tiny.replace(network="fusionnet"))}


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_the_doubled_batch(script, inputs, tmp_path) -> None:
    torch.save(inputs, tmp_path / "inputs.pt")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(SCRIPT)]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-3000:]

    alone = script.trainer_of(inputs, None, tmp_path / "alone")
    loss = alone.train_step(next(alone.clips(0)))
    first = [torch.load(tmp_path / f"first{rank}.pt", weights_only=True) for rank in range(2)]
    assert first[0]["loss"] == pytest.approx(loss, rel=1e-5)
    expected = script.gradients(alone)
    assert list(first[0]["gradients"]) == list(expected)
    for name, gradient in expected.items():
        atol = 1e-3 * float(gradient.abs().max()) + 1e-6
        torch.testing.assert_close(first[0]["gradients"][name], gradient, rtol=0.0, atol=atol, msg=name)
    for name, value in script.batch_norm_gradients(script.images_of(inputs), None).items():
        torch.testing.assert_close(first[0]["batch_norm"][name], value, rtol=1e-4, atol=1e-6, msg=name)

    # Only the first wrote, though it was the second that was interrupted, and both are one network at every stage.
    assert {CHECKPOINT_NAME, LOG_NAME, "fusionnet.safetensors"} <= {p.name for p in (tmp_path / "run0").iterdir()}
    assert not any((tmp_path / "run1").iterdir())
    states = [torch.load(tmp_path / f"last{rank}.pt", weights_only=True) for rank in range(2)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_shared_batch_norm_keeps_weights_and_names(tiny) -> None:
    from dvmvs_core.model.dvmvs import build_network

    network = build_network(tiny)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    share_batch_norm(network)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    layers = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert layers
    assert all(type(layer) is SharedBatchNorm2d for layer in layers)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("world_size", ["1", "2"])
def test_no_gpu_where_one_is_asked_for(monkeypatch, world_size) -> None:
    monkeypatch.setenv("WORLD_SIZE", world_size)
    with pytest.raises(DeviceError, match="has 0 CUDA devices"), training_processes("cuda"):
        pass
