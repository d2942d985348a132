"""A node in a process of its own, and a client in the test's process that speaks to it over DDS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
STARTUP_S = 60.0
ANSWER_S = 20.0


@pytest.fixture(scope="session")
def ros_environment() -> dict[str, str]:
    """Environment of this test run's own ROS domain, set in this process too."""
    pytest.importorskip("rclpy")
    os.environ.update(
        ROS_DOMAIN_ID=str(10 + os.getpid() % 90),
        ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
        FASTDDS_DEFAULT_PROFILES_FILE=str(ROOT / "config" / "fastdds.xml"),
        OMP_NUM_THREADS="1",
    )
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory) -> Path:
    """A randomly initialised network, small enough to run in milliseconds."""
    import torch

    from dvmvs_core.config import preset
    from dvmvs_core.model.checkpoint import save_checkpoint
    from dvmvs_core.model.dvmvs import build_network

    torch.manual_seed(0)
    config = preset(
        "small",
        height=64,
        width=96,
        depth_hypotheses=16,
        extractor_stem=8,
        extractor_channels=(8, 8, 8, 16, 16),
        pyramid_channels=8,
        hyper_channels=8,
    )
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(path, {"fusionnet": build_network(config).eval()}, {"note": "random, for tests"})
    return path


@pytest.fixture(scope="session")
def scene(tmp_path_factory) -> Path:
    """A scene folder of 14 small images with sensor depth, whose camera walks 6 cm a frame."""
    folder = tmp_path_factory.mktemp("scenes") / "walk"
    (folder / "images").mkdir(parents=True)
    (folder / "depth").mkdir()
    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8), (240, 160), interpolation=cv2.INTER_CUBIC)
    poses = []
    for i in range(14):
        angle = 0.02 * i
        world_T_cam = np.eye(4)
        world_T_cam[:3, :3] = cv2.Rodrigues(np.array((0.0, angle, 0.3 * angle)))[0]
        world_T_cam[:3, 3] = (0.06 * i, 0.0, 0.01 * i)
        poses.append(world_T_cam.ravel())
        cv2.imwrite(str(folder / "images" / f"{i:05d}.png"), texture[20:68, 4 * i : 4 * i + 64])
        depth = rng.integers(600, 5000, (48, 64), dtype=np.uint16)
        depth[:5] = 0
        cv2.imwrite(str(folder / "depth" / f"{i:05d}.png"), depth)
    np.savetxt(folder / "poses.txt", poses)
    np.savetxt(folder / "K.txt", Client.K)
    return folder


class NodeProcess:
    """A module of dvmvs_ros as a process.

    Args:
        module: name of the module below dvmvs_ros.
        parameters: its ROS parameters.
        environment: its environment.
        log: file for what it prints.
        remap: "from:=to" rules.
    """

    def __init__(
        self, module: str, parameters: dict, environment: dict[str, str], log: Path, remap: tuple[str, ...] = ()
    ) -> None:
        self._log = log
        file = log.with_suffix(".yaml")
        file.write_text(json.dumps({"/**": {"ros__parameters": parameters}}))
        rules = [word for rule in remap for word in ("-r", rule)]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"dvmvs_ros.{module}", "--ros-args", "--params-file", str(file), *rules],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def log(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def lines(self, part: str) -> list[str]:
        """The lines that contain a text."""
        return [line for line in self.log().splitlines() if part in line]

    def wait_for(self, part: str, timeout_s: float = STARTUP_S) -> None:
        """Wait until it has printed a text."""
        end = time.monotonic() + timeout_s
        while part not in self.log():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log()}"
            assert time.monotonic() < end, f"no {part!r} within {timeout_s} s:\n{self.log()}"
            time.sleep(0.05)

    def wait(self, timeout_s: float = STARTUP_S) -> int:
        """Wait until it ends; returns its exit code."""
        return self.process.wait(timeout_s)

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it as Ctrl-C does; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(20.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.fixture(scope="session")
def start_node(ros_environment, tmp_path_factory) -> Callable[..., NodeProcess]:
    """Start a module as a process; what still runs at the end is stopped."""
    processes = []

    def start(module: str, parameters: dict, remap: tuple[str, ...] = ()) -> NodeProcess:
        log = tmp_path_factory.mktemp("node") / f"{module}.log"
        processes.append(NodeProcess(module, parameters, ros_environment, log, remap))
        return processes[-1]

    yield start
    for process in processes:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()


class Client:
    """Camera, odometry and subscriber in one, beside the node under test."""

    K = np.array(((60.0, 0.0, 31.5), (0.0, 62.0, 23.5), (0.0, 0.0, 1.0)))

    def __init__(self) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from rclpy.signals import SignalHandlerOptions
        from sensor_msgs.msg import CameraInfo, Image, PointCloud2
        from tf2_msgs.msg import TFMessage

        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("client")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        qos = QoSProfile(depth=50)
        self.image = self.node.create_publisher(Image, "image", qos)
        self.camera_info = self.node.create_publisher(CameraInfo, "camera_info", qos)
        self.tf = self.node.create_publisher(TFMessage, "/tf", qos)
        self.statuses: list = []
        self.depths: list = []
        self.depth_infos: list = []
        self.clouds: list = []
        subscribe = self.node.create_subscription
        subscribe(DiagnosticArray, "depth_node/frame_status", self._on_status, qos)
        subscribe(Image, "depth/image", self.depths.append, qos)
        subscribe(CameraInfo, "depth/camera_info", self.depth_infos.append, qos)
        subscribe(PointCloud2, "points", self.clouds.append, qos)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.tf_static = self.node.create_publisher(TFMessage, "/tf_static", latched)

    def _on_status(self, message) -> None:
        from dvmvs_ros.frame_status import FrameStatus

        self.statuses.append(FrameStatus.from_message(message))

    def close(self) -> None:
        import rclpy

        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()

    def wait(self, until: Callable[[], object], timeout_s: float = ANSWER_S) -> None:
        """Handle messages until a condition holds."""
        end = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < end, "the answer did not come"
            self.executor.spin_once(timeout_sec=0.05)

    def idle(self, seconds: float) -> None:
        """Handle messages for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def wait_until_connected(self) -> None:
        """Wait until the node listens and speaks; both sides must know of each other."""
        publishers = (self.image, self.camera_info, self.tf)
        self.wait(lambda: all(p.get_subscription_count() for p in publishers), STARTUP_S)
        self.wait(lambda: self.node.count_publishers("/depth_node/frame_status"), STARTUP_S)
        self.idle(0.5)

    def send_pose(self, stamp_ns: int, world_T_cam: np.ndarray) -> None:
        from tf2_msgs.msg import TFMessage

        from dvmvs_ros.conversions import transform_message

        self.tf.publish(TFMessage(transforms=[transform_message(stamp_ns, "odom", "camera", world_T_cam)]))

    def send_camera_info(self, stamp_ns: int, height: int = 48, width: int = 64) -> None:
        from dvmvs_ros.conversions import camera_info_message, make_header

        self.camera_info.publish(camera_info_message(self.K, height, width, make_header(stamp_ns, "camera")))

    @staticmethod
    def picture(stamp_ns: int) -> np.ndarray:
        """The smooth random RGB image of a time."""
        noise = np.random.default_rng(stamp_ns).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        return cv2.resize(noise, (64, 48), interpolation=cv2.INTER_CUBIC)

    def send_image(self, stamp_ns: int, image: np.ndarray | None = None, **changes) -> None:
        from dvmvs_ros.conversions import make_header, rgb_message

        image = self.picture(stamp_ns) if image is None else image
        message = rgb_message(image, make_header(stamp_ns, "camera"))
        for name, value in changes.items():
            setattr(message, name, value)
        self.image.publish(message)

    def answer(self, stamp_ns: int, timeout_s: float = ANSWER_S):
        """Wait for the status of one image, and return it."""

        def found() -> list:
            return [status for status in self.statuses if status.stamp_ns == stamp_ns]

        self.wait(found, timeout_s)
        return found()[0]


@pytest.fixture(scope="module")
def client(ros_environment) -> Client:
    """A client in this process."""
    client = Client()
    yield client
    client.close()
