"""Every parameter of the depth node: description, range, default, and the way into the core's configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from dvmvs_core.config import NETWORKS, PRECISIONS, EngineConfig, KeyframeConfig
from dvmvs_core.errors import ConfigError
from dvmvs_ros.conversions import CloudFilter
from dvmvs_ros.rectification import AUTO, RECTIFY

_KEYFRAMES = KeyframeConfig()

METRES, MILLIMETRES = DEPTH_ENCODINGS = ("32FC1", "16UC1")
FROM_TF, FROM_ODOMETRY, FROM_POSE = POSE_SOURCES = ("tf", "odometry", "pose")
RAW, COMPRESSED = IMAGE_TRANSPORTS = ("raw", "compressed")


@dataclass(frozen=True)
class Setting:
    """One parameter.

    Attributes:
        name: its name.
        default: its default, which also fixes its type.
        description: what it does, with the unit.
        low: least value, for numbers.
        high: greatest value, for numbers.
        choices: the values allowed, for text; empty for free text.
        read_only: whether it can be given at start only.
        live: whether it can change while the node is configured; it then holds from the next depth image on.
    """

    name: str
    default: bool | int | float | str
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False
    live: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """Return the ROS descriptor."""
        descriptor = ParameterDescriptor(description=self.description, read_only=self.read_only)
        if self.choices:
            descriptor.additional_constraints = f"one of {', '.join(map(repr, self.choices))}"
        if isinstance(self.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=self.low, to_value=self.high)]
        elif isinstance(self.default, int) and not isinstance(self.default, bool):
            descriptor.integer_range = [IntegerRange(from_value=self.low, to_value=self.high, step=1)]
        return descriptor


SETTINGS = (
    Setting("autostart", True, "Configure and activate without a lifecycle manager.", read_only=True),
    Setting("weights", "small", "A safetensors file, or the name of a shipped checkpoint."),
    Setting(
        "network",
        "",
        "The network to use where the weights hold both; empty for the weights' own choice.",
        choices=("", *NETWORKS),
    ),
    Setting("device", "auto", "Compute device: auto (CUDA if there is one), cpu, cuda or cuda:N."),
    Setting("precision", "float32", "Arithmetic of the network.", choices=PRECISIONS),
    Setting(
        "image_transport",
        "raw",
        "raw for sensor_msgs/Image; compressed for JPEG or PNG, on the image topic's name with /compressed behind.",
        choices=IMAGE_TRANSPORTS,
    ),
    Setting(
        "rectify",
        AUTO,
        "Whether images are raw and must be rectified by camera_info: always; never; or auto, unless camera_info has"
        " no distortion or the topic's name says rect, as image_rect does.",
        choices=RECTIFY,
    ),
    Setting(
        "pose_source",
        FROM_TF,
        "Where camera poses come from: tf, the topic odometry (nav_msgs/Odometry) or the topic pose"
        " (geometry_msgs/PoseStamped).",
        choices=POSE_SOURCES,
    ),
    Setting(
        "pose_frame",
        "",
        "Frame whose pose the messages of odometry or pose are; the camera's place on it comes from TF. Empty for an"
        " Odometry's child_frame_id, and for the camera itself where there is none.",
    ),
    Setting(
        "world_frame",
        "odom",
        "Coordinate frame that camera poses of TF are taken in. It must be continuous: odom, not map, which may jump.",
    ),
    Setting(
        "camera_frame", "", "Optical frame of the camera (z forward, x right, y down); empty for the image header's."
    ),
    Setting(
        "measurement_frames",
        _KEYFRAMES.measurement_frames,
        "Earlier keyframes that each depth map is measured against.",
        1,
        8,
    ),
    Setting("keyframe_buffer_size", _KEYFRAMES.buffer_size, "Keyframes kept to choose from.", 2, 300),
    Setting(
        "keyframe_pose_distance",
        _KEYFRAMES.pose_distance,
        "Least combined pose distance (metres, and about 0.8 × radians) between two keyframes.",
        0.0,
        10.0,
    ),
    Setting(
        "optimal_baseline_m",
        _KEYFRAMES.optimal_baseline_m,
        "Distance between reference and measurement frame that is preferred, metres.",
        0.0,
        100.0,
    ),
    Setting(
        "max_lost_frames",
        _KEYFRAMES.max_lost_frames,
        "Images without a pose in a row after which all keyframes are given up.",
        0,
        100_000,
    ),
    Setting("image_queue_size", 30, "Images that may wait for their transform.", 1, 10_000),
    Setting("transform_timeout_s", 1.0, "Longest time that an image waits for its transform, seconds.", 0.0, 3600.0),
    Setting("transform_cache_s", 10.0, "How far back transforms are remembered, seconds.", 0.1, 36_000.0),
    Setting(
        "worker_queue_size",
        1,
        "Frames that may wait while the engine is busy; the newest push the oldest out. 1 gives the least latency.",
        1,
        10_000,
    ),
    Setting(
        "depth_encoding",
        METRES,
        "Encoding of the depth image: 32FC1 metres, NaN where invalid; or 16UC1 millimetres, 0 where invalid.",
        choices=DEPTH_ENCODINGS,
    ),
    Setting(
        "points_min_confidence",
        0.0,
        "Least confidence, 0 to 1, of a point of the cloud.",
        0.0,
        1.0,
        live=True,
    ),
    Setting("points_min_depth_m", 0.0, "Least depth of a point of the cloud, metres.", 0.0, 1000.0, live=True),
    Setting("points_max_depth_m", 1000.0, "Greatest depth of a point of the cloud, metres.", 0.0, 1000.0, live=True),
    Setting("preview_min_depth_m", 0.5, "Depth that the preview shows in red, metres.", 0.01, 1000.0, live=True),
    Setting("preview_max_depth_m", 10.0, "Depth that the preview shows in blue, metres.", 0.01, 1000.0, live=True),
)
"""All parameters, in the order of config/depth.yaml."""


@dataclass(frozen=True)
class NodeConfig:
    """The parameters, checked together.

    Attributes:
        weights: file or name of the checkpoint.
        network: "fusionnet", "pairnet" or None for the weights' own choice.
        engine: device, precision and keyframe rule.
        image_transport: "raw" or "compressed".
        rectify: "auto", "always" or "never".
        pose_source: "tf", "odometry" or "pose".
        pose_frame: frame whose pose the messages are, or empty for what they say.
        world_frame: frame of the poses of TF.
        camera_frame: the camera's optical frame, or None for the image header's.
        image_queue_size: images that may wait for a transform.
        transform_timeout_s: longest wait.
        transform_cache_s: length of the transform buffer.
        worker_queue_size: frames that may wait for the engine.
        depth_encoding: "32FC1" or "16UC1".
    """

    weights: str
    network: str | None
    engine: EngineConfig
    image_transport: str
    rectify: str
    pose_source: str
    pose_frame: str
    world_frame: str
    camera_frame: str | None
    image_queue_size: int
    transform_timeout_s: float
    transform_cache_s: float
    worker_queue_size: int
    depth_encoding: str


@dataclass(frozen=True)
class OutputConfig:
    """What can change from one depth image to the next.

    Attributes:
        points_kept: the points of the cloud.
        preview_min_depth_m: depth of the preview's red end.
        preview_max_depth_m: depth of its blue end.
    """

    points_kept: CloudFilter
    preview_min_depth_m: float
    preview_max_depth_m: float


def build_outputs(values: dict[str, bool | int | float | str]) -> OutputConfig:
    """Return the output configuration that parameter values describe.

    Raises:
        ConfigError: naming the first value that cannot be used.
    """
    for name in ("points", "preview"):
        low, high = values[f"{name}_min_depth_m"], values[f"{name}_max_depth_m"]
        if low >= high:
            raise ConfigError(f"{name}_min_depth_m must be less than {name}_max_depth_m; got {low:g} and {high:g}")
    return OutputConfig(
        points_kept=CloudFilter(
            values["points_min_confidence"], values["points_min_depth_m"], values["points_max_depth_m"]
        ),
        preview_min_depth_m=values["preview_min_depth_m"],
        preview_max_depth_m=values["preview_max_depth_m"],
    )


def build_config(values: dict[str, bool | int | float | str]) -> NodeConfig:
    """Return the configuration that parameter values describe.

    Raises:
        ConfigError: naming the first value that cannot be used.
    """
    for setting in SETTINGS:
        value = values[setting.name]
        if setting.choices and value not in setting.choices:
            raise ConfigError(f"{setting.name} must be one of {', '.join(map(repr, setting.choices))}; got {value!r}")
    for name in ("weights", "world_frame"):
        if not values[name]:
            raise ConfigError(f"{name} must not be empty")
    build_outputs(values)  # refused here too, so that a node with a bad range is not configured
    return NodeConfig(
        weights=values["weights"],
        network=values["network"] or None,
        engine=EngineConfig(
            device=values["device"],
            precision=values["precision"],
            keyframes=KeyframeConfig(
                buffer_size=values["keyframe_buffer_size"],
                pose_distance=values["keyframe_pose_distance"],
                optimal_baseline_m=values["optimal_baseline_m"],
                measurement_frames=values["measurement_frames"],
                max_lost_frames=values["max_lost_frames"],
            ),
        ),
        image_transport=values["image_transport"],
        rectify=values["rectify"],
        pose_source=values["pose_source"],
        pose_frame=values["pose_frame"],
        world_frame=values["world_frame"],
        camera_frame=values["camera_frame"] or None,
        image_queue_size=values["image_queue_size"],
        transform_timeout_s=values["transform_timeout_s"],
        transform_cache_s=values["transform_cache_s"],
        worker_queue_size=values["worker_queue_size"],
        depth_encoding=values["depth_encoding"],
    )


class Parameters:
    """The parameters of one node: declares them, and refuses changes that cannot be used.

    An override of the wrong type or out of range does not end the process: `config` raises until it is corrected.

    Args:
        node: the node to declare them on.
        may_change: tells whether the node is in a state that lets parameters change (unconfigured) that are not live.
    """

    def __init__(self, node: Node, may_change: Callable[[], bool]) -> None:
        self._node = node
        self._may_change = may_change
        self._problems: dict[str, str] = {}
        for setting in SETTINGS:
            self._declare(setting)
        node.add_on_set_parameters_callback(self._check)

    def config(self) -> NodeConfig:
        """Return the configuration.

        Raises:
            ConfigError: with the reason, if a parameter cannot be used.
        """
        for problem in self._problems.values():
            raise ConfigError(problem)
        return build_config(self._values())

    def outputs(self) -> OutputConfig:
        """Return the part of the configuration that may change at any time."""
        return build_outputs(self._values())

    def __getitem__(self, name: str) -> bool | int | float | str:
        """Return one parameter's value."""
        return self._node.get_parameter(name).value

    def _values(self) -> dict[str, bool | int | float | str]:
        return {setting.name: self[setting.name] for setting in SETTINGS}

    def _declare(self, setting: Setting) -> None:
        try:
            self._node.declare_parameter(setting.name, setting.default, setting.descriptor())
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            kind = {bool: "a boolean", int: "an integer", float: "a number with a point", str: "text"}
            wanted = kind[type(setting.default)]
            if setting.low is not None:
                wanted += f" from {setting.low:g} to {setting.high:g}"
            self._problems[setting.name] = f"parameter {setting.name} must be {wanted}: {error}"
            self._node.declare_parameter(setting.name, setting.default, setting.descriptor(), ignore_override=True)

    def _check(self, changes: Sequence[Parameter]) -> SetParametersResult:
        known = {setting.name: setting for setting in SETTINGS}
        changed = {parameter.name: parameter.value for parameter in changes if parameter.name in known}
        if not changed:
            return SetParametersResult(successful=True)
        fixed = sorted(name for name in changed if not known[name].live)
        if fixed and not self._may_change():
            return SetParametersResult(
                successful=False,
                reason=f"{', '.join(fixed)} can change while the node is unconfigured only:"
                " deactivate and clean it up first",
            )
        try:
            build_config({**self._values(), **changed})
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for name in changed:
            self._problems.pop(name, None)
        return SetParametersResult(successful=True)
