# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The recorder over DDS: nothing that the depth node says of an image is lost, however late that learns of it."""

from __future__ import annotations

import signal

import numpy as np

from dvmvs_core.data.bags.bag_files import BagFiles


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
    for i in range(3):
        stamp_ns, world_T_cam = 10**9 * (i + 1), np.eye(4)
        world_T_cam[0, 3] = 0.2 * i
        client.send_pose(stamp_ns, world_T_cam)
        client.send_camera_info(stamp_ns)
        client.send_image(stamp_ns)
        client.answer(stamp_ns)
    assert recorder.stop() == 0, recorder.log()
    assert node.stop() == 0, node.log()
    counts = {name: topic.count for name, topic in BagFiles(tmp_path / "recording").topics.items()}
    assert counts["/depth/image"] == 2, counts  # the first keyframe has none before it
    assert counts["/depth_node/frame_status"] == 3
