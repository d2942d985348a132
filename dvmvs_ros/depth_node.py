"""The depth node: image, camera_info and TF in; depth, its camera_info, confidence, a preview and a cloud out.

Lifecycle: configure loads the weights and warms the network up; activate subscribes; deactivate drops what waits;
cleanup frees the network. Callbacks convert and queue; the network runs in a thread of its own, which also publishes.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from dvmvs_core.cpu import share_cores
from dvmvs_core.errors import DvmvsError, MessageError
from dvmvs_core.types import DepthPrediction, Frame
from dvmvs_ros.conversions import (
    camera_from_message,
    camera_info_message,
    cloud_message,
    confidence_message,
    make_header,
    metric_depth_message,
    raw_depth_message,
    rgb_message,
    stamp_to_ns,
)
from dvmvs_ros.distro import Transforms, decode_image, open_transforms
from dvmvs_ros.drops import DropReason
from dvmvs_ros.frame_status import FrameStatus
from dvmvs_ros.frame_sync import Arrival, FrameSync
from dvmvs_ros.log_forwarding import RosLogHandler
from dvmvs_ros.node_statistics import Statistics
from dvmvs_ros.parameters import COMPRESSED, FROM_ODOMETRY, FROM_TF, MILLIMETRES, NodeConfig, Parameters
from dvmvs_ros.pose_messages import PoseMessages
from dvmvs_ros.preview import colour_depth
from dvmvs_ros.process import ros_process, spin
from dvmvs_ros.quiet_log import QuietLog
from dvmvs_ros.rectification import Rectification
from dvmvs_ros.worker import InferenceWorker

if TYPE_CHECKING:
    from dvmvs_core.engine import DepthEngine

DIAGNOSTICS_PERIOD_S = 1.0
WAITING_CHECK_PERIOD_S = 0.1
STATUS_DEPTH = 100


@dataclass(frozen=True, eq=False)
class _Job:
    """A frame on its way to the engine, with the image that it came from."""

    frame: Frame
    arrival: Arrival


def _transition(method: Callable) -> Callable:
    """Log what a lifecycle transition raises: rclpy turns it into an error state and says nothing."""

    @wraps(method)
    def logged(self: DepthNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return method(self, state)
        except Exception:
            self.get_logger().error(f"{method.__name__} failed:\n{traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR

    return logged


class DepthNode(LifecycleNode):
    """Publishes dense metric depth of a camera whose pose is known, through TF or messages."""

    def __init__(self, **arguments) -> None:
        super().__init__("depth_node", **arguments)
        self._warn = QuietLog(self.get_logger().warning)
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._config: NodeConfig | None = None
        self._engine: DepthEngine | None = None
        self._sync: FrameSync | None = None
        self._settings = Parameters(self, may_change=lambda: self._config is None)
        if self._settings["autostart"]:
            self._autostart = self._every(0.0, self._start)

    # Lifecycle

    @_transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the weights, warm the network up and create the publishers."""
        try:
            config = self._settings.config()
            self._engine = self._load(config)
        except DvmvsError as error:
            self.get_logger().error(f"cannot configure: {error}")
            return TransitionCallbackReturn.FAILURE
        self._config = config
        self._statistics = Statistics()
        publish = self.create_lifecycle_publisher
        self._depth_publisher = publish(Image, "depth/image", **_output_qos())
        self._depth_info_publisher = publish(CameraInfo, "depth/camera_info", **_output_qos())
        self._confidence_publisher = publish(Image, "depth/confidence", **_output_qos())
        self._preview_publisher = publish(Image, "depth/preview", **_output_qos())
        self._points_publisher = publish(PointCloud2, "points", **_output_qos())
        self._status_publisher = publish(DiagnosticArray, "~/frame_status", QoSProfile(depth=STATUS_DEPTH))
        self._diagnostics_publisher = publish(DiagnosticArray, "/diagnostics", QoSProfile(depth=1))
        return super().on_configure(state)

    @_transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the inference thread and subscribe."""
        config = self._config
        super().on_activate(state)
        self._lost_frames = 0
        self._engine.reset()
        self._worker = InferenceWorker(
            self._infer,
            on_superseded=lambda job: self._drop(
                job.arrival, DropReason.WORKER_BUSY, "a newer image took its place while the network was busy"
            ),
            on_error=self._on_engine_error,
            on_reset=self._engine.reset,
            queue_size=config.worker_queue_size,
        )
        self._worker.start()
        self._transforms_changed = self.create_guard_condition(self._update)
        self._transforms = self._open_poses(config)
        self._sync = FrameSync(
            self._transforms.lookup,
            config.world_frame,
            view=self._rectification(config),
            on_frame=self._on_frame,
            on_drop=self._drop,
            on_jump=self._on_jump,
            now_ns=lambda: self.get_clock().now().nanoseconds,
            queue_size=config.image_queue_size,
            max_wait_ns=int(config.transform_timeout_s * 1e9),
        )
        self._jump = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False),
            post_callback=lambda _: self._on_clock_jump(),
        )
        self._inputs = [
            self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, **_sensor_qos()),
            self._subscribe_to_images(config.image_transport),
        ]
        self._timers_running = [
            self._every(WAITING_CHECK_PERIOD_S, self._update),
            self._every(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics),
        ]
        info, image = (subscription.topic_name for subscription in self._inputs)
        from_tf = config.pose_source == FROM_TF
        poses = f"poses in {config.world_frame!r} from /tf" if from_tf else f"poses from {self._transforms.topic}"
        self.get_logger().info(
            f"active: images from {image}, intrinsics from {info}, {poses};"
            f" depth on {self._depth_publisher.topic_name}"
        )
        return TransitionCallbackReturn.SUCCESS

    @_transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and drop what waits."""
        self._stop()
        return super().on_deactivate(state)

    @_transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the network and remove the publishers."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @_transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        self._stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @_transition
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured, so that the node can be configured again."""
        self._stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Stop and free everything, then remove the node."""
        self._stop()
        self._release()
        super().destroy_node()

    def _subscribe_to_images(self, transport: str) -> Subscription:
        if transport == COMPRESSED:
            # As image_transport does it: the name is remapped first, then lengthened.
            topic = f"{self.resolve_topic_name('image')}/compressed"
            return self.create_subscription(CompressedImage, topic, self._on_image, **_sensor_qos())
        return self.create_subscription(Image, "image", self._on_image, **_sensor_qos())

    def _open_poses(self, config: NodeConfig) -> Transforms:
        changed = self._transforms_changed.trigger
        transforms = open_transforms(self, config.transform_cache_s, changed, self._warn)
        if config.pose_source == FROM_TF:
            return transforms
        message_type = Odometry if config.pose_source == FROM_ODOMETRY else PoseStamped
        return PoseMessages(
            self,
            message_type,
            config.pose_source,
            config.pose_frame,
            config.transform_cache_s,
            transforms,
            changed,
            self._warn,
        )

    def _rectification(self, config: NodeConfig) -> Rectification:
        model = self._engine.model_config
        return Rectification(
            config.rectify,
            self.resolve_topic_name("image"),
            (model.height, model.width),
            config.engine.crop,
            self.get_logger().info,
        )

    def _start(self) -> None:
        self._autostart.cancel()
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _load(self, config: NodeConfig) -> DepthEngine:
        # Imported here: torch takes seconds, and a node that waits for its manager should be there at once.
        from dvmvs_core.engine import DepthEngine

        core_log = logging.getLogger("dvmvs_core")
        if not any(isinstance(handler, RosLogHandler) for handler in core_log.handlers):
            core_log.addHandler(RosLogHandler(self))
        started = time.perf_counter()
        engine = DepthEngine.from_weights(config.weights, config.network, config.engine)
        engine.warm_up()
        model = engine.model_config
        self.get_logger().info(
            f"weights {config.weights}: {model.network} of preset {model.preset}, {model.width}×{model.height},"
            f" on {engine.device}, ready in {time.perf_counter() - started:.1f} s"
        )
        return engine

    def _stop(self) -> None:
        """Undo on_activate; does nothing if the node is not active."""
        if self._sync is None:
            return
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        for timer in self._timers_running:
            self.destroy_timer(timer)
        self._jump.unregister()
        self._transforms.close()
        self.destroy_guard_condition(self._transforms_changed)
        sync, self._sync = self._sync, None
        sync.clear(DropReason.STOPPED)
        for job in self._worker.stop():
            self._drop(job.arrival, DropReason.STOPPED, "the node was deactivated")
        self._publish_diagnostics()
        summary = ", ".join(f"{key} {value}" for key, value in self._statistics.summary().items())
        self.get_logger().info(f"inactive: {summary}")

    def _release(self) -> None:
        """Undo on_configure; does nothing if the node is not configured."""
        if self._config is None:
            return
        self._config = self._engine = None
        for publisher in (
            self._depth_publisher,
            self._depth_info_publisher,
            self._confidence_publisher,
            self._preview_publisher,
            self._points_publisher,
            self._status_publisher,
            self._diagnostics_publisher,
        ):
            self.destroy_lifecycle_publisher(publisher)

    # Inputs: the executor's thread

    def _on_camera_info(self, message: CameraInfo) -> None:
        try:
            camera = camera_from_message(message)
        except MessageError as error:
            self._warn(f"camera_info ignored: {error}")
            return
        self._sync.add_camera_info(stamp_to_ns(message.header.stamp), camera)

    def _on_image(self, message: Image | CompressedImage) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        arrival = Arrival(
            stamp_ns=stamp_ns,
            camera_frame_id=self._config.camera_frame or message.header.frame_id,
            index=self._statistics.add_received(),
            received_ns=self.get_clock().now().nanoseconds,
            received_s=time.perf_counter(),
        )
        try:
            image = decode_image(message)
            if stamp_ns == 0:
                raise MessageError("the image has no stamp, so no pose can be found for it; set header.stamp")
            if not arrival.camera_frame_id:
                raise MessageError("the image has no frame_id; set it, or the parameter camera_frame")
        except MessageError as error:
            self._drop(arrival, DropReason.BAD_IMAGE, str(error))
            return
        self._sync.add_image(image, arrival)

    def _update(self) -> None:
        if self._sync is not None:  # a transform may have come just before the node was deactivated
            self._sync.update()

    def _on_frame(self, frame: Frame, arrival: Arrival) -> None:
        self._lost_frames = 0
        self._worker.submit(_Job(frame, arrival))

    def _on_jump(self) -> None:
        """The images went back in time: nothing from before may be used again."""
        self.get_logger().warning("the images' stamps went back: keyframes and recurrent state start anew")
        self._transforms.clear()
        self._forget(DropReason.TIME_JUMP, "time went back")

    def _on_clock_jump(self) -> None:
        self.get_logger().warning("time went back: keyframes and recurrent state start anew")
        self._transforms.clear()
        self._sync.clear(DropReason.TIME_JUMP)
        self._forget(DropReason.TIME_JUMP, "time went back")

    def _forget(self, reason: DropReason, detail: str) -> None:
        for job in self._worker.reset():
            self._drop(job.arrival, reason, detail)

    # Outputs: the executor's thread for what is dropped, the inference thread for the rest

    def _infer(self, job: _Job) -> None:
        self._engine.estimates_confidence = self._wants_confidence()
        prediction = self._engine.step(job.frame)
        decision = self._engine.last_decision
        self._statistics.add_decision(decision)
        if prediction is not None:
            self._publish(prediction, job.arrival)
        self._publish_status(
            job.arrival,
            FrameStatus(
                stamp_ns=job.frame.stamp_ns,
                outcome=decision,
                inference_ms=prediction.latency_ms if prediction else 0.0,
                measurement_stamps_ns=prediction.measurement_stamps_ns if prediction else (),
            ),
        )

    def _wants_confidence(self) -> bool:
        wanted = (self._confidence_publisher, self._points_publisher)
        return any(publisher.get_subscription_count() for publisher in wanted)

    def _publish(self, prediction: DepthPrediction, arrival: Arrival) -> None:
        header = make_header(arrival.stamp_ns, arrival.camera_frame_id)
        height, width = prediction.depth.shape
        self._depth_info_publisher.publish(camera_info_message(prediction.K, height, width, header))
        depth_message = raw_depth_message if self._config.depth_encoding == MILLIMETRES else metric_depth_message
        self._depth_publisher.publish(depth_message(prediction.depth, header))
        self._statistics.add_published((time.perf_counter() - arrival.received_s) * 1e3)
        outputs = self._settings.outputs()
        # A first subscriber may have come while the network ran without confidence; it gets the next one.
        confident = prediction.confidence is not None
        if confident and self._confidence_publisher.get_subscription_count():
            self._confidence_publisher.publish(confidence_message(prediction.confidence, header))
        if self._preview_publisher.get_subscription_count():
            preview = colour_depth(prediction.depth, outputs.preview_min_depth_m, outputs.preview_max_depth_m)
            self._preview_publisher.publish(rgb_message(preview, header))
        if confident and self._points_publisher.get_subscription_count():
            self._points_publisher.publish(cloud_message(prediction, header, outputs.points_kept))

    def _on_engine_error(self, job: _Job, error: Exception) -> None:
        if not isinstance(error, DvmvsError):
            self._warn("".join(traceback.format_exception(error)))
        self._drop(job.arrival, DropReason.ENGINE_ERROR, f"{type(error).__name__}: {error}")

    def _drop(self, arrival: Arrival, reason: DropReason, detail: str) -> None:
        self._statistics.add_drop(reason)
        self._warn(f"image dropped ({reason.value}): {detail}")
        self._publish_status(arrival, FrameStatus(arrival.stamp_ns, reason, detail))
        if reason is DropReason.NO_TRANSFORM:
            self._count_lost()

    def _count_lost(self) -> None:
        """Count an image without a pose as a frame whose tracking is lost; too many in a row end the sequence."""
        self._lost_frames += 1
        if self._lost_frames == self._config.engine.keyframes.max_lost_frames + 1:
            self._forget(DropReason.NO_TRANSFORM, "tracking was lost")

    def _publish_status(self, arrival: Arrival, status: FrameStatus) -> None:
        latency_ms = (time.perf_counter() - arrival.received_s) * 1e3
        message = replace(status, index=arrival.index, latency_ms=latency_ms).to_message()
        message.header.frame_id = arrival.camera_frame_id
        self._status_publisher.publish(message)

    def _publish_diagnostics(self) -> None:
        values = self._statistics.summary()
        dropped = self._statistics.dropped
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if dropped else DiagnosticStatus.OK,
            name=f"{self.get_fully_qualified_name()}: images",
            hardware_id=str(self._engine.device),
            message=f"{dropped} images dropped" if dropped else "no image dropped",
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_publisher.publish(message)

    def _every(self, period_s: float, callback: Callable[[], None]):
        """Return a timer on the steady clock: simulated time may stand still, and these must not."""
        return self.create_timer(period_s, callback, clock=self._steady_clock)


def _sensor_qos() -> dict[str, object]:
    """Best effort, as cameras publish, and every policy a parameter (`qos_overrides`).

    A new profile each time: rclpy writes the overrides of one topic into the profile that it is given.
    """
    profile = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    return {"qos_profile": profile, "qos_overriding_options": QoSOverridingOptions.with_default_policies()}


def _output_qos() -> dict[str, object]:
    """Reliable, which suits subscribers of either kind; otherwise as `_sensor_qos`."""
    return {
        "qos_profile": QoSProfile(depth=5),
        "qos_overriding_options": QoSOverridingOptions.with_default_policies(),
    }


def main(args: Sequence[str] | None = None) -> None:
    """Run the node until Ctrl-C or SIGTERM."""
    share_cores()
    with ros_process(args) as stop:
        node = DepthNode()
        try:
            spin(node, stop)
        finally:
            node.destroy_node()


if __name__ == "__main__":
    main()
