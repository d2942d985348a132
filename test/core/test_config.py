# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Settings: defaults, presets and refusals."""

from __future__ import annotations

import dataclasses
import json

import pytest

from dvmvs_core.config import PRESETS, EngineConfig, KeyframeConfig, MatchingConfig, ModelConfig, preset
from dvmvs_core.errors import ConfigError


def test_paper_is_the_published_configuration():
    paper = preset("paper")
    assert (paper.height, paper.width, paper.depth_hypotheses) == (256, 320, 64)
    assert (paper.min_depth_m, paper.max_depth_m) == (0.25, 20.0)
    assert (paper.pyramid_channels, paper.hyper_channels) == (32, 32)
    assert paper.matching == "learned" and not paper.mask_out_of_view


@pytest.mark.parametrize(
    "config",
    [*map(preset, sorted(PRESETS)), EngineConfig(keyframes=KeyframeConfig(measurement_frames=3))],
    ids=[*sorted(PRESETS), "nested"],
)
def test_config_survives_json(config):
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_setting_is_named():
    with pytest.raises(ConfigError, match="ModelConfig has no setting hieght.*height"):
        ModelConfig.from_dict({"hieght": 256})


def test_unknown_preset_is_named():
    with pytest.raises(ConfigError, match="'huge'.*paper, small"):
        preset("huge")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 330}, "width must be a positive multiple of 32; got 330"),
        ({"height": 0}, "height must be"),
        ({"height": 32}, "at least 2 cells a side.*got 32 and 320"),
        ({"min_depth_m": 30.0}, "min_depth_m < max_depth_m"),
        ({"network": "resnet"}, "network must be one of"),
        ({"matching": "sift"}, "matching must be one of"),
        ({"depth_hypotheses": 1}, "at least 2"),
        ({"extractor_channels": (1, 2)}, "5 entries"),
        ({"hyper_channels": 0}, "hyper_channels must be positive"),
        ({"refinement_channels": -1}, "refinement_channels must be 0"),
        ({"refinement_channels": 8}, "got 8 for a fusionnet with exact_sampling False"),
        ({"refinement_channels": 8, "exact_sampling": True, "network": "pairnet"}, "got 8 for a pairnet"),
    ],
)
def test_impossible_network_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        preset("paper", **changes)


@pytest.mark.parametrize(
    ("settings", "name", "value", "message"),
    [
        (KeyframeConfig, "buffer_size", 1, "must"),
        (KeyframeConfig, "pose_distance", -0.1, "must"),
        (KeyframeConfig, "measurement_frames", 0, "must"),
        (KeyframeConfig, "measurement_frames", 30, "must"),
        (KeyframeConfig, "buffer_size", 2.5, "buffer_size must be .*; got 2.5"),
        (EngineConfig, "device", 5, "device must be .*; got 5"),
        (EngineConfig, "crop", 1, "crop must be .*; got 1"),
        (EngineConfig, "precision", "int8", "precision must be one of .*int8"),
        (EngineConfig, "mode", "quick", "mode must be one of .*quick"),
        (EngineConfig, "matching", "best", "matching must be one of .*best"),
    ],
)
def test_an_impossible_setting_is_refused(settings, name, value, message):
    with pytest.raises(ConfigError, match=message):
        settings(**{name: value})


@pytest.mark.parametrize("settings", (ModelConfig, KeyframeConfig, MatchingConfig, EngineConfig))
@pytest.mark.parametrize("value", (None, {}, b"auto", 1j, (None,)), ids=repr)
def test_a_value_of_another_type_is_refused_and_its_setting_named(settings, value):
    for name in (field.name for field in dataclasses.fields(settings)):
        with pytest.raises(ConfigError, match=rf"^{name} must be .*; got "):
            settings(**{name: value})


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("paper").height = 64
