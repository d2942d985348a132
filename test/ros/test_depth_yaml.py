# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""config/depth.yaml says what the node has."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from dvmvs_core.errors import ConfigError
from dvmvs_ros.depth.config import build_config, build_live
from dvmvs_ros.depth.settings import SETTINGS

ROOT = Path(__file__).parents[2]


def test_the_file_holds_every_parameter_with_its_default():
    file = YAML(typ="safe").load(ROOT / "config" / "depth.yaml")
    values = file["/**"]["ros__parameters"]
    assert values == {setting.name: setting.default for setting in SETTINGS}
    assert {name: type(value) for name, value in values.items()} == {s.name: type(s.default) for s in SETTINGS}


def test_the_reference_has_every_parameter_as_it_is():
    spec = importlib.util.spec_from_file_location("node_reference", ROOT / "scripts" / "node_reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    text = reference.PAGE.read_text()
    assert reference.page(text) == text, "run scripts/node_reference.py"
    assert all(f"| `{setting.name}` |" in text for setting in SETTINGS)


def test_by_default_a_point_is_more_likely_right_than_wrong():
    values = {setting.name: setting.default for setting in SETTINGS}
    assert build_live(values).points_kept.min_confidence == 0.5
    assert build_live({**values, "confidence": False}).points_kept.min_confidence == 0.0, "it has nothing to go by"
    with pytest.raises(ConfigError, match="depth_min_confidence must be 0 while confidence is off"):
        build_live({**values, "confidence": False, "depth_min_confidence": 0.1})


def test_the_defaults_can_be_used_and_are_those_of_the_core():
    config = build_config({setting.name: setting.default for setting in SETTINGS})
    assert config.engine == type(config.engine)()
