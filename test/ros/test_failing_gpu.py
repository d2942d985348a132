# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The node on a machine whose GPU fails: depth all the same, and one line that says why."""

from __future__ import annotations

import failing_gpu
import pytest

STEP_NS = 33_333_333
FRAMES = 16
WAYS = tuple(failing_gpu.WARNINGS)


@pytest.mark.parametrize("way", [pytest.param(way, marks=[] if "later" in way else pytest.mark.slow) for way in WAYS])
def test_depth_comes_from_the_plain_network_or_the_cpu(start_depth_node, client, way):
    node = start_depth_node(device="auto", matching="off", how={"launcher": (failing_gpu.__file__, way)})
    client.wait_until_connected()
    client.depths.clear()
    begins_ns = 1_000_000_000_000 * (1 + WAYS.index(way))
    answers = client.walk(FRAMES, 0.12, begins_ns, STEP_NS)
    assert not [answer for answer in answers if answer.dropped]
    keyframes = sum(answer.has_depth for answer in answers)
    client.wait(lambda: len(client.depths) >= keyframes)
    assert keyframes == FRAMES - 1
    assert len(node.lines(failing_gpu.WARNINGS[way])) == 1, node.log()
    node.end_well()
