# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The depth node on your camera: `ros2 launch dvmvs_ros depth.launch.py camera:=realsense rviz:=true`.

`--show-args` lists the arguments. docs/cameras/ has a page for each camera that the argument `camera` knows.
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

from launch import LaunchDescription

SHARE = get_package_share_directory("dvmvs_ros")
CONFIG = os.path.join(SHARE, "config")

CAMERAS = {
    "realsense": {"image": "/camera/camera/color/image_raw", "camera_info": "/camera/camera/color/camera_info"},
    "oak": {"image": "/oak/rgb/image_raw", "camera_info": "/oak/rgb/camera_info"},
    "zed": {"image": "/zed/zed_node/rgb/color/rect/image", "camera_info": "/zed/zed_node/rgb/color/rect/camera_info"},
    "usb": {"image": "/image_raw", "camera_info": "/camera_info"},
    "gazebo": {"image": "/camera/image", "camera_info": "/camera/camera_info"},
}
"""Topics of the drivers that docs/cameras/ describes; config/cameras/ holds the parameters under the same names."""

IN_CAMERAS = ("image", "camera_info")

INPUTS = (
    ("image", "image", "/camera/image_rect", "Images, rectified or raw (sensor_msgs/Image)"),
    ("camera_info", "camera_info", "/camera/camera_info", "Intrinsics of those images (sensor_msgs/CameraInfo)"),
    ("valid_mask", "valid_mask", "", "What the images show, 0: nothing (sensor_msgs/Image); empty: next to the images"),
    ("odometry", "odometry", "odometry", "Poses for pose_source:=odometry (nav_msgs/Odometry)"),
    ("pose", "pose", "pose", "Poses for pose_source:=pose (geometry_msgs/PoseStamped)"),
    (
        "pose_with_covariance",
        "pose_with_covariance",
        "pose_with_covariance",
        "Poses for pose_source:=pose_with_covariance (geometry_msgs/PoseWithCovarianceStamped)",
    ),
)
"""(argument, name in the node, topic, description)."""

OUTPUTS = (
    ("depth", "depth/image", "Depth out (sensor_msgs/Image, 32FC1 or 16UC1; PNG on TOPIC/compressedDepth)."),
    ("depth_info", "depth/camera_info", "Intrinsics of the depth (sensor_msgs/CameraInfo)."),
    ("registered_depth", "depth_registered/image_rect", "The same depth under the name that image_pipeline expects."),
    ("registered_info", "depth_registered/camera_info", "Its intrinsics."),
    ("depth_range", "depth/range", "Nearest and farthest depth (sensor_msgs/Range, latched)."),
    ("confidence", "depth/confidence", "Confidence out (sensor_msgs/Image, 32FC1, 0 to 1)."),
    ("preview", "depth/preview", "Coloured depth out, for a person (sensor_msgs/Image, rgb8)."),
    ("points", "points", "Cloud out (sensor_msgs/PointCloud2: xyz, rgb and confidence)."),
)
"""(argument, name in the node and default topic, description)."""

OVERRIDES = (
    ("weights", str, "A safetensors file, or the name of a shipped checkpoint"),
    ("device", str, "auto, cpu, cuda, cuda:N or openvino:DEVICE"),
    ("precision", str, "Arithmetic of the networks: auto, float32, float16 or bfloat16"),
    ("image_transport", str, "raw, or compressed: JPEG or PNG on IMAGE_TOPIC/compressed"),
    ("rectify", str, "Rectify by camera_info: auto, always or never"),
    ("pose_source", str, "Where poses come from: tf, odometry, pose or pose_with_covariance"),
    ("pose_frame", str, "Frame that the pose messages give the pose of"),
    ("world_frame", str, "World frame of the poses from TF; continuous, such as odom"),
    ("camera_frame", str, "Optical frame of the camera, if it is not the images' frame_id"),
    ("depth_for", str, "Depth for keyframes, or for every_image"),
    ("depth_size", str, "Size of the depth: network, or input for the image's own"),
    ("measurement_frames", int, "Number of earlier keyframes in the plane sweep"),
    ("depth_encoding", str, "Encoding of the depth: 32FC1 (metres) or 16UC1 (millimetres)"),
    ("points_min_confidence", float, "Least confidence, 0 to 1, of a point of the cloud"),
)
"""(parameter, type, description); an empty argument leaves the parameter to the parameter files."""

END_S = "20"
"""How long the node may take to end: one inference may be running, on a slow machine."""

IN_RVIZ = ("image", "depth", "confidence", "preview", "points")
"""Arguments whose topics config/depth.rviz shows, there under their default names."""


def _topic(context, argument):
    """The topic of an argument: as given, else the camera's, else the default."""
    defaults = {name: topic for name, _, topic, _ in INPUTS} | {name: topic for name, topic, _ in OUTPUTS}
    camera = CAMERAS.get(LaunchConfiguration("camera").perform(context), {})
    image = LaunchConfiguration("image").perform(context) or camera.get("image", defaults["image"])
    defaults["valid_mask"] = f"{image[: image.rfind('/') + 1]}valid_mask"
    return LaunchConfiguration(argument).perform(context) or camera.get(argument, defaults[argument])


def _depth_node(context):
    # The files in turn, the later one over the earlier, and the arguments over them all.
    camera = LaunchConfiguration("camera").perform(context)
    files = [
        os.path.join(CONFIG, "depth.yaml"),
        *([os.path.join(CONFIG, "cameras", f"{camera}.yaml")] if camera else []),
        *filter(None, [LaunchConfiguration("params_file").perform(context)]),
    ]
    parameters = {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}
    for name, value_type, _ in OVERRIDES:
        if LaunchConfiguration(name).perform(context):
            parameters[name] = ParameterValue(LaunchConfiguration(name), value_type=value_type)
    parameters["autostart"] = False  # the event handlers below do it, or a lifecycle manager
    topics = [(own_name, argument) for argument, own_name, _, _ in INPUTS]
    topics += [(own_name, argument) for argument, own_name, _ in OUTPUTS]
    node = LifecycleNode(
        package="dvmvs_ros",
        executable="depth_node",
        name=LaunchConfiguration("name"),
        namespace=LaunchConfiguration("namespace"),
        parameters=[*files, parameters],
        remappings=[(own_name, _topic(context, argument)) for own_name, argument in topics],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
        sigterm_timeout=END_S,
        on_exit=OpaqueFunction(function=_end),
    )
    return _with_lifecycle(node)


def _end(context):
    """End everything with the node if that is wanted, unless it ended because everything does."""
    wanted = IfCondition(LaunchConfiguration("required")).evaluate(context)
    return [Shutdown(reason="the depth node has ended")] if wanted and not context.is_shutdown else []


def _with_lifecycle(node):
    """Start the node, configure it, activate it when it is configured, and say what to do if that fails."""

    def change(transition, **condition):
        event = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
        return EmitEvent(event=event, **condition)

    wanted = IfCondition(LaunchConfiguration("autostart"))
    configured = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[change(Transition.TRANSITION_ACTIVATE)],
        handle_once=True,  # later transitions are the user's
    )
    refused = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="unconfigured",
        entities=[
            LogInfo(
                msg="the depth node could not be configured; its line 'cannot configure' says why. Correct that with"
                " `ros2 param set`, then `ros2 lifecycle set NODE configure`, or start again."
            )
        ],
    )
    return [
        RegisterEventHandler(configured, condition=wanted),
        RegisterEventHandler(refused),
        node,
        change(Transition.TRANSITION_CONFIGURE, condition=wanted),
    ]


def _rviz(context):
    own_names = {"image": "/camera/image_rect"} | {name: f"/{topic}" for name, topic, _ in OUTPUTS}
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            name="depth_rviz",
            namespace=LaunchConfiguration("namespace"),  # so that relative topics mean the same as in the node
            arguments=["-d", LaunchConfiguration("rviz_config")],
            parameters=[{"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}],
            remappings=[(own_names[argument], _topic(context, argument)) for argument in IN_RVIZ],
            output="log",
        )
    ]


def _transport(context):
    profile = LaunchConfiguration("transport_profile").perform(context)
    if profile == "none":
        profile = ""  # set all the same: the node would name its own where the variable is not there
    product = "FASTRTPS" if os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy") else "FASTDDS"
    return [SetEnvironmentVariable(f"{product}_DEFAULT_PROFILES_FILE", profile)]


def generate_launch_description():
    """Return the arguments, the transport profile, the node with its lifecycle, and RViz."""

    def argument(name, default, description, **constraints):
        return DeclareLaunchArgument(name, default_value=default, description=description, **constraints)

    return LaunchDescription(
        [
            argument(
                "camera",
                "",
                "Use topics and parameters of this camera, see docs/cameras/. Empty: those given here.",
                choices=["", *CAMERAS],
            ),
            *(
                argument(name, "", f"{description}. Empty: the camera's topic, or else {topic}.")
                if name in IN_CAMERAS
                else argument(name, topic, f"{description}.")
                for name, _, topic, description in INPUTS
            ),
            *(argument(name, topic, description) for name, topic, description in OUTPUTS),
            *(argument(name, "", f"{description}. Empty: as in the files.") for name, _, description in OVERRIDES),
            argument("params_file", "", "Parameters of the node, over config/depth.yaml and the camera's file."),
            argument("name", "depth_node", "Name of the node."),
            argument("namespace", "", "Namespace of the node and its outputs."),
            argument("autostart", "true", "Configure and activate the node; false: leave that to a lifecycle manager."),
            argument("required", "false", "End the whole launch when the node ends."),
            argument("use_sim_time", "false", "Use the time of /clock."),
            argument("rviz", "false", "Also start RViz."),
            argument("rviz_config", os.path.join(CONFIG, "depth.rviz"), "RViz configuration."),
            argument("log_level", "info", "debug, info, warn or error."),
            argument(
                "transport_profile",
                os.path.join(CONFIG, "fastdds.xml"),
                "Fast DDS profile with shared memory for large messages; none for the default of Fast DDS.",
            ),
            OpaqueFunction(function=_transport),
            OpaqueFunction(function=_depth_node),
            OpaqueFunction(function=_rviz, condition=IfCondition(LaunchConfiguration("rviz"))),
        ]
    )
