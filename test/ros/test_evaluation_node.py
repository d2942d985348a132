# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The evaluation node next to a depth node, over DDS: the same figures as offline, whatever way the frames took."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image

from dvmvs_core.cli.main import main as dvmvs
from dvmvs_core.data.bags.bag_files import BagFiles
from dvmvs_core.data.bags.bag_writer import write_bag
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.evaluation.scoring.metrics import NAMES
from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_ros.depth.frame_status import FrameStatus
from dvmvs_ros.evaluation_node import NODE_PARAMETERS
from dvmvs_ros.messages.conversions import make_header, ns_to_stamp, rgb_message

TIMES = ("latency_ms", "latencies_ms", "made", "command", "versions", "hardware", "name", "path", "live", "weights")


def untimed(part):
    """Figures without what differs from run to run."""
    if isinstance(part, dict):
        return {key: untimed(value) for key, value in part.items() if key not in TIMES}
    return [untimed(value) for value in part] if isinstance(part, list) else part


def assert_same(ours, theirs, where="figures"):
    """Both hold the same, floating-point numbers to 1e-5."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in theirs.items():
            assert_same(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), where
        for i, value in enumerate(theirs):
            assert_same(ours[i], value, f"{where}[{i}]")
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-9), where
    else:
        assert ours == theirs, where


def evaluate_offline(sequence, weights, folder) -> dict:
    command = ["evaluate", str(sequence), "--weights", str(weights), "--device", "cpu", "--report", str(folder)]
    assert dvmvs(command) == 0
    return json.loads((folder / "figures.json").read_text())


@pytest.fixture(scope="module")
def live(start_node, start_played_node, play, client, masked_scene, tmp_path_factory) -> dict:
    """Two rounds of the scene in lockstep through the depth node and an evaluation, with the mask remapped."""
    folder = tmp_path_factory.mktemp("live")
    heard = {"metrics": [], "error_image": []}
    for name, kind in (("metrics", DiagnosticArray), ("error_image", Image)):
        client.node.create_subscription(kind, f"/evaluation_node/{name}", heard[name].append, QoSProfile(depth=100))
    node = start_played_node(mask="arm")
    evaluation = start_node(
        "evaluation_node", {"report_folder": str(folder / "report"), "result_bag": str(folder / "walk")}
    )
    client.wait_until_known("evaluation_node")
    remap = ("camera/valid_mask:=camera/arm",)
    play(masked_scene, remap, rate=0.0, lockstep=True, loops=2, subscribers=2)
    client.wait(lambda: min(map(len, heard.values())) >= 12)  # two rounds of six keyframes
    evaluation.process.send_signal(signal.SIGINT)
    assert evaluation.wait(200.0) == 0, evaluation.log()  # writing the report takes longer than an end
    assert node.stop() == 0, node.log()
    figures = json.loads((folder / "report" / "figures.json").read_text())
    return {"folder": folder, "figures": figures, "log": evaluation.log(), **heard}


@pytest.fixture(scope="module")
def offline(masked_scene, tiny_weights, tmp_path_factory) -> dict:
    """The scene folder, and a bag of it, evaluated without ROS."""
    folder = tmp_path_factory.mktemp("offline")
    write_bag(open_sequence(masked_scene), folder / "bag", "sqlite3")
    return {
        "folder": evaluate_offline(masked_scene, tiny_weights, folder / "from_folder"),
        "bag": evaluate_offline(folder / "bag", tiny_weights, folder / "from_bag"),
    }


def test_folder_bag_and_live_in_lockstep_give_the_same_figures(live, offline):
    assert_same(untimed(offline["bag"]), untimed(offline["folder"]))
    first, second = live["figures"]["sequences"]
    assert_same(untimed(first), untimed(offline["folder"]["sequences"][0]))
    for recorded in ("walk", "walk_2"):
        items = list(open_sequence(live["folder"] / recorded).items(depth=False))
        assert [100 * (~item.valid_mask).mean() for item in items] == [25.0] * 14, "the second round has its mask too"
    assert live["figures"].keys() - {"live"} == offline["folder"].keys()
    for name in ("network", "preset", "resolution", "weights_sha256", "measurement_frames", "precision", "device"):
        assert live["figures"][name] == offline["folder"][name]
    assert first["keyframes"] == 6 and first["metrics"]["abs_error"] > 0


def test_the_second_round_of_a_loop_equals_the_first(live):
    first, second = live["figures"]["sequences"]
    assert (first["name"], second["name"]) == ("walk", "walk round 2")
    assert untimed(first) == untimed(second)
    assert [part["dropped"] for part in live["figures"]["live"]] == [{}, {}]
    assert [(part["images"], part["answered"]) for part in live["figures"]["live"]] == [(14, 14)] * 2


def test_running_figures_end_at_those_of_the_report(live):
    assert len(live["metrics"]) == len(live["error_image"]) == 12
    mean = {pair.key: float(pair.value) for pair in live["metrics"][-1].status[1].values}
    assert mean.pop("images") == 12
    expected = live["figures"]["all"]["metrics"]
    assert mean == pytest.approx({name: expected[name] for name in NAMES}, rel=1e-5)
    one = {pair.key: float(pair.value) for pair in live["metrics"][0].status[0].values}
    table = live["figures"]["sequences"][0]["per_keyframe"]
    assert one == pytest.approx({name: table[name][0] for name in NAMES}, rel=1e-5)
    picture = live["error_image"][0]
    assert (picture.height, picture.width, picture.encoding) == (64, 96, "rgb8")
    assert picture.header == live["metrics"][0].header
    assert len(set(np.frombuffer(picture.data, np.uint8).tolist())) > 20


def test_the_report_is_a_page_and_nothing_else_is_left_over(live):
    page = (live["folder"] / "report" / "index.html").read_text()
    assert "walk round 2" in page and page.count("<img") >= 8
    assert sorted(entry.name for entry in (live["folder"] / "report").iterdir()) == ["figures.json", "index.html"]


def test_the_result_bag_holds_inputs_results_and_figures(live):
    files = BagFiles(live["folder"] / "walk")
    assert not files.notes
    counts = {name: topic.count for name, topic in files.topics.items()}
    for name in ("/camera/image_rect", "/camera/camera_info", "/camera/depth", "/depth_node/frame_status"):
        assert counts[name] == 14, name
    for name in ("/depth/image", "/depth/confidence", "/points", "/evaluation_node/metrics"):
        assert counts[name] == 6, name
    again = open_sequence(live["folder"] / "walk_2")
    assert len(list(again.items())) == 14, "the static transforms are in the second bag too"


def test_what_was_sent_before_time_went_back_belongs_to_the_round_before(start_node, client, tmp_path):
    """It may be heard after: messages of several topics come in no order, least of all to a busy process."""
    # Below this client, which tells its parameters when it is asked, as a depth node would.
    for name in NODE_PARAMETERS:
        client.node.declare_parameter(name, "")
    names = {kind: f"/client/{kind.__name__}" for kind in (Image, CameraInfo, DiagnosticArray)}
    publishers = {kind: client.node.create_publisher(kind, name, QoSProfile(depth=10)) for kind, name in names.items()}
    clock = client.node.create_publisher(Clock, "/clock", QoSProfile(depth=10))
    evaluation = start_node(
        "evaluation_node",
        {
            "result_bag": str(tmp_path / "late"),
            "image_topic": names[Image],
            "camera_info_topic": names[CameraInfo],
            "status_topic": names[DiagnosticArray],
        },
    )
    client.wait(lambda: evaluation.lines("comparing"))
    client.wait(lambda: all(publisher.get_subscription_count() for publisher in (*publishers.values(), clock)))
    client.wait_until_known("evaluation_node")

    def send(seconds: int) -> None:
        stamp_ns = seconds * 10**9
        clock.publish(Clock(clock=ns_to_stamp(stamp_ns)))
        picture = rgb_message(np.zeros((4, 4, 3), np.uint8), make_header(stamp_ns, "camera"))
        publishers[Image].publish(picture)
        publishers[DiagnosticArray].publish(FrameStatus(stamp_ns, KeyframeDecision.TOO_CLOSE).to_message())

    send(1)
    evaluation.process.send_signal(signal.SIGSTOP)
    for seconds in (2, 3, 1):
        send(seconds)
    client.idle(0.5)  # longer than the node holds messages back
    evaluation.process.send_signal(signal.SIGCONT)
    evaluation.wait_for("went back")
    assert evaluation.stop() == 0, evaluation.log()
    for bag, count in (("late", 3), ("late_2", 1)):
        topics = BagFiles(tmp_path / bag).topics
        assert [topics[names[kind]].count for kind in (Image, DiagnosticArray)] == [count, count], bag
    assert not (tmp_path / "late_3").exists()


def test_without_a_depth_node_it_says_so_at_the_end(start_node):
    evaluation = start_node("evaluation_node", {"status_topic": "nobody/frame_status"})
    evaluation.wait_for("waiting for the depth node")
    assert evaluation.stop() == 1
    assert "no depth node was heard that publishes /nobody/frame_status" in evaluation.log()


@pytest.mark.slow
def test_the_recorder_listens_to_images_once_the_depth_node_knows_it(start_node, start_depth_node, client, tmp_path):
    node = start_depth_node(confidence=False)
    client.wait_until_connected()
    node.process.send_signal(signal.SIGSTOP)  # a node that has not yet noticed the recorder, on a busy machine
    recorder = start_node(
        "recorder_node",
        {"out": str(tmp_path / "recording"), "known_to": "/depth_node"},
        remap=("camera/image_rect:=image", "camera/camera_info:=camera_info"),
    )
    client.wait(lambda: client.camera_info.get_subscription_count() == 2)
    client.idle(1.0)
    assert client.image.get_subscription_count() == 1
    node.process.send_signal(signal.SIGCONT)
    client.wait(lambda: client.image.get_subscription_count() == 2)
    client.walk(3, 0.2, 10**9, 10**9)
    assert recorder.stop() == 0, recorder.log()
    assert node.stop() == 0, node.log()
    counts = {name: topic.count for name, topic in BagFiles(tmp_path / "recording").topics.items()}
    assert counts["/depth/image"] == 2, counts  # the first keyframe has none before it
    assert counts["/depth_node/frame_status"] == 3
