"""The depth node on your camera: `ros2 launch dvmvs_ros depth.launch.py image:=/camera/image_rect ...`.

`--show-args` lists the arguments.
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

SHARE = get_package_share_directory("dvmvs_ros")

TOPICS = (
    ("image", "image", "/camera/image_rect", "Images, rectified or raw (sensor_msgs/Image)."),
    ("camera_info", "camera_info", "/camera/camera_info", "Intrinsics of those images (sensor_msgs/CameraInfo)."),
    ("odometry", "odometry", "odometry", "Poses for pose_source:=odometry (nav_msgs/Odometry)."),
    ("pose", "pose", "pose", "Poses for pose_source:=pose (geometry_msgs/PoseStamped)."),
    ("depth", "depth/image", "depth/image", "Depth out (sensor_msgs/Image, 32FC1 or 16UC1)."),
    ("depth_info", "depth/camera_info", "depth/camera_info", "Intrinsics of the depth (sensor_msgs/CameraInfo)."),
    ("confidence", "depth/confidence", "depth/confidence", "Confidence out (sensor_msgs/Image, 32FC1, 0 to 1)."),
    ("preview", "depth/preview", "depth/preview", "Coloured depth out, for a person (sensor_msgs/Image, rgb8)."),
    ("points", "points", "points", "Cloud out (sensor_msgs/PointCloud2: xyz, rgb and confidence)."),
)
"""(argument, name in the node, default, description)."""

OVERRIDES = (
    ("weights", str, "A safetensors file, or the name of a shipped checkpoint."),
    ("device", str, "auto, cpu, cuda or cuda:N."),
    ("image_transport", str, "raw, or compressed for JPEG or PNG on the image topic with /compressed behind."),
    ("rectify", str, "Rectify by camera_info: auto, always or never."),
    ("pose_source", str, "Where poses come from: tf, odometry or pose."),
    ("pose_frame", str, "Frame whose pose the messages of odometry or pose are."),
    ("world_frame", str, "Continuous frame that poses are taken in, such as odom."),
    ("camera_frame", str, "Optical frame of the camera, where the images' frame_id is not it."),
    ("measurement_frames", int, "Earlier keyframes that each depth map is measured against."),
    ("depth_encoding", str, "Encoding of the depth: 32FC1 (metres) or 16UC1 (millimetres)."),
    ("points_min_confidence", float, "Least confidence, 0 to 1, of a point of the cloud."),
    ("autostart", bool, "Configure and activate without a lifecycle manager."),
)
"""(parameter, type, description); an empty argument leaves the parameter to params_file."""


def _node(context):
    parameters = {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}
    for name, value_type, _ in OVERRIDES:
        if LaunchConfiguration(name).perform(context):
            parameters[name] = ParameterValue(LaunchConfiguration(name), value_type=value_type)
    return [
        LifecycleNode(
            package="dvmvs_ros",
            executable="depth_node",
            name=LaunchConfiguration("name"),
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file"), parameters],
            remappings=[(own_name, LaunchConfiguration(argument)) for argument, own_name, _, _ in TOPICS],
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            output="screen",
        )
    ]


def generate_launch_description():
    """Return the arguments, the transport profile and the node."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, _, default, description in TOPICS
            ),
            *(
                DeclareLaunchArgument(name, default_value="", description=f"{description} Empty: as in params_file.")
                for name, _, description in OVERRIDES
            ),
            DeclareLaunchArgument(
                "params_file",
                default_value=os.path.join(SHARE, "config", "depth.yaml"),
                description="Parameters of the node.",
            ),
            DeclareLaunchArgument("name", default_value="depth_node", description="Name of the node."),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and its outputs."),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="Take the time from /clock."),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn or error."),
            DeclareLaunchArgument(
                "transport_profile",
                default_value=os.path.join(SHARE, "config", "fastdds.xml"),
                description="Fast DDS profile with shared memory for large messages; empty for the system's own.",
            ),
            OpaqueFunction(function=_transport),
            OpaqueFunction(function=_node),
        ]
    )


def _transport(context):
    profile = LaunchConfiguration("transport_profile").perform(context)
    if not profile:
        return []
    product = "FASTRTPS" if os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy") else "FASTDDS"
    return [SetEnvironmentVariable(f"{product}_DEFAULT_PROFILES_FILE", profile)]
