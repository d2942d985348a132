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
        "The network to use where the weights hold both; empty for the weights' own choice.",
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
        "Arithmetic of the networks: float32, float16, bfloat16, or auto for bfloat16 where depth is matched, on CPUs"
        " that compute in it, else float32. Geometry and depth stay float32.",
        choices=PRECISIONS,
    ),
    Setting(
        "mode",
        "auto",
        "fast: fused kernels and CUDA graphs, or an error; reference: plain torch; auto: the fastest way"
        " that works here.",
        choices=MODES,
    ),
    Setting(
        "matching",
        "auto",
        "off for the network's depth alone; fast to match it against 6 past keyframes, full against 12, which takes"
        " longer; auto is off for weights of preset paper, else fast.",
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
        "Rectify images by camera_info: always, never, or auto: unless camera_info has no distortion or the topic's"
        " name contains rect, as in image_rect.",
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
        "Frame whose pose the messages of odometry or pose are; the camera's place on it comes from TF. Empty for an"
        " Odometry's child_frame_id, and for the camera itself where there is none.",
    ),
    Setting(
        "mounting",
        "",
        "Place of the camera's optical frame on the frame whose pose the messages are, where no TF tells it:"
        " 'x y z roll pitch yaw' (metres, radians) or 'x y z qx qy qz qw'. Empty for TF.",
    ),
    Setting(
        "world_frame",
        "odom",
        "Coordinate frame that camera poses of TF are taken in. It must be continuous: odom, not map, which may jump.",
    ),
    Setting(
        "camera_frame", "", "Optical frame of the camera (z forward, x right, y down); empty for the image header's."
    ),
    LiveSetting(
        "depth_for",
        KEYFRAMES,
        "Images that get depth: keyframes, or every_image (the newest first where the engine is too slow). Keyframes"
        " and their depth are the same either way.",
        choices=DEPTH_FOR,
    ),
    LiveSetting(
        "max_rate_hz",
        0.0,
        "With depth_for every_image, the highest rate of depth between keyframes, in the images' time; 0 for no limit.",
        0.0,
        1000.0,
    ),
    LiveSetting(
        "measurement_frames",
        _KEYFRAMES.measurement_frames,
        "Earlier keyframes that each depth map is measured against.",
        1,
        8,
    ),
    Setting("keyframe_buffer_size", _KEYFRAMES.buffer_size, "Keyframes kept to choose from.", 2, 300),
    LiveSetting(
        "keyframe_pose_distance",
        _KEYFRAMES.pose_distance,
        "Least combined pose distance (metres, and about 0.8 × radians) between two keyframes.",
        0.0,
        10.0,
    ),
    LiveSetting(
        "optimal_baseline_m",
        _KEYFRAMES.optimal_baseline_m,
        "Distance between reference and measurement frame that is preferred, metres.",
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
        "Largest image that is decoded, pixels; the header is checked before any pixel is read.",
        1,
        1_000_000_000,
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
    LiveSetting(
        "input_timeout_s",
        5.0,
        "Silence of images, camera_info or poses after which the node says so, seconds.",
        0.1,
        3600.0,
    ),
    LiveSetting(
        "warn_latency_s",
        1.0,
        "Age of depth when it is published, from the image's arrival, above which /diagnostics warns, seconds.",
        0.001,
        3600.0,
    ),
    LiveSetting(
        "error_latency_s",
        5.0,
        "Age of depth above which /diagnostics reports an error, seconds.",
        0.001,
        3600.0,
    ),
    LiveSetting(
        "warn_drop_ratio",
        0.5,
        "Share of the images dropped in the last seconds, for whatever reason, above which /diagnostics warns.",
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
        "Size of depth image, confidence and preview: network, or input for that of the images, edges guided by them.",
        choices=DEPTH_SIZES,
    ),
    LiveSetting(
        "min_depth_m",
        0.0,
        "Nearest depth published, metres; what is nearer becomes -Inf (REP 117), or 0 in 16UC1.",
        0.0,
        1000.0,
    ),
    LiveSetting(
        "max_depth_m",
        1000.0,
        "Farthest depth published, metres; what is farther becomes +Inf (REP 117), or 0 in 16UC1.",
        0.0,
        1000.0,
    ),
    LiveSetting(
        "depth_min_confidence",
        0.0,
        "Least confidence, 0 to 1, of the depth image; what has less becomes invalid.",
        0.0,
        1.0,
    ),
    LiveSetting(
        "confidence",
        True,
        "Estimate confidence where a subscriber needs it; without it, clouds have no field confidence.",
    ),
    LiveSetting(
        "points_min_confidence",
        0.5,
        "Least confidence, 0 to 1, of a point of the cloud; by default only depths that are more likely right than not."
        " Without confidence, clouds hold every depth.",
        0.0,
        1.0,
    ),
    LiveSetting("points_min_depth_m", 0.0, "Least depth of a point of the cloud, metres.", 0.0, 1000.0),
    LiveSetting("points_max_depth_m", 1000.0, "Greatest depth of a point of the cloud, metres.", 0.0, 1000.0),
    LiveSetting("points_stride", 1, "The cloud takes every n-th row and column.", 1, 64),
    LiveSetting(
        "points_organized",
        False,
        "Publish organized clouds: the rows and columns of the network's depth, NaN where there is no point. Otherwise"
        " one row of valid points.",
    ),
    LiveSetting(
        "points_max_rate_hz",
        0.0,
        "Highest rate of clouds, in the images' time; 0 for one with every depth image.",
        0.0,
        1000.0,
    ),
    LiveSetting("preview_min_depth_m", 0.5, "Depth that the preview shows in red, metres.", 0.01, 1000.0),
    LiveSetting("preview_max_depth_m", 10.0, "Depth that the preview shows in blue, metres.", 0.01, 1000.0),
    LiveSetting(
        "preview_max_rate_hz",
        0.0,
        "Highest rate of previews, in the images' time; 0 for one with every depth image.",
        0.0,
        1000.0,
    ),
    Setting(
        "cloud_folder",
        "~/.ros/dvmvs_clouds",
        "Folder that the service ~/save_cloud writes to; created when needed. Set at start only, so that nobody on the"
        " network can have files written elsewhere.",
        at_start=True,
    ),
    LiveSetting("cloud_keyframes", 10, "Latest keyframes whose points ~/save_cloud joins into one cloud.", 1, 1000),
)
"""All parameters."""
