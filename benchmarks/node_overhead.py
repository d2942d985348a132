# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the depth node adds to the engine: message in to depth message out, less the engine's own time.

    python benchmarks/node_overhead.py --json out/node_overhead.json

A camera in a process of its own sends images over DDS, one after the other, and waits for the depth of each; every
image is a keyframe. The node runs in this process, so that its processor time can be told from the engine's. The
network is a narrow, random one of the usual size, 320×256, since it is the node that is measured:

- `cpu_ms`: processor time of all threads of this process for one image, less the engine's: receiving, converting,
  queueing, publishing. A busy machine does not change it.
- `node_ms`: by the clock, from the image's callback to the end of publication, less the engine.
- `round_trip_ms`: by the clock, from the camera's call of publish to the arrival of depth, less the engine: with both
  transports, and with what the camera's process needs to take depth.

The targets of `cpu_ms` and `node_ms` are 6 ms at 640×480 and 12 ms at 1280×720 on two cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from dvmvs_core.process import share_cores
from dvmvs_ros.process.children import own_domain

WARM_UP = 5
STEP_NS = 33_333_333
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        name: its name.
        height: rows of the images.
        width: columns.
        encoding: of the images; "jpeg" for compressed ones.
        distortion: whether the images are raw and must be rectified.
        outputs: topics subscribed to.
        parameters: of the node, beyond the defaults.
    """

    name: str
    height: int
    width: int
    encoding: str = "rgb8"
    distortion: bool = False
    outputs: tuple[str, ...] = ("depth/image", "depth/camera_info")
    parameters: dict[str, str] = field(default_factory=dict)


EVERYTHING = ("depth/image", "depth/camera_info", "depth/confidence", "depth/preview", "points")

CASES = [
    case
    for height, width in ((480, 640), (720, 1280))
    for case in (
        Case(f"{width}x{height}", height, width),
        Case(f"{width}x{height} bgr8, rectified", height, width, "bgr8", distortion=True),
        Case(f"{width}x{height} jpeg", height, width, "jpeg", parameters={"image_transport": "compressed"}),
        Case(f"{width}x{height}, every output", height, width, outputs=EVERYTHING),
        Case(f"{width}x{height}, depth of input size", height, width, parameters={"depth_size": "input"}),
    )
]


def camera(case: Case, frames: int, pipe: Connection) -> None:
    """Send images and take depth: the other process."""
    import cv2
    import numpy as np
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
    from tf2_msgs.msg import TFMessage

    from dvmvs_ros.depth.frame_status import FrameStatus
    from dvmvs_ros.messages.conversions import (
        camera_info_message,
        fill_data,
        make_header,
        rgb_message,
        transform_message,
    )
    from dvmvs_ros.process.main_program import use_shared_memory_profile

    use_shared_memory_profile()
    rclpy.init(args=[])
    node, qos = rclpy.create_node("benchmark_camera"), QoSProfile(depth=10)
    compressed = case.encoding == "jpeg"
    image_type, image_topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
    images = node.create_publisher(image_type, image_topic, qos)
    infos, tf = node.create_publisher(CameraInfo, "camera_info", qos), node.create_publisher(TFMessage, "/tf", qos)
    arrived: dict[str, float] = {}
    statuses: list[FrameStatus] = []
    types = {"depth/camera_info": CameraInfo, "points": PointCloud2}
    for topic in case.outputs:
        arrive = lambda _, topic=topic: arrived.__setitem__(topic, time.perf_counter())  # noqa: E731
        node.create_subscription(types.get(topic, Image), topic, arrive, qos)
    node.create_subscription(
        DiagnosticArray,
        "depth_node/frame_status",
        lambda message: statuses.append(FrameStatus.from_message(message)),
        qos,
    )
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (case.height // 8, case.width // 8, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (case.width, case.height), interpolation=cv2.INTER_CUBIC)
    K = np.array(((0.8 * case.width, 0, case.width / 2), (0, 0.8 * case.width, case.height / 2), (0, 0, 1)))

    def wait(until) -> None:
        end = time.monotonic() + PATIENCE_S
        while not until():
            if time.monotonic() > end:
                raise TimeoutError(f"{case.name}: no answer within {PATIENCE_S} s")
            rclpy.spin_once(node, timeout_sec=0.5)

    wait(lambda: all(p.get_subscription_count() for p in (images, infos, tf)))
    wait(lambda: all(node.count_publishers(topic) for topic in (*case.outputs, "depth_node/frame_status")))
    settled = time.monotonic() + 1.0
    wait(lambda: time.monotonic() > settled)
    samples = []
    for i in range(frames):
        stamp_ns = 1_000_000_000 + i * STEP_NS
        header = make_header(stamp_ns, "camera")
        if compressed:
            message = CompressedImage(header=header, format="rgb8; jpeg compressed bgr8")
            fill_data(message, cv2.imencode(".jpg", np.roll(picture, i, axis=1))[1])
        else:
            message = rgb_message(np.roll(picture, i, axis=1), header)
            message.encoding = case.encoding
        info = camera_info_message(K, case.height, case.width, header)
        if case.distortion:
            info.d = [-0.1, 0.02, 0.0, 0.0, 0.0]
        world_T_cam = np.eye(4)
        world_T_cam[0, 3] = 0.12 * i
        statuses.clear()
        arrived.clear()
        if i == WARM_UP:
            pipe.send("measure")
            pipe.recv()
        tf.publish(TFMessage(transforms=[transform_message(stamp_ns, "odom", "camera", world_T_cam)]))
        infos.publish(info)
        sent_s = time.perf_counter()
        images.publish(message)
        expected = 0 if i == 0 else len(case.outputs)  # the first image has no depth
        wait(lambda expected=expected: statuses and len(arrived) == expected)
        if i >= WARM_UP:
            status = statuses[0]
            samples.append(
                {
                    "engine_ms": status.inference_ms,
                    "node_ms": status.latency_ms - status.inference_ms,
                    "round_trip_ms": (arrived["depth/image"] - sent_s) * 1e3 - status.inference_ms,
                }
            )
    pipe.send(samples)
    node.destroy_node()
    rclpy.try_shutdown()


def measure(case: Case, weights: str, frames: int) -> dict[str, float]:
    """Return the figures of one case."""
    from dvmvs_core.engine import DepthEngine
    from dvmvs_ros.depth_node import DepthNode
    from dvmvs_ros.process.main_program import ros_process, spin

    engine_cpu_s = 0.0
    plain_step = DepthEngine.step

    def timed_step(engine, frame):
        nonlocal engine_cpu_s
        started_s = time.process_time()
        prediction = plain_step(engine, frame)
        engine_cpu_s += time.process_time() - started_s
        return prediction

    context = multiprocessing.get_context("spawn")
    pipe, other_end = context.Pipe()
    client = context.Process(target=camera, args=(case, WARM_UP + frames, other_end))
    parameters = {"weights": weights, "qos_overrides./image.subscription.reliability": "reliable", **case.parameters}
    arguments = ["--ros-args", *(word for name, value in parameters.items() for word in ("-p", f"{name}:={value}"))]
    outcome: dict[str, object] = {}

    def follow(stop: threading.Event) -> None:
        """Note the processor time when the camera says so, and end when it is done."""
        try:
            pipe.recv()
            started_s = time.process_time() - engine_cpu_s
            pipe.send("go")
            outcome["samples"] = pipe.recv()
            outcome["cpu_s"] = time.process_time() - engine_cpu_s - started_s
        except EOFError:
            pass
        finally:
            stop.set()

    DepthEngine.step = timed_step
    try:
        with ros_process(arguments) as stop:
            node = DepthNode()
            client.start()
            other_end.close()
            follower = threading.Thread(target=follow, args=(stop,))
            follower.start()
            try:
                spin(stop, node)
            finally:
                follower.join()
                node.destroy_node()
    finally:
        DepthEngine.step = plain_step
        client.join()
    samples = outcome["samples"]
    columns = {name: [sample[name] for sample in samples] for name in samples[0]}
    return {
        "cpu_ms": outcome["cpu_s"] * 1e3 / frames,
        **{name: statistics.median(values) for name, values in columns.items()},
        **{f"{name}_p95": statistics.quantiles(values, n=20)[-1] for name, values in columns.items()},
    }


def narrow_network(path: Path) -> str:
    """Write a random network of the usual size and few channels; returns its path."""
    from dvmvs_core.config import preset
    from dvmvs_core.model.checkpoint import save_checkpoint
    from dvmvs_core.model.dvmvs import build_network

    config = preset(
        "small",
        depth_hypotheses=16,
        extractor_stem=8,
        extractor_channels=(8, 8, 8, 16, 16),
        pyramid_channels=8,
        hyper_channels=8,
    )
    save_checkpoint(path, {"fusionnet": build_network(config).eval()}, {"note": "random, for a benchmark"})
    return str(path)


def main() -> None:
    """Measure every case and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="a safetensors file, or the name of a shipped checkpoint, instead")
    parser.add_argument("--frames", type=int, default=40, help="images of each case, after the first few")
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    share_cores()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    results = []
    with tempfile.TemporaryDirectory() as folder, own_domain() as domain:
        os.environ.setdefault("ROS_DOMAIN_ID", str(domain))
        weights = options.weights or narrow_network(Path(folder) / "narrow.safetensors")
        for case in CASES:
            if options.case not in case.name:
                continue
            figures = measure(case, weights, options.frames)
            rounded = {name: round(value, 2) for name, value in figures.items()}
            print(case.name, json.dumps(rounded), flush=True)
            results.append({**asdict(case), **rounded})
    report = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "python": platform.python_version(),
        "weights": options.weights or "narrow",
        "frames": options.frames,
        "cases": results,
    }
    text = json.dumps(report, indent=1)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
