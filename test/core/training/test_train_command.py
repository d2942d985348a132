"""`dvmvs train` from the command line to weights that the engine takes, and on from its checkpoint."""

from __future__ import annotations

import functools
import itertools
import json

import pytest

from dvmvs_core.cli.main import main
from dvmvs_core.data.synthetic.clips import SyntheticClips
from dvmvs_core.engine import DepthEngine
from dvmvs_core.training import setup

SIZE = ("--height", "64", "--width", "64", "--frames", "2", "--batch-size", "1")


@pytest.fixture(autouse=True)
def quick_worlds(monkeypatch) -> None:
    """Renders from few textures without compiling, in this process."""

    def training_clips(size, frames, batch_size, seed):
        clips = setup.SyntheticClips(*size, frames, seed=seed)
        return lambda start: (clips.batch(batch_size, index) for index in itertools.count(start))

    monkeypatch.setattr(setup, "SyntheticClips", functools.partial(SyntheticClips, compile=False, textures=8))
    monkeypatch.setattr(setup, "training_clips", training_clips)
    monkeypatch.setattr(setup, "_HELD_OUT_BATCHES", 1)


def test_train_pairnet_then_fusionnet_from_it_then_resume(tmp_path) -> None:
    pairs, fused = tmp_path / "pairs", tmp_path / "fused"
    assert main(["train", "pairnet", "--out", str(pairs), "--steps", "2", *SIZE]) == 0
    start = ["train", "fusionnet", "--out", str(fused), "--init", str(pairs / "pairnet.safetensors"), *SIZE]
    assert main([*start, "--steps", "1"]) == 0
    assert main([*start, "--steps", "2", "--resume"]) == 0

    entries = [json.loads(line) for line in (fused / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries if "validation" in entry] == [1, 2]
    for network in ("fusionnet", "pairnet"):
        engine = DepthEngine.from_weights(fused / "fusionnet.safetensors", network)
        assert (engine.model_config.height, engine.model_config.network) == (64, network)


def test_a_run_without_an_end_is_refused_in_one_line(tmp_path, capsys) -> None:
    assert main(["train", "pairnet", "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert "either steps or minutes" in error[0]
