# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Launch files, config/depth.yaml, camera files and documentation agree with each other and with the node's parameters.

Where `launch` is not installed, the tables of the launch files are read without running them.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from dvmvs_core.errors import ConfigError
from dvmvs_ros import evaluation_node, replay_node
from dvmvs_ros.depth.config import build_config, build_live
from dvmvs_ros.depth.settings import SETTINGS

ROOT = Path(__file__).parents[2]
PARAMETER_TYPES = {setting.name: type(setting.default) for setting in SETTINGS}
CAMERA_FILES = sorted((ROOT / "config" / "cameras").glob("*.yaml"))
PAGES = sorted((ROOT / "docs").rglob("*.md")) + [ROOT / "README.md"]


def tables(name: str) -> dict[str, object]:
    """The capitalised constants of a launch file that are made of literals, types and one another."""
    found: dict[str, object] = {"str": str, "int": int, "float": float, "bool": bool}
    for statement in ast.parse((ROOT / "launch" / name).read_text()).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, (ast.Tuple, ast.Dict)):
            code = compile(ast.Expression(statement.value), name, "eval")
            found[statement.targets[0].id] = eval(code, {"__builtins__": {}}, found)
    return found


DEPTH, REPLAY = tables("depth.launch.py"), tables("replay.launch.py")


def arguments(name: str) -> set[str]:
    """The arguments that a launch file declares."""
    text = (ROOT / "launch" / name).read_text()
    names = set(re.findall(r'(?:argument|DeclareLaunchArgument)\(\s*"(\w+)"', text))
    rows = ("INPUTS", "OUTPUTS", "OVERRIDES", "RECORDINGS", "ARGUMENTS", "EVALUATION")
    for table in (tables(name).get(row, ()) for row in rows):
        names |= {row[0] for row in table}
    return names


def camera_parameters(path: Path) -> dict[str, object]:
    return YAML(typ="safe").load(path)["/**"]["ros__parameters"]


def test_depth_launch_sets_parameters_that_exist():
    assert len(DEPTH["OVERRIDES"]) > 10
    assert {name: kind for name, kind, _ in DEPTH["OVERRIDES"]}.items() <= PARAMETER_TYPES.items()


@pytest.mark.parametrize(
    ("table", "node", "others"),
    [
        ("ARGUMENTS", replay_node, {"sequence"}),
        ("EVALUATION", evaluation_node, {"depth_topic", "points_topic", "status_topic"}),
    ],
)
def test_replay_launch_sets_parameters_that_exist(table, node, others):
    types = {name: type(default) for name, default, *_ in node.PARAMETERS}
    assert {name: kind for name, _, kind, _ in REPLAY[table]}.items() <= types.items()
    assert others <= set(types)
    text = (ROOT / "launch" / "replay.launch.py").read_text()
    assert all(f'"{name}"' in text for name in others)


def test_no_argument_is_declared_twice():
    # Both files' arguments end up in one scope; only where images go has another default when they are played.
    depth, replay = arguments("depth.launch.py"), arguments("replay.launch.py")
    assert depth & replay == {"image"}
    rows = [row[0] for table in ("INPUTS", "OUTPUTS", "OVERRIDES") for row in DEPTH[table]]
    assert len(rows) == len(set(rows))


def test_every_camera_has_topics_parameters_and_a_page():
    names = {path.stem for path in CAMERA_FILES}
    assert names == set(DEPTH["CAMERAS"]) and names
    for name, topics in DEPTH["CAMERAS"].items():
        assert set(topics) == set(DEPTH["IN_CAMERAS"])
        page = (ROOT / "docs" / "cameras" / f"{name}.md").read_text()
        for topic in topics.values():
            assert f"`{topic}`" in page or f"<topic>{topic[1:]}</topic>" in page or topic[1:] in page
        assert f"camera:={name}" in page


@pytest.mark.parametrize("path", CAMERA_FILES, ids=lambda path: path.stem)
def test_a_camera_file_holds_parameters_of_the_node(path):
    parameters = camera_parameters(path)
    assert {name: type(value) for name, value in parameters.items()}.items() <= PARAMETER_TYPES.items()


def test_every_launch_command_of_the_documentation_can_be_given():
    commands = 0
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for name, rest in re.findall(r"ros2 launch dvmvs_ros (\w+\.launch\.py)([^`\n#]*)", text):
            commands += 1
            known = arguments(name) | (arguments("depth.launch.py") if name == "replay.launch.py" else set())
            unknown = set(re.findall(r"(\w+):=", rest)) - known
            assert not unknown, f"{page.name}: {name} has no argument {sorted(unknown)}"
    assert commands > 5


def test_what_pages_set_by_an_argument_is_no_topic():
    topics = {row[0] for row in (*DEPTH["INPUTS"], *DEPTH["OUTPUTS"])}
    given = [pair for page in PAGES for pair in re.findall(r"\b(\w+):=([^\s`]+)", page.read_text())]
    assert ("depth_for", "every_image") in given
    assert [pair for pair in given if pair[0] in topics and not pair[1].startswith("/")] == []


def _load(name: str):
    pytest.importorskip("launch_ros", reason="launch files need the launch of a ROS distribution")
    spec = importlib.util.spec_from_file_location(name.replace(".", "_"), ROOT / "launch" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["depth.launch.py", "replay.launch.py"])
def test_a_launch_file_declares_what_its_text_says(name):
    declared = {argument.name for argument in _load(name).generate_launch_description().get_launch_arguments()}
    own = arguments(name)
    assert own <= declared
    assert declared - own <= (arguments("depth.launch.py") if name == "replay.launch.py" else set())


def test_depth_yaml_holds_every_parameter_with_its_default():
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
