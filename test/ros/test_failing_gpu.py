# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The node on a machine whose GPU fails: depth all the same, and one line that says why."""

from __future__ import annotations

import numpy as np
import pytest

STEP_NS = 33_333_333
FRAMES = 16
WAYS = ("no driver", "capture", "memory at start", "memory later", "wrong numbers")


@pytest.mark.parametrize("way", [pytest.param(way, marks=[] if "later" in way else pytest.mark.slow) for way in WAYS])
def test_depth_comes_from_the_plain_network_or_the_cpu(start_depth_node, client, failing_gpu, way):
    assert set(WAYS) == set(failing_gpu.WARNINGS)
    node = start_depth_node(device="auto", matching="off", how={"launcher": (failing_gpu.__file__, way)})
    node.wait_for("active: images from")
    client.wait_until_connected()
    client.depths.clear()
    begins_ns = 1_000_000_000_000 * (1 + WAYS.index(way))
    keyframes = 0
    for i in range(FRAMES):
        stamp_ns = begins_ns + i * STEP_NS
        pose = np.eye(4)
        pose[0, 3] = 0.12 * i
        client.send_pose(stamp_ns, pose)
        client.send_camera_info(stamp_ns)
        client.send_image(stamp_ns)
        answer = client.answer(stamp_ns)
        assert not answer.dropped, answer
        keyframes += answer.has_depth
    client.wait(lambda: len(client.depths) >= keyframes)
    assert keyframes == FRAMES - 1 and "Traceback" not in node.log()
    assert len(node.lines(failing_gpu.WARNINGS[way])) == 1, node.log()
    assert node.stop() == 0, node.log()
