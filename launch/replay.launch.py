"""A recording through the depth node: `ros2 launch dvmvs_ros replay.launch.py sequence:=/path/to/scene_or_bag`."""

import os

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

SHARE = get_package_share_directory("dvmvs_ros")

ARGUMENTS = (
    ("rate", "1.0", float, "Speed, 1 = as recorded; 0 = as fast as possible, in lockstep."),
    ("lockstep", "false", bool, "Wait for the depth of each image before sending the next, so that none is lost."),
    ("loops", "1", int, "How often to play it; 0 = until stopped."),
    ("limit", "0", int, "Images to play; 0 = all."),
)
"""(argument, default, type, description) of the player's parameters that are arguments here."""


def generate_launch_description():
    """Return the arguments, the depth node, and the player, whose end is the end of all."""
    depth = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(os.path.join(SHARE, "launch", "depth.launch.py")),
        launch_arguments={"use_sim_time": "true"}.items(),
    )
    player = Node(
        package="dvmvs_ros",
        executable="replay_node",
        parameters=[
            {"sequence": ParameterValue(LaunchConfiguration("sequence"), value_type=str)},
            {
                name: ParameterValue(LaunchConfiguration(name), value_type=value_type)
                for name, _, value_type, _ in ARGUMENTS
            },
        ],
        output="screen",
        on_exit=OpaqueFunction(function=_end),
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("sequence", description="Scene folder or rosbag2 to play."),
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, _, description in ARGUMENTS
            ),
            depth,
            player,
        ]
    )


def _end(context):
    # After Ctrl-C the launch is ending already, and a second Shutdown would be an error in it.
    return [] if context.is_shutdown else [Shutdown(reason="the recording has ended")]


def _end(context):
    """End everything with the player, unless it ended because everything does."""
    return [] if context.is_shutdown else [Shutdown(reason="the recording has ended")]
