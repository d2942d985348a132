# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Several cameras in one process: a depth node each, in a namespace each, with one network in memory.

    ros2 run dvmvs_ros depth_nodes front left --ros-args --params-file cameras.yaml -r /front/image:=/cam0/image_raw

makes /front/depth_node and /left/depth_node: each listens to image and camera_info in its namespace, publishes
depth/image there, and can be remapped by its full topic names. In the file, `/front/depth_node` heads the parameters of
one camera, `/**` those of all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rclpy.utilities import remove_ros_args

from dvmvs_core.errors import ConfigError, DvmvsError
from dvmvs_core.process import share_cores, share_heaps
from dvmvs_ros.depth.engines import Engines
from dvmvs_ros.depth_node import DepthNode
from dvmvs_ros.process.main_program import ros_process, spin

USAGE = "usage: depth_nodes CAMERA... [--ros-args ...]; CAMERA is the namespace of a camera's depth_node, such as front"


def main(args: Sequence[str] | None = None) -> None:
    """Run a node for each camera until Ctrl-C or SIGTERM."""
    args = sys.argv if args is None else ["depth_nodes", *args]
    try:
        namespaces = _namespaces(remove_ros_args(list(args))[1:])
    except DvmvsError as error:
        raise SystemExit(f"{error}\n{USAGE}") from error
    share_cores()
    share_heaps()
    with ros_process(args) as stop:
        engines, nodes = Engines(), []
        try:
            nodes.extend(DepthNode(namespace=namespace, engines=engines) for namespace in namespaces)
            spin(stop, *nodes)
        finally:
            for node in nodes:
                node.destroy_node()


def _namespaces(cameras: list[str]) -> list[str]:
    """Return the absolute namespaces of cameras."""
    if not cameras:
        raise ConfigError("name at least one camera")
    namespaces = [f"/{camera.strip('/')}" for camera in cameras]
    twice = sorted({namespace for namespace in namespaces if namespaces.count(namespace) > 1})
    if twice:
        raise ConfigError(f"every camera needs a namespace of its own; got {', '.join(twice)} more than once")
    return namespaces


if __name__ == "__main__":
    main()
