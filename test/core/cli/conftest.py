"""The command line inside the test's own process."""

from __future__ import annotations

import pytest

from dvmvs_core.cli.main import main

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


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A checkpoint of both networks, tiny and untrained."""
    import torch

    from dvmvs_core.config import preset
    from dvmvs_core.model.checkpoint import save_checkpoint
    from dvmvs_core.model.dvmvs import build_network

    torch.manual_seed(0)
    networks = {name: build_network(preset("small", network=name, **TINY)) for name in ("fusionnet", "pairnet")}
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(path, networks, {"made_by": "a test"})
    return path
