# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Directions for convolutions of low rank, found in rendered worlds."""

import numpy as np
import pytest
from tiny_networks import tiny_network

from dvmvs_core.cli.main import main
from dvmvs_core.config import EngineConfig
from dvmvs_core.engine import DepthEngine
from dvmvs_core.errors import ConfigError
from dvmvs_core.model.checkpoint import load_network, save_checkpoint
from dvmvs_core.model.dvmvs import ending_at_quarter
from dvmvs_core.model.low_rank import directions_path
from dvmvs_core.synthetic.clips import SyntheticClips, clip_frame
from dvmvs_core.training.compression import find_directions

WORLDS = 1


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, {"fusionnet": tiny_network()}, {})
    return path


def test_a_network_says_the_same_with_fewer_products(checkpoint, capsys):
    assert main(["weights", "compress", str(checkpoint), "--clips", str(WORLDS), "--error", "1e-2"]) == 0
    printed = capsys.readouterr().out
    assert str(directions_path(checkpoint)) in printed.replace("\n", "")
    network, config = load_network(checkpoint)
    whole, _ = load_network(checkpoint)
    whole.low_rank = {}
    assert all(name in printed and one.onto.shape[0] < one.onto.shape[1] for name, one in network.low_rank.items())
    early, early_whole = ending_at_quarter(network), ending_at_quarter(whole)
    counts = [sum(p.numel() for p in one.parameters()) for one in (early, early_whole)]
    assert counts[0] < 0.8 * counts[1]
    clip = SyntheticClips(config.height, config.width, 4, seed=3, textures=16).batch(1, 0)
    engines = [DepthEngine(one, EngineConfig(matching="off", mode="reference")) for one in (early, early_whole)]
    for t in range(4):
        predictions = [engine.step(clip_frame(clip, t)) for engine in engines]
        if predictions[0] is None:
            continue
        found, expected = (np.log(prediction.depth) for prediction in predictions)
        assert 1e-5 < np.abs(found - expected).mean() < 0.3 * expected.std()
    assert predictions[0] is not None


def test_nothing_to_find_anything_with_is_an_error(checkpoint):
    network, _ = load_network(checkpoint)
    for clips, error in ((0, 1e-3), (1, 0.0), (1, float("nan"))):
        with pytest.raises(ConfigError, match="compression needs"):
            find_directions(network, clips, error)
