# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The command line inside the test's own process."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from dvmvs_core.cli.main import main
from dvmvs_core.config import preset
from dvmvs_core.model.checkpoint import save_checkpoint
from dvmvs_core.model.dvmvs import build_network

TINY = {
    "height": 64,
    "width": 96,
    "depth_hypotheses": 8,
    "extractor_stem": 4,
    "extractor_channels": (4, 4, 4, 8, 8),
    "pyramid_channels": 4,
    "hyper_channels": 4,
}


@pytest.fixture
def dvmvs(capsys):
    """A function that runs `dvmvs ARGUMENTS` and returns (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = leaving.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def ran(dvmvs):
    """A function that runs `dvmvs ARGUMENTS`, which must end well, and returns what it printed."""

    def run(*arguments: object) -> str:
        code, out, err = dvmvs(*arguments)
        assert code == 0, err
        return out

    return run


@pytest.fixture
def refused(dvmvs):
    """A function that runs `dvmvs COMMAND ARGUMENTS`, which must fail, and returns the lines of stderr.

    The last one says why; before it are those of what was done until then.
    """

    def run(command: str, *arguments: object) -> list[str]:
        code, _, err = dvmvs(command, *arguments)
        lines = err.splitlines()
        assert code == 1 and "Traceback" not in err and lines[-1].startswith(f"dvmvs {command}: "), err
        return lines

    return run


@pytest.fixture
def predicted(ran, weights, tmp_path):
    """A function that runs `dvmvs predict SEQUENCE ARGUMENTS` into a folder, and returns the arrays in it."""

    def run(sequence, *arguments: object, folder: str = "o") -> dict[str, np.ndarray]:
        ran("predict", sequence, "--out", tmp_path / folder, "--weights", weights, *arguments)
        with np.load(tmp_path / folder / "predictions.npz") as arrays:
            return dict(arrays)

    return run


@pytest.fixture
def evaluated(ran, weights, tmp_path):
    """A function that runs `dvmvs evaluate ARGUMENTS`, and returns its figures and what it printed."""

    def run(*arguments: object) -> tuple[dict, str]:
        out = ran("evaluate", *arguments, "--weights", weights, "--json", tmp_path / "figures.json")
        return json.loads((tmp_path / "figures.json").read_text()), out

    return run


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A checkpoint of both networks, tiny and untrained."""
    torch.manual_seed(0)
    networks = {name: build_network(preset("small", network=name, **TINY)) for name in ("fusionnet", "pairnet")}
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(path, networks, {"made_by": "a test"})
    return path
