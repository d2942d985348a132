# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The depth node: image, camera_info and poses in; depth, its camera_info, confidence, a preview and a cloud out.

Lifecycle: configure loads the weights and warms the network up; activate subscribes; deactivate drops what waits;
cleanup frees the network. Callbacks convert and queue; the network runs in a thread of its own, which also publishes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import Trigger

from dvmvs_core.data.encodings.bit_depth import BitDepth
from dvmvs_core.data.lens.valid_mask import apply_valid_mask
from dvmvs_core.errors import DataError, DvmvsError, MessageError
from dvmvs_core.foreign import foreign
from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_core.process import return_free_memory, share_cores, share_heaps
from dvmvs_core.types import DepthPrediction, Frame
from dvmvs_ros.depth.config import NodeConfig
from dvmvs_ros.depth.engines import Engines
from dvmvs_ros.depth.estimation import Estimator
from dvmvs_ros.depth.frame_status import FrameStatus
from dvmvs_ros.depth.frame_sync import FrameSync
from dvmvs_ros.depth.frame_timeline import NO_FAULT, DropReason, FrameStage, FrameTimeline
from dvmvs_ros.depth.input_watch import Input
from dvmvs_ros.depth.inputs import Inputs
from dvmvs_ros.depth.outputs import Outputs
from dvmvs_ros.depth.parameters import Parameters
from dvmvs_ros.depth.saved_cloud import RecentKeyframes, save_cloud
from dvmvs_ros.depth.worker import InferenceWorker
from dvmvs_ros.diagnostics.health_report import PERIOD_S, Diagnostics
from dvmvs_ros.diagnostics.statistics import Statistics
from dvmvs_ros.messages.conversions import camera_from_message, image_from_message, make_header, stamp_to_ns
from dvmvs_ros.process.guard import GuardedNode, transition
from dvmvs_ros.process.main_program import ros_process, spin
from dvmvs_ros.process.node_log import QuietLog, RosLogHandler
from dvmvs_ros.process.qos import output_qos

if TYPE_CHECKING:
    from dvmvs_core.engine import DepthEngine

WAITING_CHECK_PERIOD_S = 0.1
STATUS_DEPTH = 100
NOTE_PERIOD_S = 30.0
HINT_AFTER_S = 5.0
"""A launch file configures the node sooner; what it then logs shall stay the last line."""

FORMAT_CHANGE = 16
"""How many times the pixels of its camera_info an image may have that is decoded at all."""


@dataclass(frozen=True, eq=False)
class _Job:
    """A frame on its way to the engine.

    Attributes:
        frame: the frame.
        valid_mask: which of its pixels show the scene, (H, W) bool; None for all.
        timeline: that of its image.
    """

    frame: Frame
    valid_mask: np.ndarray | None
    timeline: FrameTimeline


class DepthNode(GuardedNode, LifecycleNode):
    """Publishes dense metric depth of a camera whose pose is known, through TF or messages.

    Args:
        engines: makes its engine; shared by the nodes of one process.
        arguments: those of rclpy's nodes, such as namespace.
    """

    def __init__(self, engines: Engines | None = None, **arguments) -> None:
        super().__init__("depth_node", **arguments)
        self._engines = engines or Engines()
        self._warn = QuietLog(self.get_logger().warning)
        # A line of its own: rclpy refuses a call site whose severity changes, and QuietLog's is that of warnings.
        self._note = QuietLog(lambda line: self.get_logger().info(line), NOTE_PERIOD_S)
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._config: NodeConfig | None = None
        self._engine: DepthEngine | None = None
        self._sync: FrameSync | None = None
        self._configured = ExitStack()
        self._recent_keyframes = RecentKeyframes()
        self._settings = Parameters(self, may_change=lambda: self._config is None)
        self._offer("reset", self._reset)
        self._offer("save_cloud", self._save_cloud)
        if self._settings["autostart"]:
            self._autostart = self._every(0.0, self._start)
        else:
            self._hint = self._every(HINT_AFTER_S, self._hint_at_configure)

    # Lifecycle

    @transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the weights, warm the network up and create the publishers."""
        config = self._settings.config()
        if not self._settings.live.confidence:
            self.get_logger().info("confidence is off: clouds hold every depth, whatever points_min_confidence is")
        engine = self._load(config)
        self._statistics = Statistics()
        model = engine.model_config
        with ExitStack() as undo:
            self._outputs = Outputs(self, config, (model.min_depth_m, model.max_depth_m), self._warn)
            undo.callback(self._outputs.destroy)
            self._diagnostics = Diagnostics(
                self,
                config,
                engine,
                self._statistics,
                live=lambda: self._settings.live,
                depth_range_m=lambda: self._outputs.range_m(self._settings.live),
                busy_s=lambda: self._worker.busy_s,
                unforeseen=self.unforeseen,
            )
            undo.callback(self._diagnostics.destroy)
            status = "~/frame_status"
            self._status_publisher = self.create_lifecycle_publisher(
                DiagnosticArray, status, **output_qos(self, status, self._warn, depth=STATUS_DEPTH)
            )
            undo.callback(self.destroy_lifecycle_publisher, self._status_publisher)
            self._configured = undo.pop_all()
        self._config, self._engine = config, engine
        return super().on_configure(state)

    @transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the inference thread and subscribe."""
        config, model = self._config, self._engine.model_config
        self._inputs = Inputs(
            self,
            config,
            (model.height, model.width),
            on_image=self._on_image,
            on_camera_info=self._on_camera_info,
            on_poses=self._update,
            warn=self._warn,
        )
        super().on_activate(state)
        self._bits = BitDepth(f"images of {self._inputs.image.topic_name}")
        self._lost_frames = 0
        self._worker = InferenceWorker(
            self._infer,
            on_superseded=lambda job: self._drop(
                job.timeline, DropReason.WORKER_BUSY, "a newer image took its place while the network was busy"
            ),
            on_error=self._on_engine_error,
            on_reset=self._reset_engine,
            on_unforeseen=self.unforeseen.report,
            queue_size=config.worker_queue_size,
        )
        self._estimate = Estimator(self._engine, newer_waits=self._worker.has_waiting)
        self._worker.start()
        self._sync = FrameSync(
            self._inputs.transforms.lookup,
            config.world_frame,
            view=self._inputs.rectification,
            on_frame=self._on_frame,
            on_drop=self._drop,
            on_jump=self._on_jump,
            on_unforeseen=self.unforeseen.report,
            now_ns=self._now_ns,
            queue_size=config.image_queue_size,
            max_wait_ns=int(config.transform_timeout_s * 1e9),
        )
        self._jump = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False),
            post_callback=self.guarded(lambda _: self._on_clock_jump()),
        )
        self._timers_running = [
            self._every(WAITING_CHECK_PERIOD_S, self._update),
            self._every(PERIOD_S, lambda: self._diagnostics.publish(self._inputs)),
        ]
        self.get_logger().info(f"active: {self._inputs.describe()}; depth on {self._outputs.depth_topic}")
        return TransitionCallbackReturn.SUCCESS

    @transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and drop what waits."""
        self._stop()
        return super().on_deactivate(state)

    @transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the network and remove the publishers."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @transition
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured, so that the node can be configured again."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Stop and free everything, then remove the node."""
        self._release()
        super().destroy_node()

    def _hint_at_configure(self) -> None:
        """Say what the node waits for, unless a launch file or a manager has configured it meanwhile."""
        self._hint.cancel()
        if self._config is None:
            self.get_logger().info(
                "waiting to be configured and activated, by a lifecycle manager or `ros2 lifecycle set"
                f" {self.get_fully_qualified_name()} configure` (parameter autostart)"
            )

    def _start(self) -> None:
        self._autostart.cancel()
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _load(self, config: NodeConfig) -> DepthEngine:
        core_log = logging.getLogger("dvmvs_core")
        if not any(isinstance(handler, RosLogHandler) for handler in core_log.handlers):
            core_log.addHandler(RosLogHandler(self))
        started = time.perf_counter()
        self.get_logger().info(f"configuring: loading weights {config.weights} and what runs them")
        engine, shared = self._engines.open(config)
        with self._engines.one_at_a_time:
            engine.warm_up()
        model = engine.model_config
        self.get_logger().info(
            f"weights {config.weights}: {model.network} of preset {model.preset}, {model.width}×{model.height},"
            f" on {engine.device}, {'shared with another camera' if shared else 'loaded'} and ready in"
            f" {time.perf_counter() - started:.1f} s"
        )
        return engine

    def _stop(self) -> None:
        """Undo on_activate; does nothing if the node is not active."""
        if self._sync is None:
            return
        self._inputs.close()
        for timer in self._timers_running:
            self.destroy_timer(timer)
        self._jump.unregister()
        sync, self._sync = self._sync, None
        sync.clear(DropReason.STOPPED)
        for job in self._worker.stop():
            self._drop(job.timeline, DropReason.STOPPED, "the node was deactivated")
        self._worker = self._estimate = None
        self._recent_keyframes.clear()
        self._reset_engine()
        counts = {**self._statistics.counts(), **self._statistics.latencies()}
        self.get_logger().info("inactive: " + ", ".join(f"{key} {value}" for key, value in counts.items()))

    def _release(self) -> None:
        """Undo on_activate and on_configure, as far as they were done."""
        self._stop()
        self._configured.close()
        # All that holds the engine, so that the network's memory is free.
        self._config = self._engine = self._outputs = self._diagnostics = None
        return_free_memory()

    def _reset_engine(self) -> None:
        """Forget keyframes and recurrent state: by the inference thread while that runs."""
        self._engine.reset()
        return_free_memory()

    # Inputs: the executor's thread

    def _on_camera_info(self, message: CameraInfo) -> None:
        try:
            camera = camera_from_message(message)
        except MessageError as error:
            self._warn(f"camera_info ignored: {error}")
            self._inputs.camera_info_fault = str(error)
            self._sync.refuse_camera_info(str(error))
            return
        self._inputs.camera_info_fault = ""
        self._statistics.add_camera_info()
        self._inputs.watch.hear(Input.CAMERA_INFO)
        self._sync.add_camera_info(stamp_to_ns(message.header.stamp), camera)

    def _on_image(self, message: Image | CompressedImage) -> None:
        timeline = FrameTimeline(
            stamp_ns=stamp_to_ns(message.header.stamp),
            camera_frame_id=self._config.camera_frame or message.header.frame_id,
            index=self._statistics.add_received(),
            received_ns=self._now_ns(),
        )
        self._inputs.watch.hear(Input.IMAGE)
        try:
            with foreign("the image cannot be read", MessageError):
                image = self._decode(message, timeline)
        except MessageError as error:
            self._drop(timeline, DropReason.BAD_IMAGE, str(error))
            return
        timeline.end(FrameStage.DECODE)
        self._inputs.note_image(timeline)
        self._sync.add_image(image, timeline)

    def _decode(self, message: Image | CompressedImage, timeline: FrameTimeline) -> np.ndarray:
        """The pixels of a message, of no more of them than its camera has."""
        if timeline.stamp_ns == 0:
            raise MessageError("the image has no stamp, so no pose can be found for it; set header.stamp")
        if not timeline.camera_frame_id:
            raise MessageError("the image has no frame_id; set it, or the parameter camera_frame")
        most, known = self._config.max_image_pixels, self._sync.largest_pixels()
        # A camera may go over to a larger format, and its camera_info come after the image; but not to any.
        return image_from_message(message, most if known is None else min(most, FORMAT_CHANGE * known), self._bits)

    def _update(self) -> None:
        if self._sync is not None:  # a transform may have come just before the node was deactivated
            self._sync.update()

    def _on_frame(self, frame: Frame, timeline: FrameTimeline) -> None:
        self._lost_frames = 0
        self._inputs.note_frame(frame)
        timeline.end(FrameStage.POSE)
        self._worker.submit(_Job(frame, self._inputs.rectification.valid_mask, timeline))

    def _on_jump(self) -> None:
        """The images went back in time: nothing from before may be used again."""
        self.get_logger().warning("the images' stamps went back: keyframes and recurrent state are reset")
        self._inputs.follow_jump()
        self._forget(DropReason.TIME_JUMP, "time went back")

    def _on_clock_jump(self) -> None:
        self.get_logger().warning("time went back: keyframes and recurrent state are reset")
        self._inputs.clear_poses()
        self._sync.clear(DropReason.TIME_JUMP)
        self._forget(DropReason.TIME_JUMP, "time went back")

    def _forget(self, reason: DropReason, detail: str) -> None:
        self._inputs.motion.clear()
        self._recent_keyframes.clear()
        for job in self._worker.reset():
            self._drop(job.timeline, reason, detail)

    # Services: the executor's thread

    def _offer(self, name: str, action: Callable[[], str]) -> None:
        """Offer an action as a service, which answers with what was done, or with the reason why it cannot be done."""

        def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            try:
                response.message, response.success = action(), True
                self.get_logger().info(f"{name}: {response.message}")
            except DvmvsError as error:
                response.message = str(error)
                self.get_logger().warning(f"{name}: {error}")
            return response

        self.create_service(Trigger, f"~/{name}", answer)

    def _reset(self) -> str:
        self._require_active()
        self._inputs.clear_poses()
        self._sync.clear(DropReason.RESET)
        self._forget(DropReason.RESET, "the node was reset")
        return "keyframes, recurrent state and poses are reset"

    def _save_cloud(self) -> str:
        self._require_active()
        config = self._settings.live
        predictions = self._recent_keyframes.latest(config.cloud_keyframes)
        path, points = save_cloud(predictions, config.points_kept, self._config.cloud_folder)
        return f"{points} points of {len(predictions)} keyframes saved to {path}"

    def _require_active(self) -> None:
        if self._sync is None:
            raise DataError("the node is not active; configure and activate it first")

    # Outputs: the executor's thread for what is dropped, the inference thread for the rest

    def _infer(self, job: _Job) -> None:
        config, outputs, timeline = self._settings.live, self._outputs, job.timeline
        with self._engines.one_at_a_time:
            timeline.end(FrameStage.QUEUE)
            estimate = self._estimate(job.frame, config, outputs.wants_depth(), outputs.wants_confidence(config))
        prediction = estimate.prediction
        if prediction is not None:
            timeline.end(FrameStage.ENGINE)
            prediction = apply_valid_mask(prediction, job.valid_mask, self._config.engine.crop)
            if estimate.is_keyframe:
                self._recent_keyframes.add(prediction, config.cloud_keyframes)
            header = make_header(timeline.stamp_ns, timeline.camera_frame_id)
            outputs.publish(prediction, job.frame, job.valid_mask, header, config)
            timeline.end(FrameStage.PUBLISH)
        self._finish(timeline, estimate.decision, prediction=prediction)

    def _on_engine_error(self, job: _Job, error: Exception) -> None:
        if not isinstance(error, DvmvsError):
            self.unforeseen.report(error, "the engine")
        self._drop(job.timeline, DropReason.ENGINE_ERROR, f"{type(error).__name__}: {error}")

    def _drop(self, timeline: FrameTimeline, reason: DropReason, detail: str) -> None:
        (self._note if reason in NO_FAULT else self._warn)(f"image dropped ({reason.value}): {detail}")
        self._finish(timeline, reason, detail)
        if reason is DropReason.NO_TRANSFORM:
            self._count_lost()

    def _count_lost(self) -> None:
        """Count an image without a pose as a frame whose tracking is lost; too many in a row end the sequence."""
        self._lost_frames += 1
        if self._lost_frames == self._settings.live.keyframes.max_lost_frames + 1:
            self._forget(DropReason.NO_TRANSFORM, "tracking was lost")

    def _finish(
        self,
        timeline: FrameTimeline,
        outcome: KeyframeDecision | DropReason,
        detail: str = "",
        prediction: DepthPrediction | None = None,
    ) -> None:
        """Say what became of an image, and count it: last, so that one that fails on the way out is an error only."""
        timeline.outcome = outcome
        message = FrameStatus.of(timeline, detail, prediction).to_message()
        message.header.frame_id = timeline.camera_frame_id
        self._status_publisher.publish(message)
        self._statistics.add(timeline)

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _every(self, period_s: float, callback: Callable[[], None]):
        """Return a timer on the steady clock: simulated time may stand still, and these must not."""
        return self.create_timer(period_s, callback, clock=self._steady_clock)


def main(args: Sequence[str] | None = None) -> None:
    """Run the node until Ctrl-C or SIGTERM."""
    share_cores()
    share_heaps()
    with ros_process(args) as stop:
        node = DepthNode()
        try:
            spin(stop, node)
        finally:
            node.destroy_node()


if __name__ == "__main__":
    main()
