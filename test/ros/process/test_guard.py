# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""An unforeseen exception in any callback costs its message, ends nothing, and has its traceback in the log once."""

from __future__ import annotations

import pytest
from geometry_msgs.msg import PoseStamped
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from std_msgs.msg import Int32
from std_srvs.srv import Trigger

from dvmvs_ros.process.guard import GuardedNode, guarded_spin
from dvmvs_ros.process.node_log import MAX_KINDS, QuietLog, Unforeseen


class Foreign(Exception):
    """What some library raises."""


@pytest.fixture
def node(client):
    node = GuardedNode("guarded")
    client.executor.add_node(node)
    yield node
    client.executor.remove_node(node)
    node.destroy_node()


def wait(client, until) -> None:
    for _ in range(600):
        if until():
            return
        guarded_spin(client.executor, 0.1)
    raise AssertionError("it did not come")


def test_a_subscription_that_raises_gets_the_next_message(client, node):
    got = []

    def take(message: Int32) -> None:
        got.append(message.data)
        raise Foreign(message.data)

    node.create_subscription(Int32, "/numbers", take, 10)
    publisher = client.node.create_publisher(Int32, "/numbers", 10)
    wait(client, publisher.get_subscription_count)
    client.wait_until_known("guarded")
    for number in range(3):
        publisher.publish(Int32(data=number))
        wait(client, lambda number=number: number in got)
    assert node.unforeseen.count == 3
    assert "Foreign in" in node.unforeseen.latest and "take" in node.unforeseen.latest


def test_a_message_that_rclpy_itself_cannot_take_costs_that_message(client, node):
    """Its frame_id is no UTF-8: rclpy raises before any callback sees it."""
    got = []
    node.create_subscription(PoseStamped, "/poses", lambda message: got.append(message.header.frame_id), 10)
    publisher = client.node.create_publisher(PoseStamped, "/poses", 10)
    wait(client, publisher.get_subscription_count)
    client.wait_until_known("guarded")
    message = PoseStamped()
    message.header.frame_id = "abcdefgh"
    publisher.publish(serialize_message(message).replace(b"abcdefgh", b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe"))
    publisher.publish(message)
    wait(client, lambda: "abcdefgh" in got)


def test_a_service_that_raises_answers_that_it_failed(client, node):
    def fail(request, response):
        raise Foreign("no such home folder")

    node.create_service(Trigger, "/act", fail)
    caller = client.node.create_client(Trigger, "/act")
    wait(client, caller.service_is_ready)
    client.wait_until_known("guarded")
    future = caller.call_async(Trigger.Request())
    wait(client, future.done)
    assert not future.result().success
    assert "Foreign: no such home folder" in future.result().message


def test_a_timer_and_a_guard_condition_that_raise_are_called_again(client, node):
    calls = {"timer": 0, "condition": 0}

    def fail(name: str) -> None:
        calls[name] += 1
        raise Foreign(name)

    node.create_timer(0.02, lambda: fail("timer"))
    condition = node.create_guard_condition(lambda: fail("condition"))
    wait(client, lambda: calls["timer"] >= 3)
    for times in (1, 2):
        condition.trigger()
        wait(client, lambda times=times: calls["condition"] == times)
    assert node.unforeseen.count >= 5


def test_a_parameter_check_that_raises_refuses_the_change(node):
    node.declare_parameter("folder", "a")

    def check(changes):
        raise Foreign("what a path")

    node.add_on_set_parameters_callback(check)
    (result,) = node.set_parameters([Parameter("folder", value="b")])
    assert not result.successful and "Foreign: what a path" in result.reason
    assert node.get_parameter("folder").value == "a"


@pytest.mark.parametrize("module", ("depth_node", "recorder_node", "replay_node", "evaluation_node"))
def test_every_node_is_guarded(module):
    import importlib

    found = [
        value
        for value in vars(importlib.import_module(f"dvmvs_ros.{module}")).values()
        if isinstance(value, type) and value.__module__ == f"dvmvs_ros.{module}" and hasattr(value, "create_service")
    ]
    assert found and all(issubclass(node, GuardedNode) for node in found)


def test_lines_that_differ_in_numbers_only_are_one_kind_and_are_counted():
    lines, now = [], [0.0]
    log = QuietLog(lines.append, period_s=5.0, clock=lambda: now[0])
    for i in range(150):
        now[0] = i / 30
        log(f"data must hold 100 bytes; got {i}")
    assert lines == ["data must hold 100 bytes; got 0"]
    now[0] = 5.1
    log("data must hold 100 bytes; got 7")
    assert lines[1:] == ["data must hold 100 bytes; got 7 (and 149 more like it before)"]


def test_another_kind_is_not_held_back():
    lines = []
    log = QuietLog(lines.append, clock=lambda: 0.0)
    for line in ("no transform", "unknown encoding", "no transform"):
        log(line)
    assert lines == ["no transform", "unknown encoding"]


def test_memory_is_bounded_whatever_the_lines_say():
    log = QuietLog(lambda line: None, clock=lambda: 0.0)
    for i in range(10 * MAX_KINDS):
        log("x" * i)
    assert len(log._kinds) <= MAX_KINDS


def test_the_traceback_is_told_once_and_then_a_line():
    lines = []
    unforeseen = Unforeseen(lines.append)

    def raise_and_report(value) -> None:
        try:
            raise ValueError(value)
        except ValueError as error:
            unforeseen.report(error, "a callback")

    for value in range(100):
        raise_and_report(value)
    assert unforeseen.count == 100
    assert len(lines) == 2
    assert "Traceback" in lines[0] and "Traceback" not in lines[1]
    try:
        [][1]
    except IndexError as error:
        unforeseen.report(error, "another place")
    assert "Traceback" in lines[2]
