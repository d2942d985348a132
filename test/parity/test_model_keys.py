# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

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
