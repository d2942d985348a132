# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The depth node's parameters, checked together: what is fixed while it is configured, and what may change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dvmvs_core.config import EngineConfig, KeyframeConfig
from dvmvs_core.errors import ConfigError
from dvmvs_core.foreign import quoted
from dvmvs_ros.depth.settings import FROM_TF, SETTINGS
from dvmvs_ros.messages.conversions import CloudFilter
from dvmvs_ros.poses.pose_messages import parse_body_T_camera

Value = bool | int | float | str


@dataclass(frozen=True, eq=False)
class NodeConfig:
    """What holds from configure to cleanup.

    Attributes:
        weights: file or name of the checkpoint.
        network: "fusionnet", "pairnet" or None for the weights' own choice.
        engine: device, precision and keyframe rule.
        image_transport: "raw" or "compressed".
        rectify: "auto", "always" or "never".
        pose_source: "tf", "odometry", "pose" or "pose_with_covariance".
        pose_frame: frame whose pose the messages are, or empty for what they say.
        body_T_camera: (4, 4) for poses of messages, or None for TF.
        world_frame: frame of the poses of TF.
        camera_frame: the camera's optical frame, or None for the image header's.
        image_queue_size: images that may wait for a transform.
        transform_timeout_s: longest wait.
        transform_cache_s: length of the transform buffer.
        worker_queue_size: frames that may wait for the engine.
        depth_encoding: "32FC1" or "16UC1".
        depth_size: "network" or "input".
        max_image_pixels: largest image that is decoded.
        cloud_folder: where ~/save_cloud writes to, absolute.
    """

    weights: str
    network: str | None
    engine: EngineConfig
    image_transport: str
    rectify: str
    pose_source: str
    pose_frame: str
    body_T_camera: np.ndarray | None
    world_frame: str
    camera_frame: str | None
    image_queue_size: int
    transform_timeout_s: float
    transform_cache_s: float
    worker_queue_size: int
    depth_encoding: str
    depth_size: str
    max_image_pixels: int
    cloud_folder: Path


@dataclass(frozen=True)
class LiveConfig:
    """What may change from one image to the next.

    Attributes:
        keyframes: the keyframe rule.
        depth_for: "keyframes" or "every_image".
        max_rate_hz: highest rate of depth between keyframes; 0 for no limit.
        input_timeout_s: silence after which the node says so.
        min_depth_m: nearest depth published.
        max_depth_m: farthest depth published.
        depth_min_confidence: least confidence of the depth image.
        confidence: whether confidence may be estimated.
        points_kept: the points of the cloud.
        points_organized: whether clouds have the rows and columns of the network's depth.
        points_max_rate_hz: highest rate of clouds; 0 for no limit.
        preview_min_depth_m: depth of the preview's red end.
        preview_max_depth_m: depth of its blue end.
        preview_max_rate_hz: highest rate of previews; 0 for no limit.
        warn_latency_s: age of depth above which diagnostics warn.
        error_latency_s: age above which they report an error.
        warn_drop_ratio: share of images dropped above which they warn.
        cloud_keyframes: latest keyframes that it joins.
    """

    keyframes: KeyframeConfig
    depth_for: str
    max_rate_hz: float
    input_timeout_s: float
    min_depth_m: float
    max_depth_m: float
    depth_min_confidence: float
    confidence: bool
    points_kept: CloudFilter
    points_organized: bool
    points_max_rate_hz: float
    preview_min_depth_m: float
    preview_max_depth_m: float
    preview_max_rate_hz: float
    warn_latency_s: float
    error_latency_s: float
    warn_drop_ratio: float
    cloud_keyframes: int


def build_live(values: dict[str, Value]) -> LiveConfig:
    """Return the part that may change at any time of the configuration that parameter values describe.

    Raises:
        ConfigError: naming the first value that cannot be used.
    """
    _check(values)
    points_kept = CloudFilter(
        values["points_min_confidence"],
        values["points_min_depth_m"],
        values["points_max_depth_m"],
        values["points_stride"],
    )
    return LiveConfig(
        keyframes=KeyframeConfig(
            buffer_size=values["keyframe_buffer_size"],
            pose_distance=values["keyframe_pose_distance"],
            optimal_baseline_m=values["optimal_baseline_m"],
            measurement_frames=values["measurement_frames"],
            max_lost_frames=values["max_lost_frames"],
        ),
        points_kept=points_kept if values["confidence"] else points_kept.without_confidence(),
        **{name: values[name] for name in LiveConfig.__dataclass_fields__ if name not in ("keyframes", "points_kept")},
    )


def build_config(values: dict[str, Value]) -> NodeConfig:
    """Return the configuration that parameter values describe.

    Raises:
        ConfigError: naming the first value that cannot be used.
    """
    live = build_live(values)  # refused here too, so that a node with a bad range is not configured
    body_T_camera = parse_body_T_camera(values["mounting"]) if values["mounting"] else None
    if body_T_camera is not None and values["pose_source"] == FROM_TF:
        raise ConfigError(
            "mounting is for poses of messages (pose_source odometry, pose or pose_with_covariance); with tf, publish"
            " it as a static transform: ros2 run tf2_ros static_transform_publisher"
        )
    return NodeConfig(
        network=values["network"] or None,
        engine=EngineConfig(
            device=values["device"],
            precision=values["precision"],
            mode=values["mode"],
            matching=values["matching"],
            keyframes=live.keyframes,
        ),
        body_T_camera=body_T_camera,
        camera_frame=values["camera_frame"] or None,
        cloud_folder=_folder("cloud_folder", values["cloud_folder"]),
        **{
            name: values[name]
            for name in NodeConfig.__dataclass_fields__
            if name not in ("network", "engine", "body_T_camera", "camera_frame", "cloud_folder")
        },
    )


def _folder(name: str, text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except (RuntimeError, OSError, ValueError) as error:  # the home folder of somebody who does not exist
        raise ConfigError(f"{name} must be a folder; got {quoted(text)}: {error}") from error


def _check(values: dict[str, Value]) -> None:
    for setting in SETTINGS:
        value = values[setting.name]
        if setting.choices and value not in setting.choices:
            raise ConfigError(
                f"{setting.name} must be one of {', '.join(map(repr, setting.choices))}; got {quoted(value)}"
            )
    for name in ("weights", "world_frame", "cloud_folder"):
        if not values[name]:
            raise ConfigError(f"{name} must not be empty")
    for prefix in ("", "points_", "preview_"):
        names = f"{prefix}min_depth_m", f"{prefix}max_depth_m"
        low, high = (values[name] for name in names)
        if low >= high:
            raise ConfigError(f"{names[0]} must be less than {names[1]}; got {low:g} and {high:g}")
    if values["warn_latency_s"] >= values["error_latency_s"]:
        raise ConfigError(
            f"warn_latency_s must be less than error_latency_s; got {values['warn_latency_s']:g} and"
            f" {values['error_latency_s']:g}"
        )
    if not values["confidence"] and values["depth_min_confidence"] > 0:
        raise ConfigError("depth_min_confidence must be 0 while confidence is off, since nothing would pass it")
