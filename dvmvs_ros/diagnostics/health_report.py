# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`/diagnostics`: what comes in, where the poses are, what goes out and what runs; and in words, what is wrong.

Whatever is wrong is said in the log too, once and then every half minute, so that nobody faces silence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.lifecycle import LifecycleNode

from dvmvs_core.process import resident_bytes
from dvmvs_ros.depth.config import LiveConfig, NodeConfig
from dvmvs_ros.depth.frame_timeline import BEFORE_POSE, NO_FAULT, DropReason
from dvmvs_ros.depth.input_watch import Input
from dvmvs_ros.depth.inputs import Inputs
from dvmvs_ros.depth.mask_input import MaskInput
from dvmvs_ros.depth.settings import FROM_TF
from dvmvs_ros.diagnostics.stale_transforms import stale_transforms
from dvmvs_ros.diagnostics.statistics import Statistics
from dvmvs_ros.diagnostics.topic_hints import TopicHints
from dvmvs_ros.process.node_log import QuietLog, Unforeseen
from dvmvs_ros.process.qos import output_qos

if TYPE_CHECKING:
    from dvmvs_core.engine import DepthEngine

PERIOD_S = 1.0
REPEAT_S = 30.0
PAGE = "docs/troubleshooting.md"

_SECTIONS = (
    ("stamps of both of one clock", "clocks-apart"),
    ("Poses do come, but are refused", "poses-refused"),
    ("poses refused", "poses-refused"),
    ("no image on", "no-image"),
    ("waiting for the first image", "no-image"),
    ("no camera_info on", "no-camera_info"),
    ("no usable camera_info", "no-camera_info"),
    ("no mask on", "mask-not-used"),
    ("a mask on", "mask-not-used"),
    ("images dropped in the last seconds", "images-dropped"),
    ("of the images are dropped", "images-dropped"),
    ("no pose on", "no-pose"),
    ("no transform from", "no-pose"),
    ("world_frame are both", "camera-in-its-own-frame"),
    ("contradict each other", "poses-contradict"),
    ("poses look unscaled", "poses-unscaled"),
    ("images are too far apart", "images-too-far-apart"),
    ("poses jump", "poses-jump"),
    ("pure rotation", "pure-rotation"),
    ("standing still", "standing-still"),
    ("tracking is lost", "tracking-lost"),
    ("old when it is published", "depth-late"),
    ("with one image", "depth-late"),
    ("slower than the camera", "depth-late"),
    ("something unforeseen happened", "something-unforeseen"),
    ("answer every image each", "two-nodes-of-one-name"),
)
"""(part of a message, heading of its section); the first that fits counts."""

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class Diagnostics:
    """Publishes the state of one configured node.

    Args:
        node: the node.
        config: its configuration.
        engine: its engine.
        statistics: its counts.
        live: gives the configuration that holds now.
        depth_range_m: gives nearest and farthest depth that can be published now.
        busy_s: gives for how long the network has been at the image at hand.
        unforeseen: what was unforeseen so far.
    """

    def __init__(
        self,
        node: LifecycleNode,
        config: NodeConfig,
        engine: DepthEngine,
        statistics: Statistics,
        live: Callable[[], LiveConfig],
        depth_range_m: Callable[[], tuple[float, float]],
        busy_s: Callable[[], float],
        unforeseen: Unforeseen,
    ) -> None:
        self._node = node
        self._config = config
        self._engine = engine
        self._statistics = statistics
        self._live = live
        self._depth_range_m = depth_range_m
        self._busy_s = busy_s
        self._unforeseen = unforeseen
        self._unforeseen_before = unforeseen.count
        self._warn = QuietLog(node.get_logger().warning, REPEAT_S)
        self._hints = TopicHints(node)
        self._publisher = node.create_lifecycle_publisher(
            DiagnosticArray, "/diagnostics", **output_qos(node, "/diagnostics", self._warn, depth=1)
        )

    def publish(self, inputs: Inputs) -> None:
        """Publish the state, and log what is wrong.

        Args:
            inputs: what the node listens to.
        """
        if self._busy_s():
            inputs.watch.excuse()
        message = DiagnosticArray(status=[self._input(inputs), self._poses(inputs), self._depth(), self._network()])
        message.header.stamp = self._node.get_clock().now().to_msg()
        for status in message.status:
            if status.level != OK:
                self._warn(status.message)
        self._publisher.publish(message)

    def destroy(self) -> None:
        """Remove the publisher."""
        self._node.destroy_lifecycle_publisher(self._publisher)

    def _input(self, inputs: Inputs) -> DiagnosticStatus:
        statistics, watch, timeout_s = self._statistics, inputs.watch, self._live().input_timeout_s
        missing, rates_hz = watch.missing(timeout_s), statistics.rates_hz()
        level, text = OK, "images and camera_info come"
        if missing in (Input.IMAGE, Input.CAMERA_INFO):
            subscription = inputs.image if missing is Input.IMAGE else inputs.camera_info
            level = ERROR
            text = f"on {subscription.topic_name} for {watch.silence_s(missing):.0f} s"
            if missing is Input.CAMERA_INFO and inputs.camera_info_fault:
                text = f"no usable camera_info {text}: {inputs.camera_info_fault}"
            else:
                text = f"no {missing.value} {text}. {self._hints.explain_silence(subscription)}"
        elif recent := {r: n for r, n in statistics.recent_drops().items() if r not in NO_FAULT}:
            level = WARN
            text = "images dropped in the last seconds: " + ", ".join(f"{n} {r.value}" for r, n in recent.items())
        elif complaint := self._mask_complaint(inputs.mask):
            level, text = WARN, complaint
        elif not watch.ever(Input.IMAGE):
            text = f"waiting for the first image on {inputs.image.topic_name}"
        return self._status(
            "input",
            level,
            text,
            {
                "image topic": inputs.image.topic_name,
                "camera_info topic": inputs.camera_info.topic_name,
                "image rate Hz": f"{rates_hz.images:.1f}",
                "camera_info rate Hz": f"{rates_hz.camera_info:.1f}",
                "camera frame": inputs.camera_frame,
                "age of images on arrival s": f"{inputs.age_s:.3f}",
                **inputs.mask.values(),
                **statistics.counts(),
            },
        )

    def _mask_complaint(self, mask: MaskInput) -> str:
        """Why depth is not hidden where somebody says that the camera shows nothing."""
        topic = mask.subscription.topic_name
        if not mask.heard and self._node.count_publishers(topic):
            return f"no mask on {topic}. {self._hints.explain_silence(mask.subscription)}"
        return mask.complaint()

    def _poses(self, inputs: Inputs) -> DiagnosticStatus:
        world, camera = self._config.world_frame, inputs.camera_frame
        motion, admission = inputs.motion.motion(), inputs.admission
        failures = self._statistics.drops(DropReason.NO_TRANSFORM)
        values = {
            "pose source": self._config.pose_source,
            "failures": str(failures),
            "poses refused": str(admission.refused),
        }
        if admission.latest:
            values["last refused because"] = admission.latest
        if admission.silence_s is not None:
            values["silence of poses s"] = f"{admission.silence_s:.1f}"
        newest_ns = inputs.transforms.newest_ns(world, camera) if camera else None
        if newest_ns is not None:
            # Against the images and not the clock: what counts is whether poses keep up with them.
            values["newest pose after last image s"] = f"{(newest_ns - inputs.stamp_ns) * 1e-9:.3f}"
            values["age of newest pose s"] = f"{(self._node.get_clock().now().nanoseconds - newest_ns) * 1e-9:.3f}"
        recent = self._statistics.recent_drops()
        level, text = OK, "every image gets its pose" if inputs.watch.ever(Input.POSE) else "no pose was needed yet"
        if any(recent[reason] for reason in BEFORE_POSE) and not recent[DropReason.NO_TRANSFORM]:
            text = "no pose is needed while images are dropped for other reasons"
        elif stale := stale_transforms(inputs, world, self._live().input_timeout_s, self._hints):
            level, text = ERROR, stale
        elif self._config.pose_source == FROM_TF and camera.removeprefix("/") == world.removeprefix("/"):
            level = WARN
            text = (
                f"the camera's frame and world_frame are both {world!r}, so the camera seems never to move: name its"
                " optical frame by camera_frame, or a fixed frame such as odom by world_frame"
            )
        elif contradiction := inputs.transforms.contradiction(world, camera):
            level, text = WARN, contradiction
        elif motion is not None:
            values.update(motion.values())
            if complaint := motion.complaint():
                level, text = WARN, complaint
            else:
                text = motion.remark() or text
        if level == OK and admission.recent:
            level, text = WARN, f"poses refused: {admission.refused}, the last because {admission.recent}"
        return self._status("poses", level, text, values)

    def _depth(self) -> DiagnosticStatus:
        statistics = self._statistics
        lost, live = statistics.lost_tracking(), self._live()
        low, high = self._depth_range_m()
        rates_hz = statistics.rates_hz()
        busy = statistics.recent_drops()[DropReason.WORKER_BUSY]
        latency_s, busy_s, dropped = statistics.recent_latency_s(), self._busy_s(), statistics.drop_ratio()
        level, text = OK, f"{rates_hz.depth:.1f} depth images a second"
        if busy:
            text += "; the network is slower than the camera, so it takes the newest image each time"
        if lost:
            level, text = WARN, "tracking is lost: images come without a pose"
        worst_s = max(latency_s, busy_s)
        if worst_s > live.warn_latency_s:
            level = ERROR if worst_s > live.error_latency_s else WARN
            late = f"depth is {latency_s:.1f} s old when it is published (95 %)"
            text += f"; busy for {busy_s:.1f} s with one image" if busy_s > latency_s else f"; {late}"
        if dropped > live.warn_drop_ratio:
            level = max(level, WARN)
            text += f"; {100 * dropped:.0f} % of the images are dropped"
        return self._status(
            "depth",
            level,
            text,
            {
                "latency of late p95 s": f"{latency_s:.3f}",
                "busy with one image s": f"{busy_s:.3f}",
                "images dropped of late %": f"{100 * dropped:.0f}",
                "depth for": self._live().depth_for,
                "depth rate Hz": f"{rates_hz.depth:.1f}",
                "keyframe rate Hz": f"{rates_hz.keyframes:.1f}",
                "tracking": "lost" if lost else "good",
                "measurement frames": str(self._live().keyframes.measurement_frames),
                "least depth m": f"{low:g}",
                "greatest depth m": f"{high:g}",
                **statistics.latencies(),
            },
        )

    def _network(self) -> DiagnosticStatus:
        config, model, device = self._config, self._engine.model_config, str(self._engine.device)
        level, text = OK, f"{model.network} of {config.weights} on {device}"
        unforeseen = self._unforeseen.count
        if unforeseen > self._unforeseen_before:
            level, text = WARN, f"something unforeseen happened: {self._unforeseen.latest}; the log has all of it"
        self._unforeseen_before = unforeseen
        same = self._nodes_of_this_name()
        if same > 1:
            name = self._node.get_fully_qualified_name()
            level, text = ERROR, f"{same} nodes are named {name}, and answer every image each; give each its own name"
        return self._status(
            "engine",
            level,
            text,
            {
                "unforeseen errors": str(unforeseen),
                "weights": config.weights,
                "network": model.network,
                "preset": model.preset,
                "size": f"{model.width}×{model.height}",
                "device": device,
                "precision": config.engine.precision,
                "mode": f"{config.engine.mode}: {self._engine.runs_as}",
                **_memory_values(device),
            },
        )

    def _nodes_of_this_name(self) -> int:
        own = (self._node.get_name(), self._node.get_namespace())
        return self._node.get_node_names_and_namespaces().count(own)

    def _status(self, part: str, level: bytes, text: str, values: dict[str, str]) -> DiagnosticStatus:
        if section := section_of(text):
            values["help"] = section
        return DiagnosticStatus(
            level=level,
            name=f"{self._node.get_fully_qualified_name()}: {part}",
            hardware_id=str(self._engine.device),
            message=text,
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )


def _memory_values(device: str) -> dict[str, str]:
    """Memory that this process holds, and of the GPU where the engine's device is one."""
    values = {"memory MB": f"{resident_bytes() / 1e6:.0f}"}
    if device.startswith("cuda"):
        import torch  # loaded by the engine already

        values["GPU memory MB"] = f"{torch.cuda.memory_reserved(device) / 1e6:.0f}"
    return values


def section_of(message: str) -> str | None:
    """Return the page and anchor that explain a diagnostic's message; None where nothing is wrong."""
    return next((f"{PAGE}#{anchor}" for part, anchor in _SECTIONS if part in message), None)
