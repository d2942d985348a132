# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The depth node at full rate, with a random fault every few seconds: `make soak MINUTES=120`.

    python benchmarks/soak.py --minutes 15 --out out/soak

Writes soak.json (figures, every fault, the verdict), soak.svg (memory, threads, file descriptors, shared memory and
answers over time) and the node's log. The verdict is good if the node lived, never left images without an answer
for longer than a minute, logged no traceback, accounts for every image that it received (depth, a decision or a named
reason), and grew by at most 1 % in memory, and not in threads or file descriptors. Growth counts from minute 20, when
every buffer has been full and emptied some hundred times, or from a quarter of a run shorter than 80 minutes: the
median of the last third of what follows against that of its first.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import cv2
import numpy as np

from dvmvs_core.atomic import replacing
from dvmvs_core.process import share_cores
from dvmvs_ros.process.children import own_domain, ros_environment, tied_to_this_process

SIZE = (240, 320)
RATE_HZ = 30.0
STEP_M = 0.012
SAMPLE_S = 2.0
DEPTH = 10
"""Images that the middleware keeps. Each place has room for the largest that it ever held, so that is sent first."""
ANSWER_S = 60.0
GROWTH = 0.01
FULL_S = 20 * 60.0
"""When growth begins to count."""
K = np.array(((260.0, 0.0, 159.5), (0.0, 260.0, 119.5), (0.0, 0.0, 1.0)))


class World:
    """A camera, its poses, and everybody else on the network.

    Args:
        process: the node's.
        rng: of all chance.
    """

    frame = "camera"

    def __init__(self, process: subprocess.Popen, rng: Random) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from rclpy.signals import SignalHandlerOptions
        from sensor_msgs.msg import CameraInfo, Image
        from tf2_msgs.msg import TFMessage

        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self.rclpy, self.process, self.rng = rclpy, process, rng
        self.node = rclpy.create_node("soak")
        qos = QoSProfile(depth=100)
        self.images = self.node.create_publisher(Image, "image", qos)
        self.infos = self.node.create_publisher(CameraInfo, "camera_info", qos)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.masks = self.node.create_publisher(Image, "valid_mask", latched)
        self.tf = self.node.create_publisher(TFMessage, "/tf", qos)
        self.answers: Counter[str] = Counter()
        self.depths = self.sent = self.calls = self.unanswered_calls = 0
        self.answered_s = time.monotonic()
        self.values: dict[str, str] = {}
        self.levels: Counter[str] = Counter()
        self.node.create_subscription(DiagnosticArray, "depth_node/frame_status", self._on_status, qos)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos)
        self.subscriptions: list = []
        self.stamp_ns = time.time_ns()
        self.images_paused_s = self.poses_paused_s = 0.0
        self._x = 0.0
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._callers: dict = {}
        self._futures: list = []
        noise = np.random.default_rng(0).integers(0, 256, (90, 700, 3), dtype=np.uint8)
        self._wall = cv2.resize(noise, (2800, 360), interpolation=cv2.INTER_CUBIC)

    # The camera

    def next_stamp_ns(self) -> int:
        """Return the stamp of the next image."""
        self.stamp_ns += round(1e9 / RATE_HZ)
        return self.stamp_ns

    def step(self) -> None:
        """Send one frame: pose, intrinsics and image."""
        from tf2_msgs.msg import TFMessage

        from dvmvs_ros.messages.conversions import transform_message

        message = self.picture_message()
        if self.poses_paused_s <= 0:
            world_T_cam = np.eye(4)
            world_T_cam[0, 3] = self._x
            self.tf.publish(TFMessage(transforms=[transform_message(self.stamp_ns, "odom", self.frame, world_T_cam)]))
        self.infos.publish(self.info_message())
        if self.images_paused_s <= 0:
            self.publish_image(message)
        self.images_paused_s -= 1 / RATE_HZ
        self.poses_paused_s -= 1 / RATE_HZ

    def picture_message(self):
        """The next image."""
        from dvmvs_ros.messages.conversions import make_header, rgb_message

        self._x += STEP_M
        left = int(self._x * 130) % (self._wall.shape[1] - SIZE[1])
        image = np.ascontiguousarray(self._wall[60 : 60 + SIZE[0], left : left + SIZE[1]])
        return rgb_message(image, make_header(self.next_stamp_ns(), self.frame))

    def info_message(self):
        """Return the intrinsics of the newest image."""
        from dvmvs_ros.messages.conversions import camera_info_message, make_header

        return camera_info_message(K, *SIZE, make_header(self.stamp_ns, self.frame))

    def publish_image(self, message) -> None:
        """Send an image and count it."""
        if not isinstance(message.data, array.array):
            message.data = array.array("B", message.data)
        self.sent += 1
        self.images.publish(message)

    # The others

    def trigger(self, name: str) -> None:
        """Call ~/reset or ~/save_cloud."""
        from std_srvs.srv import Trigger

        self._call(Trigger, f"depth_node/{name}", Trigger.Request())

    def set_parameter(self, name: str, value) -> None:
        """Set a parameter of the node."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        self._call(SetParameters, "depth_node/set_parameters", request)

    def transition(self, number: int) -> None:
        """Ask for a transition of its life."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        self._call(ChangeState, "depth_node/change_state", ChangeState.Request(transition=Transition(id=number)))

    def change_subscribers(self, rng: Random) -> None:
        """Listen to some outputs, and to others no longer."""
        from sensor_msgs.msg import Image, PointCloud2

        for subscription in self.subscriptions:
            self.node.destroy_subscription(subscription)
        topics = {"depth/image": Image, "depth/confidence": Image, "depth/preview": Image, "points": PointCloud2}
        self.subscriptions = [
            self.node.create_subscription(kind, topic, lambda message: None, 5)
            for topic, kind in topics.items()
            if rng.random() < 0.6
        ]

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something later."""
        self._later.append((time.monotonic() + seconds, act))

    def tend(self) -> None:
        """Do what is due."""
        now_s = time.monotonic()
        due = [act for due_s, act in self._later if due_s <= now_s]
        self._later = [(due_s, act) for due_s, act in self._later if due_s > now_s]
        for act in due:
            act()
        waiting = [(future, since_s) for future, since_s in self._futures if not future.done()]
        self.unanswered_calls += sum(now_s - since_s > ANSWER_S for _, since_s in waiting)
        self._futures = [(future, since_s) for future, since_s in waiting if now_s - since_s <= ANSWER_S]

    def _call(self, kind, name: str, request) -> None:
        caller = self._callers.get(name)
        if caller is None:
            caller = self._callers[name] = self.node.create_client(kind, name)
        if caller.service_is_ready():
            self.calls += 1
            self._futures.append((caller.call_async(request), time.monotonic()))

    # What the node says

    def _on_status(self, message) -> None:
        from dvmvs_ros.depth.frame_status import FrameStatus

        status = FrameStatus.from_message(message)
        name = status.outcome.value if status.dropped else status.outcome.name.lower()
        self.answers[name] += 1
        self.depths += status.has_depth
        self.answered_s = time.monotonic()

    def _on_diagnostics(self, message) -> None:
        for status in message.status:
            part = status.name.rpartition(": ")[2]
            self.levels[f"{part} {('OK', 'WARN', 'ERROR', 'STALE')[status.level[0]]}"] += 1
            self.values.update({pair.key: pair.value for pair in status.values})


def sample(pid: int) -> dict[str, float]:
    """What a process holds: MB resident, threads, file descriptors, shared memory mapped in MB."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    shared = {line.split()[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "/dev/shm/" in line}
    sizes = [os.stat(path).st_size for path in shared if os.path.exists(path)]
    return {
        "rss_mb": int(status["VmRSS"].split()[0]) / 1024,
        "threads": int(status["Threads"]),
        "fds": len(os.listdir(f"/proc/{pid}/fd")),
        "shm_mb": sum(sizes) / 1e6,
        "shm_files": len(shared),
    }


def run(options: argparse.Namespace, domain: int) -> dict:
    """Soak, and return the figures."""
    from rclpy.executors import SingleThreadedExecutor
    from soak_faults import FAULTS

    rng = Random(options.seed)
    chosen = [fault for fault in FAULTS if options.only is None or fault.__name__ in options.only]
    options.out.mkdir(parents=True, exist_ok=True)
    environment = tied_to_this_process(ros_environment(domain))
    os.environ.update({key: environment[key] for key in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")})
    with tempfile.TemporaryDirectory() as clouds:
        parameters = {
            "weights": options.weights,
            "device": "cpu",
            "cloud_folder": clouds,
            "qos_overrides./image.subscription.reliability": "reliable",
            "qos_overrides./image.subscription.depth": DEPTH,
        }
        file = options.out / "parameters.yaml"
        file.write_text(json.dumps({"/**": {"ros__parameters": parameters}}))
        log = options.out / "node.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "dvmvs_ros.depth_node", "--ros-args", "--params-file", str(file)],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        world = World(process, rng)
        executor = SingleThreadedExecutor()
        executor.add_node(world.node)
        try:
            while "active: images from" not in log.read_text(errors="replace"):
                if process.poll() is not None:
                    raise SystemExit(f"the node ended with {process.returncode}; see {log}")
                executor.spin_once(timeout_sec=0.1)
            samples, faults, longest_s = _soak(options, world, executor, rng, chosen)
            accounted = _settle(world, executor)
        finally:
            alive = process.poll() is None
            if alive:
                process.send_signal(signal.SIGINT)
            code = process.wait(60)
        clouds_left = [path.name for path in Path(clouds).iterdir() if path.name.startswith(".")]
    text = log.read_text(errors="replace")
    return {
        "minutes": options.minutes,
        "seed": options.seed,
        "weights": options.weights,
        "rate_hz": RATE_HZ,
        "faults": dict(Counter(name for _, name in faults)),
        "images_sent": world.sent,
        "answers": dict(world.answers),
        "depth_images": world.depths,
        "node_counts": {
            k: v for k, v in world.values.items() if k.startswith(("images received", "decided", "dropped"))
        },
        "calls": world.calls,
        "calls_unanswered": world.unanswered_calls,
        "longest_silence_s": round(longest_s, 1),
        "levels": dict(world.levels),
        "alive_at_the_end": alive,
        "exit_code": code,
        "tracebacks": text.count("Traceback"),
        "unforeseen": text.count("unforeseen in"),
        "accounted": accounted,
        "unfinished_files": clouds_left,
        "fault_times": [(round(at_s, 1), name) for at_s, name in faults],
        "samples": samples,
    }


def _soak(options, world: World, executor, rng: Random, faults) -> tuple[list, list, float]:
    started_s = time.monotonic()
    ends_s = started_s + options.minutes * 60.0
    next_frame_s = next_sample_s = started_s
    next_fault_s = started_s + 10.0
    from soak_faults import LARGEST, image_of_another_size

    samples, injected, longest_s, answers = [], [], 0.0, 0
    world.answered_s = started_s
    for _ in range(10 * DEPTH):
        image_of_another_size(world, rng, LARGEST)
        executor.spin_once(timeout_sec=0.1)
    while (now_s := time.monotonic()) < ends_s and world.process.poll() is None:
        if now_s >= next_frame_s:
            world.step()
            next_frame_s = max(next_frame_s + 1 / RATE_HZ, now_s - 0.5)
        if now_s >= next_fault_s and faults:
            fault = rng.choice(faults)
            injected.append((now_s - started_s, fault.__name__))
            fault(world, rng)
            next_fault_s = now_s + rng.uniform(1.0, 5.0)
        if now_s >= next_sample_s:
            total = world.answers.total()
            samples.append(
                {"s": now_s - started_s, **sample(world.process.pid), "answers_hz": (total - answers) / SAMPLE_S}
            )
            answers, next_sample_s = total, now_s + SAMPLE_S
        world.tend()
        longest_s = max(longest_s, now_s - world.answered_s)
        executor.spin_once(timeout_sec=max(0.0, min(next_frame_s - time.monotonic(), 0.01)))
    return samples, injected, longest_s


def _settle(world: World, executor) -> bool:
    """Stop sending, and wait until the node says that every image that it received has ended somewhere."""
    from lifecycle_msgs.msg import Transition

    world.transition(Transition.TRANSITION_ACTIVATE)  # a deactivated one would keep silent
    ends_s = time.monotonic() + ANSWER_S
    while time.monotonic() < ends_s and world.process.poll() is None:
        executor.spin_once(timeout_sec=0.1)
        counts = {key: int(value) for key, value in world.values.items() if key.startswith(("decided ", "dropped "))}
        if counts and sum(counts.values()) == int(world.values.get("images received", -1)):
            return True
    return False


def judge(figures: dict) -> list[str]:
    """Return what is wrong; nothing if all is well."""
    samples = figures["samples"]
    wrong = []
    if not figures["alive_at_the_end"] or figures["exit_code"] != 0:
        wrong.append(f"the node ended with {figures['exit_code']}")
    if figures["longest_silence_s"] > ANSWER_S:
        wrong.append(f"no answer for {figures['longest_silence_s']} s")
    if figures["tracebacks"]:
        wrong.append(f"{figures['tracebacks']} tracebacks in its log")
    if not figures["accounted"]:
        wrong.append("not every image that was received ended in depth, a decision or a named reason")
    if figures["calls_unanswered"]:
        wrong.append(f"{figures['calls_unanswered']} service calls were not answered")
    if figures["unfinished_files"]:
        wrong.append(f"half-written files are left: {figures['unfinished_files']}")
    full_s = min(FULL_S, figures["minutes"] * 60 / 4)
    full = [one for one in samples if one["s"] >= full_s]
    third = len(full) // 3
    figures["growth"] = {"from minute": round(full_s / 60, 1)}
    if third == 0:
        return [*wrong, f"too few samples after {full_s:.0f} s to judge growth"]
    for name, most in (("rss_mb", GROWTH), ("threads", 0.0), ("fds", 0.0), ("shm_mb", GROWTH)):
        early, late = (float(np.median([one[name] for one in part])) for part in (full[:third], full[-third:]))
        figures["growth"][name] = {"first third": round(early, 2), "last third": round(late, 2)}
        if late > early * (1 + most) + 1e-9:
            wrong.append(f"{name} grew from {early:.1f} to {late:.1f}")
    return wrong


def plot(figures: dict) -> str:
    """Return the samples over time as SVG."""
    rows = (
        ("rss_mb", "memory, MB"),
        ("threads", "threads"),
        ("fds", "file descriptors"),
        ("shm_mb", "shared memory mapped, MB"),
        ("answers_hz", "answers a second"),
    )
    width, height, left = 900, 120, 60
    seconds = max(one["s"] for one in figures["samples"]) or 1.0
    parts = []
    for row, (name, title) in enumerate(rows):
        values = [one[name] for one in figures["samples"]]
        top, base = max(values) * 1.1 or 1.0, (row + 1) * height - 20
        across: dict[int, float] = {}  # the largest of each unit of width, so that the file stays small
        for one in figures["samples"]:
            x = round(left + one["s"] / seconds * (width - left - 10))
            across[x] = max(one[name], across.get(x, one[name]))
        points = " ".join(f"{x},{base - value / top * (height - 40):.1f}" for x, value in across.items())
        parts.append(
            f'<text x="{left}" y="{base - height + 34}">{title}: {min(values):.1f} to {max(values):.1f}</text>'
            f'<line x1="{left}" x2="{width - 10}" y1="{base}" y2="{base}" stroke="#999"/>'
            f'<text x="4" y="{base}">0</text><text x="4" y="{base - height + 44}">{top:.0f}</text>'
            f'<polyline points="{points}" fill="none" stroke="#06c"/>'
        )
    ticks = "".join(
        f'<text x="{left + part * (width - left - 60) / 4:.0f}" y="{len(rows) * height + 8}">'
        f"{seconds * part / 240:.1f} min</text>"
        for part in range(5)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {len(rows) * height + 16}"'
        ' font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(parts)}{ticks}</svg>\n"
    )


def main() -> int:
    """Soak and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=Path("out/soak"))
    parser.add_argument("--weights", default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="names of the faults to inject; none for a run without")
    options = parser.parse_args()
    share_cores()
    with own_domain() as domain:
        figures = run(options, domain)
    wrong = judge(figures)
    figures["verdict"] = "good" if not wrong else "; ".join(wrong)
    for name, text in (("soak.json", json.dumps(figures, indent=1) + "\n"), ("soak.svg", plot(figures))):
        with replacing(options.out / name) as unfinished:
            unfinished.write_text(text)
    print(
        f"{figures['images_sent']} images, {sum(figures['faults'].values())} faults, {figures['depth_images']} depth"
        f" images, growth {figures['growth']}; verdict: {figures['verdict']}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
