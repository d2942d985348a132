# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Launch files, parameter files, viewers, policy and the reference agree with the node's parameters and graph.

Where `launch` is not installed, the tables of the launch files are read without running them. One node, in a process of
its own, is configured with each camera's parameters and each way to get poses in turn.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
import runpy
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from ruamel.yaml import YAML

from dvmvs_core.errors import ConfigError
from dvmvs_ros import evaluation_node, replay_node
from dvmvs_ros.depth.config import build_config, build_live
from dvmvs_ros.depth.settings import SETTINGS

ROOT = Path(__file__).parents[2]
NODE = "depth_node"
CAMERAS = sorted((ROOT / "config" / "cameras").glob("*.yaml"))
SETTLED_S = 0.5
"""What nobody expects would be in the graph by so long after all that is expected."""

INPUT_WAYS = (
    {},
    {"image_transport": "compressed", "pose_source": "odometry"},
    {"image_transport": "raw", "pose_source": "pose"},
    {"image_transport": "raw", "pose_source": "pose_with_covariance"},
)
"""Parameters that make the node use each of its inputs."""

POSES = {
    "tf": {"/tf", "/tf_static"},
    "odometry": {"/odometry"},
    "pose": {"/pose"},
    "pose_with_covariance": {"/pose_with_covariance"},
}
"""Topics of the ways to get poses."""

CAMERA_TOPICS = {"/camera/image_rect": "/image", "/camera/camera_info": "/camera_info"}
"""The viewers' names of the node's inputs: what depth.launch.py connects them to by default."""

RVIZ_DISPLAYS = {
    "rviz_default_plugins/Grid": None,
    "rviz_default_plugins/TF": None,
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/PointCloud2": "sensor_msgs/msg/PointCloud2",
}
"""Display classes in use, as rviz_default_plugins (jazzy) registers them, and the message that each shows."""


EVERY_NODE_HAS = {"/rosout", "/parameter_events", "/clock"}


@dataclass
class Graph:
    """What the node uses, gathered over its configurations: topic or service → type."""

    publishers: dict[str, str] = field(default_factory=dict)
    subscriptions: dict[str, str] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    offered: dict[str, QoSProfile] = field(default_factory=dict)
    requested: dict[str, QoSProfile] = field(default_factory=dict)

    def add_all(self, client, inputs: set[str]) -> None:
        """Add what the graph knows once it knows these inputs, and all that the policy lets the node give."""
        allowed, now = policy(), Graph()

        def complete() -> bool:
            now.add(client.node)
            return (
                inputs <= now.subscriptions.keys()
                and allowed["publish"] <= now.publishers.keys()
                and allowed["reply"] <= now.services.keys()
            )

        with contextlib.suppress(AssertionError):  # it is for the tests to say what is missing
            client.wait(complete)
        client.idle(SETTLED_S)
        self.add(client.node)

    def add(self, node) -> None:
        """Add what the graph knows of the node now."""
        flat = lambda pairs: {name: types[0] for name, types in pairs}  # noqa: E731
        self.publishers |= flat(node.get_publisher_names_and_types_by_node(NODE, "/"))
        self.subscriptions |= flat(node.get_subscriber_names_and_types_by_node(NODE, "/"))
        self.services |= flat(node.get_service_names_and_types_by_node(NODE, "/"))
        for topic in self.publishers:
            for info in node.get_publishers_info_by_topic(topic):
                if info.node_name == NODE:
                    self.offered[topic] = info.qos_profile
        for topic in self.subscriptions:
            for info in node.get_subscriptions_info_by_topic(topic):
                if info.node_name == NODE:
                    self.requested[topic] = info.qos_profile


def policy() -> dict[str, set[str]]:
    """Verb → names that config/sros2/policy.xml allows the node."""
    profile = ElementTree.parse(ROOT / "config" / "sros2" / "policy.xml").find(".//profile")
    assert (profile.get("ns"), profile.get("node")) == ("/", NODE)
    allowed: dict[str, set[str]] = {"publish": set(), "subscribe": set(), "reply": set()}
    for rules in profile:
        for verb, names in allowed.items():
            if rules.get(verb) == "ALLOW":
                names |= {
                    rule.text.replace("~", f"/{NODE}") if rule.text[0] in "~/" else f"/{rule.text}" for rule in rules
                }
    return allowed


@pytest.fixture(scope="module")
def remote(start_node, tiny_weights, make_manager):
    """The manager of an unconfigured node."""
    node = start_node(NODE, {"weights": str(tiny_weights), "device": "cpu", "autostart": False})
    yield make_manager(NODE)
    assert node.stop() == 0, node.log()


def set_all(manager, parameters: dict[str, object]) -> None:
    """Set parameters of the node, none of which may be refused."""
    for name, value in parameters.items():
        result = manager.set(name, value)
        assert result.successful, result.reason


@pytest.fixture(scope="module")
def graph(remote, client) -> Graph:
    """What the node uses, in every way to feed it."""
    found = Graph()
    for way in INPUT_WAYS:
        set_all(remote, way)
        assert remote.change(Transition.TRANSITION_CONFIGURE)
        assert remote.change(Transition.TRANSITION_ACTIVATE)
        image = "/image/compressed" if way.get("image_transport") == "compressed" else "/image"
        found.add_all(client, {image, "/camera_info"} | POSES[way.get("pose_source", "tf")])
        assert remote.change(Transition.TRANSITION_DEACTIVATE)
        assert remote.change(Transition.TRANSITION_CLEANUP)
    set_all(remote, {"image_transport": "raw", "pose_source": "tf"})
    return found


@pytest.mark.parametrize("path", CAMERAS, ids=lambda path: path.stem)
def test_the_node_can_be_configured_for_each_camera(remote, path):
    set_all(remote, parameters_of(path))
    assert remote.change(Transition.TRANSITION_CONFIGURE)
    assert remote.change(Transition.TRANSITION_CLEANUP)


def test_a_parameter_that_the_node_has_not_is_refused(remote):
    assert not remote.set("word_frame", "odom").successful


def test_the_launch_file_connects_topics_that_exist(graph):
    tree = ast.parse((ROOT / "launch" / "depth.launch.py").read_text())
    constants = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    inputs = {f"/{row[1]}" for row in ast.literal_eval(constants["INPUTS"])}
    outputs = {f"/{row[1]}" for row in ast.literal_eval(constants["OUTPUTS"])}
    assert inputs <= set(graph.subscriptions)
    published = {name for name in graph.publishers if name.startswith(("/depth/", "/depth_registered/", "/points"))}
    assert outputs == published - {"/depth/image/compressedDepth"}


def test_the_policy_allows_what_the_node_does_and_nothing_else(graph):
    allowed = policy()
    assert allowed["publish"] == set(graph.publishers)
    # The clock is heard with use_sim_time only, and parameter_events by clients of the node.
    assert allowed["subscribe"] - {"/clock", "/parameter_events"} == set(graph.subscriptions) - {"/parameter_events"}
    assert allowed["reply"] - {f"/{NODE}/get_type_description"} == set(graph.services) - {
        f"/{NODE}/get_type_description"
    }


def described(profile: QoSProfile) -> str:
    """A quality of service as docs/node.md writes it."""
    words = ["best effort" if profile.reliability == ReliabilityPolicy.BEST_EFFORT else "reliable"]
    return ", ".join(words + ["latched"] * (profile.durability == DurabilityPolicy.TRANSIENT_LOCAL))


@pytest.mark.parametrize("heading", ["Topics in", "Topics out"])
def test_the_reference_has_every_topic_with_its_type_and_quality(graph, heading):
    page = (ROOT / "docs" / "node.md").read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    cells = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in page.splitlines() if line[:3] == "| `"]
    written = {topic: (kind, quality) for topic, kind, quality, _ in cells}
    topics, quality = (
        (graph.subscriptions, graph.requested) if heading == "Topics in" else (graph.publishers, graph.offered)
    )
    expected = {t: (kind, described(quality[t])) for t, kind in topics.items() if t not in EVERY_NODE_HAS}
    assert written == expected


def test_rviz_shows_topics_that_the_node_has_with_a_quality_that_fits(graph):
    config = YAML(typ="safe").load(ROOT / "config" / "depth.rviz")
    shown = {}
    for display in config["Visualization Manager"]["Displays"]:
        assert display["Class"] in RVIZ_DISPLAYS
        if "Topic" not in display:
            continue
        topic = display["Topic"]["Value"]
        name = CAMERA_TOPICS.get(topic, topic)
        types = graph.subscriptions if topic in CAMERA_TOPICS else graph.publishers
        assert types[name] == RVIZ_DISPLAYS[display["Class"]]
        wanted = shown[topic] = _rviz_qos(display["Topic"])
        if topic in CAMERA_TOPICS:
            assert wanted.reliability is ReliabilityPolicy.BEST_EFFORT, "cameras may publish best effort"
            continue
        offered = graph.offered[topic]
        # A warning is what policies unknown to discovery give.
        assert qos_check_compatible(offered, wanted)[0] is not QoSCompatibility.ERROR
        assert (wanted.reliability, wanted.durability) == (offered.reliability, offered.durability)
    assert {"/camera/image_rect", "/depth/preview", "/points"} <= set(shown)
    assert config["Visualization Manager"]["Global Options"]["Fixed Frame"] == "odom"


def test_rviz_windows_belong_to_displays():
    config = YAML(typ="safe").load(ROOT / "config" / "depth.rviz")
    names = [display["Name"] for display in config["Visualization Manager"]["Displays"]]
    assert len(names) == len(set(names))
    panels = {panel["Name"] for panel in config["Panels"]}
    windows = {name for name, state in config["Window Geometry"].items() if isinstance(state, dict)}
    assert windows <= panels | set(names)


def test_foxglove_shows_topics_that_the_node_has(graph):
    layout = json.loads((ROOT / "config" / "foxglove.json").read_text())
    topics = set()
    for panel, settings in layout["configById"].items():
        image = settings.get("imageMode", {})
        topics |= {image[key] for key in ("imageTopic", "calibrationTopic") if key in image}
        topics |= set(settings.get("topics", {})) | (
            {settings["topicToRender"]} if "topicToRender" in settings else set()
        )
        assert panel in _panels(layout["layout"])
    known = set(graph.publishers) | set(CAMERA_TOPICS)
    assert topics <= known
    assert {"/points", "/depth/image", "/camera/image_rect"} <= topics
    assert set(_panels(layout["layout"])) == set(layout["configById"])


def _panels(node: dict | str) -> list[str]:
    return [node] if isinstance(node, str) else _panels(node["first"]) + _panels(node["second"])


def _rviz_qos(topic: dict[str, object]) -> QoSProfile:
    """The profile that RViz makes of a topic's properties."""
    return QoSProfile(
        depth=topic["Depth"],
        history={"Keep Last": HistoryPolicy.KEEP_LAST}[topic["History Policy"]],
        reliability={"Reliable": ReliabilityPolicy.RELIABLE, "Best Effort": ReliabilityPolicy.BEST_EFFORT}[
            topic["Reliability Policy"]
        ],
        durability={"Volatile": DurabilityPolicy.VOLATILE}[topic["Durability Policy"]],
    )


PARAMETER_TYPES = {setting.name: type(setting.default) for setting in SETTINGS}
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


def parameters_of(path: Path) -> dict[str, object]:
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
    names = {path.stem for path in CAMERAS}
    assert names == set(DEPTH["CAMERAS"]) and names
    for name, topics in DEPTH["CAMERAS"].items():
        assert set(topics) == set(DEPTH["IN_CAMERAS"])
        page = (ROOT / "docs" / "cameras" / f"{name}.md").read_text()
        for topic in topics.values():
            assert f"`{topic}`" in page or f"<topic>{topic[1:]}</topic>" in page or topic[1:] in page
        assert f"camera:={name}" in page


@pytest.mark.parametrize("path", CAMERAS, ids=lambda path: path.stem)
def test_a_camera_file_holds_parameters_of_the_node(path):
    parameters = parameters_of(path)
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


@pytest.mark.parametrize("name", ["depth.launch.py", "replay.launch.py"])
def test_a_launch_file_declares_what_its_text_says(name):
    pytest.importorskip("launch_ros", reason="launch files need the launch of a ROS distribution")
    describe = runpy.run_path(str(ROOT / "launch" / name))["generate_launch_description"]
    declared = {argument.name for argument in describe().get_launch_arguments()}
    own = arguments(name)
    assert own <= declared
    assert declared - own <= (arguments("depth.launch.py") if name == "replay.launch.py" else set())


def test_depth_yaml_holds_every_parameter_with_its_default():
    values = parameters_of(ROOT / "config" / "depth.yaml")
    assert values == {setting.name: setting.default for setting in SETTINGS}
    assert {name: type(value) for name, value in values.items()} == {s.name: type(s.default) for s in SETTINGS}


def test_the_reference_has_every_parameter_as_it_is():
    reference = runpy.run_path(str(ROOT / "scripts" / "node_reference.py"))
    text = reference["PAGE"].read_text()
    assert reference["page"](text) == text, "run scripts/node_reference.py"
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
