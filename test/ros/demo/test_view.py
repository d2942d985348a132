# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A demo's recording for viewers: a rerun file that rerun itself reads, and a layout for Foxglove."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.geometry import backproject
from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_core.types import DepthPrediction
from dvmvs_ros import recorder_node
from dvmvs_ros.demo import view as demo_view
from dvmvs_ros.demo.view import check_view, cloud_in_world, open_view, write_rerun
from dvmvs_ros.depth.frame_status import FrameStatus
from dvmvs_ros.evaluation.recording import RecordedBags
from dvmvs_ros.messages.conversions import (
    camera_info_message,
    cloud_message,
    make_header,
    metric_depth_message,
    rgb_message,
    transform_message,
    type_name,
)

K = np.array(((50.0, 0.0, 15.5), (0.0, 50.0, 11.5), (0.0, 0.0, 1.0)))
SIZE = (24, 32)
FRAMES, FRAME_NS = 4, 100_000_000


def pose(i: int) -> np.ndarray:
    """A camera that looks along the world's x axis and walks to its left."""
    world_T_cam = np.array(((0, 0, 1, 0), (-1, 0, 0, 0), (0, -1, 0, 1.5), (0, 0, 0, 1)), dtype=np.float64)
    world_T_cam[1, 3] = 0.1 * i
    return world_T_cam


def prediction(i: int) -> DepthPrediction:
    depth = np.full(SIZE, 2.0, np.float32)
    depth[:4] = 0.0
    return DepthPrediction(
        depth=depth,
        K=K,
        image=np.full((*SIZE, 3), 40 * i, np.uint8),
        world_T_cam=pose(i),
        stamp_ns=(i + 1) * FRAME_NS,
        frame_index=i,
        measurement_index=(),
        measurement_stamps_ns=(),
        latency_ms=12.5,
        confidence=np.ones(SIZE, np.float32),
    )


def messages(i: int, with_pose: bool):
    """What a recorder gets for one image."""
    made = prediction(i)
    header = make_header(made.stamp_ns, "camera")
    if with_pose:
        yield "/tf", TFMessage(transforms=[transform_message(made.stamp_ns, "odom", "camera", pose(i))])
    yield f"/{recorder_node.CAMERA_INFO}", camera_info_message(K, *SIZE, header)
    yield f"/{recorder_node.IMAGE}", rgb_message(made.image, header)
    yield f"/{recorder_node.DEPTH_INFO}", camera_info_message(K, *SIZE, header)
    yield f"/{recorder_node.DEPTH}", metric_depth_message(made.depth, header)
    yield f"/{recorder_node.POINTS}", cloud_message(made, header)
    status = FrameStatus(made.stamp_ns, KeyframeDecision.KEYFRAME, inference_ms=12.5, has_depth=True)
    yield f"/{recorder_node.STATUS}", status.to_message()


def record(folder: Path, with_pose: bool = True) -> Path:
    kinds = {
        "/tf": TFMessage,
        f"/{recorder_node.CAMERA_INFO}": CameraInfo,
        f"/{recorder_node.IMAGE}": Image,
        f"/{recorder_node.DEPTH_INFO}": CameraInfo,
        f"/{recorder_node.DEPTH}": Image,
        f"/{recorder_node.POINTS}": PointCloud2,
        f"/{recorder_node.STATUS}": DiagnosticArray,
    }
    with closing(RecordedBags(folder, True, pytest.fail)) as recording:
        for topic, kind in kinds.items():
            recording.open(topic, type_name(kind))
        for i in range(FRAMES):
            for topic, message in messages(i, with_pose):
                recording.write(topic, serialize_message(message))
    return next(folder.glob("*.mcap"))


def rows(rrd: Path) -> dict[str, int]:
    """Entity → rows, as rerun's own tool prints them."""
    command = [sys.executable, "-m", "rerun", "rrd", "print", str(rrd)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, int] = {}
    for number, entity in re.findall(r"with (\d+) rows.*? - (/\S*) - ", done.stdout):
        found[entity] = found.get(entity, 0) + int(number)
    return found


def test_rerun_reads_back_what_was_recorded(tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed (extra 'view')")
    mcap = record(tmp_path / "bag")
    write_rerun(mcap, tmp_path / "demo.rrd")
    found = rows(tmp_path / "demo.rrd")
    assert found["/world/camera"] == FRAMES
    assert found["/world/camera/image"] == FRAMES
    assert found["/world/keyframe/depth"] == 2 * FRAMES  # depth and its intrinsics
    assert found["/network_ms"] == FRAMES
    assert found["/world/path"] == 1
    assert sum(entity.startswith("/world/clouds/") for entity in found) == FRAMES
    assert list(tmp_path.glob("*.rrd")) == [tmp_path / "demo.rrd"]


def test_a_recording_without_poses_is_refused_and_leaves_nothing(tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed (extra 'view')")
    mcap = record(tmp_path / "bag", with_pose=False)
    with pytest.raises(DataError):
        write_rerun(mcap, tmp_path / "demo.rrd")
    assert not (tmp_path / "demo.rrd").exists()


def test_clouds_stand_in_the_world_frame(monkeypatch):
    made = prediction(3)
    message = cloud_message(made, make_header(made.stamp_ns, "camera"))
    points, colours = cloud_in_world(message, made.world_T_cam)
    inside = made.depth > 0
    camera_points = backproject(made.depth, K)[inside]
    expected = camera_points @ made.world_T_cam[:3, :3].T + made.world_T_cam[:3, 3]
    np.testing.assert_allclose(points, expected, atol=1e-5)
    np.testing.assert_allclose(points[:, 0], 2.0, atol=1e-6)  # the wall is 2 m ahead, along the world's x axis
    assert (colours == 120).all()
    monkeypatch.setattr(demo_view, "CLOUD_POINTS", 50)
    assert len(cloud_in_world(message, made.world_T_cam)[0]) == 50


def test_foxglove_gets_the_mcap_and_the_layout(tmp_path):
    check_view("foxglove")
    line = open_view("foxglove", tmp_path / "demo.mcap")
    assert str(tmp_path / "demo.mcap") in line and "foxglove.json" in line
    assert demo_view.LAYOUT.exists()


def test_a_missing_viewer_is_said_before_the_demo(monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ConfigError, match="make demo VIEW=rerun"):
        check_view("rerun")
