"""config/depth.yaml and the launch files say what the node has."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from ruamel.yaml import YAML  # noqa: E402

from dvmvs_ros.parameters import SETTINGS, build_config  # noqa: E402
from dvmvs_ros.replay_node import PARAMETERS  # noqa: E402

ROOT = Path(__file__).parents[2]


def test_the_file_holds_every_parameter_with_its_default():
    file = YAML(typ="safe").load(ROOT / "config" / "depth.yaml")
    values = file["/**"]["ros__parameters"]
    assert values == {setting.name: setting.default for setting in SETTINGS}
    assert {name: type(value) for name, value in values.items()} == {s.name: type(s.default) for s in SETTINGS}


def test_the_defaults_can_be_used_and_are_those_of_the_core():
    config = build_config({setting.name: setting.default for setting in SETTINGS})
    assert config.engine == type(config.engine)()


def _load(name: str):
    pytest.importorskip("launch_ros", reason="launch files need the launch of a ROS distribution")
    spec = importlib.util.spec_from_file_location(name.replace(".", "_"), ROOT / "launch" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_depth_launch_sets_parameters_that_exist():
    module = _load("depth.launch.py")
    types = {setting.name: type(setting.default) for setting in SETTINGS}
    assert {name: kind for name, kind, _ in module.OVERRIDES}.items() <= types.items()
    assert module.generate_launch_description().get_launch_arguments()


def test_replay_launch_sets_parameters_that_exist():
    module = _load("replay.launch.py")
    types = {name: type(default) for name, default, _ in PARAMETERS}
    assert {name: kind for name, _, kind, _ in module.ARGUMENTS}.items() <= types.items()
    assert module.generate_launch_description().get_launch_arguments()
