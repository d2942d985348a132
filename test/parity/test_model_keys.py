"""Names, shapes, types and order of all tensors are those of the released checkpoints."""

from __future__ import annotations

import json

import pytest
import torch

from dvmvs_core.config import preset
from dvmvs_core.model.dvmvs import build_network


@pytest.mark.parametrize("network", ["fusionnet", "pairnet"])
def test_state_dictionaries(reference, network):
    files = json.loads((reference / "state_dict_keys.json").read_text())[network]
    with torch.device("meta"):
        built = build_network(preset("paper", network=network))
    assert sorted(name for name, _ in built.named_children()) == sorted(name[2:] for name in files)
    for name, expected in files.items():
        state = getattr(built, name[2:]).state_dict()
        found = {k: {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch.")} for k, t in state.items()}
        assert found == expected
        assert list(found) == list(expected)
