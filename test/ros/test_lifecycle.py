# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""configure, activate, deactivate, cleanup: through the services that a lifecycle manager uses."""

from __future__ import annotations

import gc
import signal
import weakref
from pathlib import Path

import pytest
from lifecycle_msgs.msg import State, Transition
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from dvmvs_ros.depth.engines import Engines
from dvmvs_ros.depth.parameters import SETTINGS
from dvmvs_ros.depth_node import DepthNode
from dvmvs_ros.process.guard import RCLError


@pytest.fixture(scope="module")
def node(start_node, client):
    """A node with weights that do not exist and a queue of the wrong type: it must live, and say so."""
    node = start_node("depth_node", {"weights": "/no/such/file.safetensors", "transform_timeout_s": 1})
    node.wait_for("cannot configure")
    node.heaps = heaps_of_threads(node.process.pid)
    yield node
    assert node.stop(signal.SIGTERM) == 0, node.log()
    assert "terminate called" not in node.log() and "Traceback" not in node.log(), node.log()


@pytest.fixture(scope="module")
def manager_in_any_state(node, make_manager):
    return make_manager("depth_node")


@pytest.fixture
def manager(manager_in_any_state):
    """A manager of the node, which is unconfigured when a test begins."""
    manager = manager_in_any_state
    if manager.state() == State.PRIMARY_STATE_ACTIVE:
        assert manager.change(Transition.TRANSITION_DEACTIVATE)
    if manager.state() == State.PRIMARY_STATE_INACTIVE:
        assert manager.change(Transition.TRANSITION_CLEANUP)
    return manager


def usable(manager, weights) -> None:
    """Correct what the node was started with."""
    assert manager.set("transform_timeout_s", 1.0).successful
    assert manager.set("weights", str(weights)).successful and manager.set("device", "cpu").successful


def test_a_parameter_of_the_wrong_type_is_one_clear_line_and_can_be_corrected(node, manager):
    assert manager.state() == State.PRIMARY_STATE_UNCONFIGURED
    line = node.lines("cannot configure")[0]
    assert "transform_timeout_s must be a number with a point from 0 to 3600" in line
    assert manager.set("transform_timeout_s", 1.0).successful


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("weights", "/no/such/file.safetensors", "/no/such/file.safetensors"),
        ("device", "cuda:99", "CUDA devices"),
        ("device", "abacus", "device must be auto, cpu, cuda"),
    ],
)
def test_what_is_not_there_is_a_failure_and_not_the_end(node, manager, tiny_weights, name, value, said):
    usable(manager, tiny_weights)
    assert manager.set(name, value).successful
    assert not manager.change(Transition.TRANSITION_CONFIGURE)
    assert manager.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert said in node.lines("cannot configure")[-1]


def test_services_answer_while_the_node_is_not_active(manager):
    for service in ("reset", "save_cloud"):
        answer = manager.trigger(service)
        assert not answer.success and "not active" in answer.message


def test_every_parameter_has_a_description_and_every_number_a_range(manager):
    names = [setting.name for setting in SETTINGS]
    for descriptor in manager.call(DescribeParameters, "describe_parameters", names=names).descriptors:
        assert len(descriptor.description) > 10, descriptor.name
        if descriptor.type == ParameterType.PARAMETER_INTEGER:
            assert descriptor.integer_range, descriptor.name
        if descriptor.type == ParameterType.PARAMETER_DOUBLE:
            assert descriptor.floating_point_range, descriptor.name


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("measurement_frames", 0, "measurement_frames"),
        ("keyframe_pose_distance", -0.1, "keyframe_pose_distance"),
        ("network", "resnet", "network must be one of"),
        ("world_frame", "", "world_frame must not be empty"),
        ("rectify", "yes", "rectify must be one of"),
        ("image_transport", "theora", "image_transport must be one of"),
        ("depth_encoding", "mono16", "depth_encoding must be one of"),
        ("points_min_confidence", 1.5, "points_min_confidence"),
        ("points_max_depth_m", 0.0, "points_min_depth_m must be less than points_max_depth_m"),
        ("keyframe_buffer_size", 2, "measurement_frames must lie between"),
        ("mode", "turbo", "mode must be one of"),
        ("precision", "int4", "precision must be one of"),
        ("depth_for", "nothing", "depth_for must be one of"),
        ("depth_size", "huge", "depth_size must be one of"),
        ("min_depth_m", -1.0, "min_depth_m"),
        ("max_depth_m", 0.0, "min_depth_m must be less than max_depth_m"),
        ("mounting", "0 0 0.5", "mounting must be 'x y z roll pitch yaw' or 'x y z qx qy qz qw'"),
        ("mounting", "0 0 0.5 0 0 0", "mounting is for poses of messages"),
        ("points_stride", 0, "points_stride"),
        ("cloud_folder", "", "cloud_folder must not be empty"),
    ],
)
def test_a_bad_value_is_refused_with_its_reason(manager, name, value, reason):
    result = manager.set(name, value)
    assert not result.successful
    assert reason in result.reason, result.reason


def test_the_whole_life_twice(node, manager, client, tiny_weights):
    usable(manager, tiny_weights)
    for _ in range(2):
        assert manager.change(Transition.TRANSITION_CONFIGURE), node.log()
        refused = manager.set("weights", "small")
        assert not refused.successful and "unconfigured" in refused.reason
        assert manager.set("points_min_confidence", 0.25).successful, "this one may change at any time"
        assert not manager.set("preview_min_depth_m", 20.0).successful, "and is still refused where it cannot be used"
        for _ in range(2):
            assert manager.change(Transition.TRANSITION_ACTIVATE), node.log()
            assert manager.state() == State.PRIMARY_STATE_ACTIVE
            client.wait(client.image.get_subscription_count)
            assert manager.change(Transition.TRANSITION_DEACTIVATE), node.log()
            client.wait(lambda: not client.image.get_subscription_count())
        assert manager.change(Transition.TRANSITION_CLEANUP), node.log()
        client.wait(lambda: not client.node.count_publishers("/depth/image"))
    values = manager.call(GetParameters, "get_parameters", names=["weights"]).values
    assert values[0].string_value == str(tiny_weights)


def heaps_of_threads(pid: int) -> int:
    """How many heaps of their own glibc gave to threads: 64 MiB of addresses each, at a multiple of that."""
    spans: list[list[int]] = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        addresses, mode, _, _, _, *name = line.split()
        start, end = (int(address, 16) for address in addresses.split("-"))
        if name or mode not in ("rw-p", "---p"):
            continue
        if spans and spans[-1][1] == start:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    size = 64 << 20
    return sum(start % size == 0 and end - start >= size for start, end in spans)


def test_it_ends_cleanly_while_active(node, manager, tiny_weights):
    usable(manager, tiny_weights)
    assert manager.change(Transition.TRANSITION_CONFIGURE)
    assert manager.change(Transition.TRANSITION_ACTIVATE)
    assert heaps_of_threads(node.process.pid) == node.heaps, "its threads share those of the start"
    # The fixture ends the process with SIGTERM, and checks how it went.


@pytest.fixture
def own_node(client, tiny_weights):
    """Function of parameters: an unconfigured node in this process."""
    nodes = []

    def make(*engines: Engines, **parameters) -> DepthNode:
        given = {"weights": str(tiny_weights), "autostart": False, **parameters}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        nodes.append(DepthNode(*engines, namespace="own", parameter_overrides=overrides))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


def test_cleanup_frees_the_network(own_node):
    opened = []

    class Watched(Engines):
        def open(self, config):
            engine, shared = super().open(config)
            opened.append(weakref.ref(engine))
            return engine, shared

    node = own_node(Watched())
    for transition in (node.trigger_configure, node.trigger_activate, node.trigger_deactivate):
        assert transition() == TransitionCallbackReturn.SUCCESS
        assert opened[0]() is not None
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    gc.collect()
    assert opened[0]() is None


def test_what_ros_refuses_is_one_line_and_leaves_nothing_behind(own_node, monkeypatch, capfd):
    """As with a policy of SROS 2 that does not list one of the topics."""
    node = own_node()
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    create = {name: getattr(node, name) for name in ("create_lifecycle_publisher", "create_subscription")}

    def refusing(name, topic):
        def call(message_type, wanted, *arguments, **options):
            if wanted == topic:
                raise RCLError(f"Failed to create: topic [rt/own/{topic}] not allowed, at rmw.cpp:1, at rcl.c:2")
            return create[name](message_type, wanted, *arguments, **options)

        return call

    def own_topics() -> set[str]:
        ours = node.get_publisher_names_and_types_by_node, node.get_subscriber_names_and_types_by_node
        return {topic for names in ours for topic, _ in names("depth_node", "/own")}

    before = own_topics()
    monkeypatch.setattr(node, "create_lifecycle_publisher", refusing("create_lifecycle_publisher", "points"))
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert own_topics() == before
    monkeypatch.setattr(node, "create_lifecycle_publisher", create["create_lifecycle_publisher"])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    configured = own_topics()
    monkeypatch.setattr(node, "create_subscription", refusing("create_subscription", "image"))
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert own_topics() == configured
    monkeypatch.setattr(node, "create_subscription", create["create_subscription"])
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    said = [line for line in capfd.readouterr().err.splitlines() if "cannot" in line]
    assert len(said) == 2
    for line, topic in zip(said, ("points", "image"), strict=True):
        assert f"ROS refuses: Failed to create: topic [rt/own/{topic}] not allowed. Security is on" in line
        assert "policy must allow every topic" in line and "rmw.cpp" not in line


@pytest.mark.parametrize("configured", [True, False])
def test_the_hint_at_configure_is_for_a_node_that_waits(own_node, monkeypatch, capfd, configured):
    monkeypatch.setattr("dvmvs_ros.depth_node.HINT_AFTER_S", 0.01)
    node = own_node(confidence=False)
    executor = SingleThreadedExecutor()
    try:
        if configured:
            assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        executor.add_node(node)
        said = ""
        for _ in range(200 if not configured else 20):
            executor.spin_once(timeout_sec=0.05)
            said += capfd.readouterr().err
            if "waiting to be configured" in said:
                break
    finally:
        executor.shutdown()
    assert ("waiting to be configured" in said) is not configured
    assert ("configuring: loading weights" in said) is configured
    assert ("confidence is off: clouds hold every depth" in said) is configured


def test_a_misspelt_parameter_is_said(own_node, capfd):
    quality = {"qos_overrides./own/image.subscription.depth": 7}
    own_node(mesurement_frames=3, use_sim_time=True, lidar_rate=10.0, **quality)
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "no such parameter" in line]
    assert line.endswith(": lidar_rate, mesurement_frames (did you mean measurement_frames?)")
