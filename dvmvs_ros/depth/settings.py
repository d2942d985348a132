# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Every parameter of the depth node: name, default, description and range, in the order of config/depth.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from dvmvs_core.config import MATCHING_MODES, MODES, NETWORKS, PRECISIONS, KeyframeConfig
from dvmvs_core.data.encodings.image_size import MAX_IMAGE_PIXELS
from dvmvs_core.data.lens.camera_view import AUTO, RECTIFY

_KEYFRAMES = KeyframeConfig()

METRES, MILLIMETRES = DEPTH_ENCODINGS = ("32FC1", "16UC1")
FROM_TF, FROM_ODOMETRY, FROM_POSE, FROM_POSE_WITH_COVARIANCE = POSE_SOURCES = (
    "tf",
    "odometry",
    "pose",
    "pose_with_covariance",
)
RAW, COMPRESSED = IMAGE_TRANSPORTS = ("raw", "compressed")
KEYFRAMES, EVERY_IMAGE = DEPTH_FOR = ("keyframes", "every_image")
NETWORK_SIZE, INPUT_SIZE = DEPTH_SIZES = ("network", "input")


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
        at_start: whether it can be given at start only, and what is wrong with another value is still said.
    """

    name: str
    default: bool | int | float | str
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False
    live: bool = False
    at_start: bool = False

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


LiveSetting = partial(Setting, live=True)

SETTINGS = (
    Setting("autostart", True, "Configure and activate without a lifecycle manager.", read_only=True),
    Setting("weights", "small", "A safetensors file, or the name of a shipped checkpoint."),
    Setting(
        "network",
        "",
        "Network to use if the weights hold both; empty for their default.",
        choices=("", *NETWORKS),
    ),
    Setting(
        "device",
        "auto",
        "Compute device: auto (CUDA if there is one), cpu, cuda, cuda:N or openvino:DEVICE.",
    ),
    Setting(
        "precision",
        "auto",
        "Arithmetic of the networks: float32, float16, bfloat16 or auto. auto is float16 on CUDA and bfloat16 on"
        " CPUs that support it, but float32 for weights of preset paper without matching. Geometry and depth stay"
        " float32.",
        choices=PRECISIONS,
    ),
    Setting(
        "mode",
        "auto",
        "auto: the fastest implementation that works here; fast: compiled kernels and CUDA graphs, or an error;"
        " reference: plain torch.",
        choices=MODES,
    ),
    Setting(
        "matching",
        "auto",
        "off: the network's depth alone; fast: match it against 5 past keyframes; full: against 12, which is slower;"
        " auto: off for weights of preset paper, otherwise fast.",
        choices=MATCHING_MODES,
    ),
    Setting(
        "image_transport",
        "raw",
        "raw: sensor_msgs/Image; compressed: JPEG or PNG, on the image topic's name plus /compressed.",
        choices=IMAGE_TRANSPORTS,
    ),
    Setting(
        "rectify",
        AUTO,
        "Rectify images with camera_info: always, never or auto. auto rectifies unless camera_info has no distortion or"
        " the topic's name contains rect, as in image_rect.",
        choices=RECTIFY,
    ),
    Setting(
        "pose_source",
        FROM_TF,
        "Where camera poses come from: tf, the topic odometry (nav_msgs/Odometry), the topic pose"
        " (geometry_msgs/PoseStamped) or the topic pose_with_covariance (geometry_msgs/PoseWithCovarianceStamped).",
        choices=POSE_SOURCES,
    ),
    Setting(
        "pose_frame",
        "",
        "Frame that the messages on odometry or pose give the pose of; TF gives the camera's pose in this frame. Empty:"
        " the child_frame_id of an Odometry, otherwise the camera itself.",
    ),
    Setting(
        "mounting",
        "",
        "Pose of the camera's optical frame in pose_frame, if TF does not have it: 'x y z roll pitch yaw' (metres,"
        " radians) or 'x y z qx qy qz qw'. Empty: use TF.",
    ),
    Setting(
        "world_frame",
        "odom",
        "World frame of the camera poses from TF. It must be continuous: odom, not map, which may jump.",
    ),
    Setting(
        "camera_frame", "", "Optical frame of the camera (z forward, x right, y down); empty: the images' frame_id."
    ),
    LiveSetting(
        "depth_for",
        KEYFRAMES,
        "Images that get depth: keyframes or every_image (the newest first if the network is too slow). Keyframes and"
        " their depth are the same either way.",
        choices=DEPTH_FOR,
    ),
    LiveSetting(
        "max_rate_hz",
        0.0,
        "With depth_for every_image, maximum rate of depth between keyframes, by image stamps; 0 for no limit.",
        0.0,
        1000.0,
    ),
    LiveSetting(
        "measurement_frames",
        _KEYFRAMES.measurement_frames,
        "Number of earlier keyframes in the network's plane sweep.",
        1,
        8,
    ),
    Setting("keyframe_buffer_size", _KEYFRAMES.buffer_size, "Number of keyframes kept to choose from.", 2, 300),
    LiveSetting(
        "keyframe_pose_distance",
        _KEYFRAMES.pose_distance,
        "Minimum pose distance between two keyframes: metres and about 0.8 × radians, combined.",
        0.0,
        10.0,
    ),
    LiveSetting(
        "optimal_baseline_m",
        _KEYFRAMES.optimal_baseline_m,
        "Preferred distance between reference and measurement frame, metres.",
        0.0,
        100.0,
    ),
    LiveSetting(
        "max_lost_frames",
        _KEYFRAMES.max_lost_frames,
        "Consecutive images without a pose after which all keyframes are discarded.",
        0,
        100_000,
    ),
    Setting(
        "max_image_pixels",
        MAX_IMAGE_PIXELS,
        "Maximum size of an image, pixels; checked in the header, before any pixel is decoded.",
        1,
        1_000_000_000,
    ),
    Setting("image_queue_size", 30, "Maximum number of images that wait for their transform.", 1, 10_000),
    Setting("transform_timeout_s", 1.0, "Maximum time that an image waits for its transform, seconds.", 0.0, 3600.0),
    Setting("transform_cache_s", 10.0, "Time that transforms are kept, seconds.", 0.1, 36_000.0),
    Setting(
        "worker_queue_size",
        1,
        "Maximum number of frames that wait while the network is busy; new ones replace the oldest. 1: lowest latency.",
        1,
        10_000,
    ),
    LiveSetting(
        "input_timeout_s",
        5.0,
        "Time without images, camera_info or poses after which the node reports it, seconds.",
        0.1,
        3600.0,
    ),
    LiveSetting(
        "warn_latency_s",
        1.0,
        "Latency from the arrival of an image to its depth above which /diagnostics warns, seconds.",
        0.001,
        3600.0,
    ),
    LiveSetting(
        "error_latency_s",
        5.0,
        "Latency above which /diagnostics reports an error, seconds.",
        0.001,
        3600.0,
    ),
    LiveSetting(
        "warn_drop_ratio",
        0.5,
        "Ratio of images dropped in the last seconds, for any reason, above which /diagnostics warns.",
        0.0,
        1.0,
    ),
    Setting(
        "depth_encoding",
        METRES,
        "Encoding of the depth image: 32FC1 metres, NaN where invalid; or 16UC1 millimetres, 0 where invalid.",
        choices=DEPTH_ENCODINGS,
    ),
    Setting(
        "depth_size",
        NETWORK_SIZE,
        "Size of depth image, confidence and preview: network, or input for the size and the edges of the images.",
        choices=DEPTH_SIZES,
    ),
    LiveSetting(
        "min_depth_m",
        0.0,
        "Minimum depth, metres; smaller values become -Inf (REP 117), or 0 in 16UC1.",
        0.0,
        1000.0,
    ),
    LiveSetting(
        "max_depth_m",
        1000.0,
        "Maximum depth, metres; larger values become +Inf (REP 117), or 0 in 16UC1.",
        0.0,
        1000.0,
    ),
    LiveSetting(
        "depth_min_confidence",
        0.0,
        "Minimum confidence, 0 to 1, of the depth image; pixels below it become invalid.",
        0.0,
        1.0,
    ),
    LiveSetting(
        "confidence",
        True,
        "Estimate confidence if a subscriber needs it; without it, clouds have no field confidence.",
    ),
    LiveSetting(
        "points_min_confidence",
        0.5,
        "Minimum confidence, 0 to 1, of points in the cloud; by default only depth more likely right than wrong."
        " Without confidence, clouds hold every depth.",
        0.0,
        1.0,
    ),
    LiveSetting("points_min_depth_m", 0.0, "Minimum depth of points in the cloud, metres.", 0.0, 1000.0),
    LiveSetting("points_max_depth_m", 1000.0, "Maximum depth of points in the cloud, metres.", 0.0, 1000.0),
    LiveSetting("points_stride", 1, "Use every n-th row and column for the cloud.", 1, 64),
    LiveSetting(
        "points_organized",
        False,
        "Publish organized clouds: rows and columns of the network's depth, NaN where there is no point. Otherwise one"
        " row of valid points.",
    ),
    LiveSetting(
        "points_max_rate_hz",
        0.0,
        "Maximum rate of clouds, by image stamps; 0 for one with every depth image.",
        0.0,
        1000.0,
    ),
    LiveSetting("preview_min_depth_m", 0.5, "Depth shown in red by the preview, metres.", 0.01, 1000.0),
    LiveSetting("preview_max_depth_m", 10.0, "Depth shown in blue by the preview, metres.", 0.01, 1000.0),
    LiveSetting(
        "preview_max_rate_hz",
        0.0,
        "Maximum rate of previews, by image stamps; 0 for one with every depth image.",
        0.0,
        1000.0,
    ),
    Setting(
        "cloud_folder",
        "~/.ros/dvmvs_clouds",
        "Folder for the files of ~/save_cloud; created if needed. Set at start only, so that nobody on the network can"
        " write files elsewhere.",
        at_start=True,
    ),
    LiveSetting("cloud_keyframes", 10, "Number of latest keyframes in the cloud of ~/save_cloud.", 1, 1000),
)
"""All parameters."""
