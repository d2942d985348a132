# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A node in a process of its own, and a client in the test's process that speaks to it over DDS."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_poses import pose_at

from dvmvs_ros.process.children import own_domain, tied_to_this_process

ROOT = Path(__file__).parents[2]
# Guards against hanging, which no test that passes waits for.
STARTUP_S = 240.0
ANSWER_S = 120.0
AGAIN_S = 2.0
"""A server answers only a caller that it knows: one that it does not know yet asks again after this long."""


class RosModule(pytest.Module):
    """A module of tests, which is skipped where it cannot be imported since there is no ROS."""

    def collect(self):
        try:
            return super().collect()
        except self.CollectError:
            if importlib.util.find_spec("rclpy") is None:
                pytest.skip("there is no rclpy", allow_module_level=True)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> RosModule:
    return RosModule.from_parent(parent, path=module_path)


QUICK_DISCOVERY = """
<builtin>
  <discovery_config>
    <leaseAnnouncement><nanosec>250000000</nanosec></leaseAnnouncement>
  </discovery_config>
</builtin>
"""
"""Whoever missed that a process is there hears of it after a quarter of a second; by default after three, each time."""


@pytest.fixture(scope="session")
def ros_environment(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Environment of this test run's own ROS domain, set in this process too."""
    pytest.importorskip("rclpy")
    profile = tmp_path_factory.mktemp("dds") / "fastdds.xml"
    ours = (ROOT / "config" / "fastdds.xml").read_text()
    profile.write_text(ours.replace("<rtps>", f"<rtps>{QUICK_DISCOVERY}"))
    with own_domain() as domain:
        os.environ.update(
            ROS_DOMAIN_ID=str(domain),
            ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
            FASTDDS_DEFAULT_PROFILES_FILE=str(profile),
            OMP_NUM_THREADS="1",
        )
        yield {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory) -> Path:
    """A randomly initialised network, small enough to run in milliseconds."""
    from tiny_networks import tiny_network

    from dvmvs_core.model.checkpoint import save_checkpoint

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    network = tiny_network(depth_hypotheses=16, pyramid_channels=8, hyper_channels=8)
    save_checkpoint(path, {"fusionnet": network}, {"note": "random, for tests"})
    return path


class HandClock:
    """A clock that goes on only by hand, seconds."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def engine(tiny_weights):
    """The network on the CPU, without a node."""
    from dvmvs_core.config import EngineConfig
    from dvmvs_core.engine import DepthEngine

    return DepthEngine.from_weights(tiny_weights, config=EngineConfig(device="cpu"))


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


@pytest.fixture(scope="session")
def masked_scene(scene, tmp_path_factory) -> Path:
    """The scene, of a camera that sees its robot's arm."""
    folder = tmp_path_factory.mktemp("masked") / scene.name
    shutil.copytree(scene, folder)
    mask = np.full((48, 64), 255, np.uint8)
    mask[24:, 16:48] = 0
    cv2.imwrite(str(folder / "mask.png"), mask)
    return folder


class NodeProcess:
    """A module of dvmvs_ros as a process.

    Args:
        module: name of the module below dvmvs_ros.
        parameters: its ROS parameters; or, under full names of nodes, theirs.
        environment: its environment.
        log: file for what it prints.
        remap: "from:=to" rules.
        arguments: what stands before the ROS arguments.
        launcher: script that runs the module, and its arguments; Python itself by default.
    """

    def __init__(
        self,
        module: str,
        parameters: dict,
        environment: dict[str, str],
        log: Path,
        remap: tuple[str, ...] = (),
        arguments: tuple[str, ...] = (),
        launcher: tuple[str, ...] = (),
    ) -> None:
        self._log = log
        file = log.with_suffix(".yaml")
        by_node = parameters if parameters and all(name.startswith("/") for name in parameters) else {"/**": parameters}
        file.write_text(json.dumps({name: {"ros__parameters": values} for name, values in by_node.items()}))
        rules = [word for rule in remap for word in ("-r", rule)]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, *launcher, "-m", f"dvmvs_ros.{module}", *arguments),
                    *("--ros-args", "--params-file", str(file), *rules),
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=tied_to_this_process(environment),
                start_new_session=True,
            )

    def log(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def lines(self, part: str) -> list[str]:
        """The lines that contain a text."""
        return [line for line in self.log().splitlines() if part in line]

    def wait_for(self, part: str, count: int = 1, timeout_s: float = STARTUP_S) -> None:
        """Wait until it has printed so many lines that contain a text."""
        end = time.monotonic() + timeout_s
        while len(self.lines(part)) < count:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log()}"
            assert time.monotonic() < end, f"fewer than {count} lines of {part!r} within {timeout_s} s:\n{self.log()}"
            time.sleep(0.05)

    def wait(self, timeout_s: float = STARTUP_S) -> int:
        """Wait until it ends; returns its exit code."""
        return self.process.wait(timeout_s)

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it as Ctrl-C does; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(ANSWER_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def end_well(self) -> None:
        """End it as Ctrl-C does, and check how that went."""
        assert self.stop() == 0 and "Traceback" not in self.log(), self.log()


@pytest.fixture(scope="session")
def start_node(ros_environment, tmp_path_factory) -> Callable[..., NodeProcess]:
    """Start a module as a process; what still runs at the end is stopped."""
    processes = []

    def start(module: str, parameters: dict, **how: tuple[str, ...]) -> NodeProcess:
        log = tmp_path_factory.mktemp("node") / f"{module}.log"
        processes.append(NodeProcess(module, parameters, ros_environment, log, **how))
        return processes[-1]

    yield start
    for process in processes:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()


@pytest.fixture(scope="session")
def start_depth_node(start_node, tiny_weights) -> Callable[..., NodeProcess]:
    """Start a depth node on the CPU that loses nothing of its camera, whose topics may have other names."""

    def start(
        image: str = "image", camera_info: str = "camera_info", how: dict | None = None, **parameters
    ) -> NodeProcess:
        reliable = {f"qos_overrides./{topic}.subscription.reliability": "reliable" for topic in (image, camera_info)}
        given = {"weights": str(tiny_weights), "device": "cpu", "transform_timeout_s": 60.0, **reliable, **parameters}
        node = start_node("depth_node", given, **(how or {}))
        node.wait_for("active: images from")
        return node

    return start


@pytest.fixture(scope="module")
def start_played_node(start_node, client, tiny_weights) -> Callable[..., NodeProcess]:
    """Start a depth node that listens to the images of a player."""

    def start(image: str = "image_rect", mask: str = "valid_mask") -> NodeProcess:
        node = start_node(
            "depth_node",
            {"weights": str(tiny_weights), "device": "cpu", "use_sim_time": True},
            remap=(f"image:=camera/{image}", "camera_info:=camera/camera_info", f"valid_mask:=camera/{mask}"),
        )
        node.wait_for("active: images from")
        client.wait_until_known("depth_node")
        return node

    return start


@pytest.fixture(scope="module")
def play(start_node, client) -> Callable[..., NodeProcess]:
    """Play a recording to its end; returns the player."""

    def play(sequence: Path, remap: tuple[str, ...] = (), **parameters) -> NodeProcess:
        player = start_node("replay_node", {"sequence": str(sequence), **parameters}, remap=remap)
        client.wait(lambda: player.process.poll() is not None, STARTUP_S)
        assert player.process.returncode == 0, player.log()
        return player

    return play


class Answers:
    """What a depth node says of its images."""

    def __init__(self) -> None:
        self.statuses: list = []

    def _on_status(self, message) -> None:
        from dvmvs_ros.depth.frame_status import FrameStatus

        self.statuses.append(FrameStatus.from_message(message))

    def answer(self, stamp_ns: int):
        """Wait for the status of one image, and return it."""

        def found() -> list:
            return [status for status in self.statuses if status.stamp_ns == stamp_ns]

        self.wait(found)
        return found()[0]


class Client(Answers):
    """Camera, odometry and subscriber in one, next to the node under test."""

    K = np.array(((60.0, 0.0, 31.5), (0.0, 62.0, 23.5), (0.0, 0.0, 1.0)))

    def __init__(self) -> None:
        super().__init__()
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

    def wait_until_known(self, name: str) -> None:
        """Wait until a node knows all publishers and subscriptions that were made here so far.

        A match is known to one side a moment before it is to the other. The node learns of ours in the order in which
        they were made, and answers a service only to a caller that it knows, which is made last here.

        Args:
            name: the node's name, with its namespace.
        """
        from rcl_interfaces.srv import GetParameters

        caller = self.node.create_client(GetParameters, f"/{name}/get_parameters")
        self.wait(caller.service_is_ready, STARTUP_S)
        answers = []
        while not any(answer.done() for answer in answers):
            assert len(answers) * AGAIN_S < STARTUP_S, f"/{name} does not answer"
            answers.append(caller.call_async(GetParameters.Request()))
            end = time.monotonic() + AGAIN_S
            self.wait(lambda: time.monotonic() > end or any(answer.done() for answer in answers))  # noqa: B023
        self.node.destroy_client(caller)

    def wait_until_connected(self) -> None:
        """Wait until the node listens and speaks; both sides must know of each other."""
        publishers = (self.image, self.camera_info, self.tf)
        self.wait(lambda: all(p.get_subscription_count() for p in publishers), STARTUP_S)
        self.wait(lambda: self.node.count_publishers("/depth_node/frame_status"), STARTUP_S)
        self.wait_until_known("depth_node")

    def send_pose(self, stamp_ns: int, world_T_cam: np.ndarray) -> None:
        from tf2_msgs.msg import TFMessage

        from dvmvs_ros.messages.conversions import transform_message

        self.tf.publish(TFMessage(transforms=[transform_message(stamp_ns, "odom", "camera", world_T_cam)]))

    def send_camera_info(self, stamp_ns: int, height: int = 48, width: int = 64, d: Sequence[float] = ()) -> None:
        from dvmvs_ros.messages.conversions import camera_info_message, make_header

        message = camera_info_message(self.K, height, width, make_header(stamp_ns, "camera"))
        message.d = list(d or message.d)
        self.camera_info.publish(message)

    def frame(self, stamp_ns: int, world_T_cam: np.ndarray):
        """Send pose, intrinsics and image of a time, and return the node's answer."""
        self.send_pose(stamp_ns, world_T_cam)
        self.send_camera_info(stamp_ns)
        self.send_image(stamp_ns)
        return self.answer(stamp_ns)

    def walk(self, frames: int, step_m: float, begin_ns: int, step_ns: int) -> list:
        """Send frames from left to right, each when that before is answered; returns the answers."""
        return [self.frame(begin_ns + i * step_ns, pose_at(i * step_m)) for i in range(frames)]

    @staticmethod
    def picture(stamp_ns: int) -> np.ndarray:
        """The smooth random RGB image of a time."""
        noise = np.random.default_rng(stamp_ns).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        return cv2.resize(noise, (64, 48), interpolation=cv2.INTER_CUBIC)

    def send_image(self, stamp_ns: int, image: np.ndarray | None = None, **changes) -> None:
        from dvmvs_ros.messages.conversions import make_header, rgb_message

        image = self.picture(stamp_ns) if image is None else image
        message = rgb_message(image, make_header(stamp_ns, "camera"))
        for name, value in changes.items():
            setattr(message, name, value)
        self.image.publish(message)


class Manager:
    """Calls the services of one node, as lifecycle managers and `ros2 param` do.

    Args:
        client: whose node calls.
        name: the node's name, with its namespace.
    """

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._callers: dict = {}

    def call(self, service_type, service: str, **fields):
        if service not in self._callers:
            caller = self._client.node.create_client(service_type, f"/{self._name}/{service}")
            self._client.wait(caller.service_is_ready, STARTUP_S)
            self._client.wait_until_known(self._name)
            self._callers[service] = caller
        future = self._callers[service].call_async(service_type.Request(**fields))
        # Configuring imports torch and warms the network up: seconds, and many on a busy machine.
        self._client.wait(future.done, STARTUP_S)
        return future.result()

    def trigger(self, service: str):
        from std_srvs.srv import Trigger

        return self.call(Trigger, service)

    def change(self, transition: int) -> bool:
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        return self.call(ChangeState, "change_state", transition=Transition(id=transition)).success

    def state(self) -> int:
        from lifecycle_msgs.srv import GetState

        return self.call(GetState, "get_state").current_state.id

    def set(self, name: str, value: bool | str | int | float):
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        parameter = Parameter(name, value=value).to_parameter_msg()
        return self.call(SetParameters, "set_parameters", parameters=[parameter]).results[0]


class Diagnostics:
    """Reads /diagnostics.

    Args:
        client: whose node listens.

    Attributes:
        arrays: the messages so far.
    """

    def __init__(self, client: Client) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import QoSProfile

        self._client = client
        self.arrays: list = []
        client.node.create_subscription(DiagnosticArray, "/diagnostics", self.arrays.append, QoSProfile(depth=100))

    def statuses(self, name: str = "", part: str = "") -> list:
        """The statuses so far whose name ends with one text, and whose message holds another."""
        every = (status for array in self.arrays for status in array.status)
        return [status for status in every if status.name.endswith(name) and part in status.message]

    def wait_for(self, name: str, level: bytes, part: str, meanwhile: Callable[[], object] = lambda: None):
        """Wait for such a status of a level, and do something thirty times a second meanwhile; returns it."""

        def found_or_sent():
            if found := [status for status in self.statuses(name, part) if status.level == level]:
                return found[0]
            meanwhile()
            self._client.idle(1 / 30)
            return None

        try:
            self._client.wait(found_or_sent)
        except AssertionError:
            seen = [(status.level, status.message) for status in self.statuses(name)[-3:]]
            raise AssertionError(f"no {level} {part!r} of {name}, but {seen}") from None
        return found_or_sent()


@pytest.fixture(scope="module")
def diagnostics(client) -> Diagnostics:
    """What nodes say of themselves."""
    return Diagnostics(client)


@pytest.fixture(scope="module")
def make_manager(client) -> Callable[[str], Manager]:
    """Make a manager of a node by its name."""
    return lambda name: Manager(client, name)


class Camera(Answers):
    """A camera in a namespace of its own, with the poses and the subscribers of its node.

    Args:
        client: whose node publishes and listens.
        name: the namespace; the optical frame is `{name}_optical`.
    """

    def __init__(self, client: Client, name: str) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import CameraInfo, Image

        super().__init__()
        self._client, self.wait = client, client.wait
        self._name = name
        self.frame = f"{name}_optical"
        qos = QoSProfile(depth=50)
        self.image = client.node.create_publisher(Image, f"/{name}/image", qos)
        self.camera_info = client.node.create_publisher(CameraInfo, f"/{name}/camera_info", qos)
        client.node.create_subscription(DiagnosticArray, f"/{name}/depth_node/frame_status", self._on_status, qos)

    def listen(self, message_type: type, topic: str, **policies) -> list:
        """Subscribe to a topic of its node, which knows of it then; returns the list that its messages go to."""
        from rclpy.qos import QoSProfile

        received: list = []
        topic = topic if topic.startswith("/") else f"/{self._name}/{topic}"
        qos = QoSProfile(depth=50, **policies)
        self._client.node.create_subscription(message_type, topic, received.append, qos)
        self._client.wait_until_known(f"{self._name}/depth_node")
        return received

    def wait_until_connected(self) -> None:
        """Wait until its node listens and speaks."""
        node = self._client.node
        self._client.wait(
            lambda: self.image.get_subscription_count() and self.camera_info.get_subscription_count(), STARTUP_S
        )
        self._client.wait(lambda: node.count_publishers(f"/{self._name}/depth_node/frame_status"), STARTUP_S)
        self._client.wait(self._client.tf.get_subscription_count, STARTUP_S)
        self._client.wait_until_known(f"{self._name}/depth_node")

    def send(
        self,
        stamp_ns: int,
        world_T_cam: np.ndarray | None,
        image: np.ndarray | None = None,
        distortion: tuple[float, ...] = (),
    ) -> None:
        """Send pose (unless None), intrinsics and image of a time."""
        from tf2_msgs.msg import TFMessage

        from dvmvs_ros.messages.conversions import camera_info_message, make_header, rgb_message, transform_message

        image = self._client.picture(stamp_ns) if image is None else image
        header = make_header(stamp_ns, self.frame)
        if world_T_cam is not None:
            transform = transform_message(stamp_ns, "odom", self.frame, world_T_cam)
            self._client.tf.publish(TFMessage(transforms=[transform]))
        info = camera_info_message(Client.K, *image.shape[:2], header)
        info.d = [*distortion, *info.d[len(distortion) :]]
        self.camera_info.publish(info)
        self.image.publish(rgb_message(image, header))


@pytest.fixture(scope="module")
def make_camera(client) -> Callable[[str], Camera]:
    """Make a camera in a namespace, whose node listens and speaks unless it is yet to come."""

    def make(name: str, connected: bool = True) -> Camera:
        camera = Camera(client, name)
        if connected:
            camera.wait_until_connected()
        return camera

    return make


@pytest.fixture(scope="module")
def begins_ns() -> Iterator[int]:
    """Stamps that tests of one node begin at, each ten seconds after the one before: time never goes back."""
    return itertools.count(10_000_000_000, 10_000_000_000)


@pytest.fixture(scope="module")
def client(ros_environment) -> Client:
    """A client in this process."""
    client = Client()
    yield client
    client.close()
