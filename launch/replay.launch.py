# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A recording through the depth node: `ros2 launch dvmvs_ros replay.launch.py bag:=/path/to/rosbag2 rviz:=true`.

The arguments of depth.launch.py are arguments here too; `--show-args` lists them all.
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

SHARE = get_package_share_directory("dvmvs_ros")

RECORDINGS = (
    ("bag", "A rosbag2 (sqlite3 or mcap) to play."),
    ("scene", "A scene folder to play."),
    ("sequence", "Either of the two."),
)
"""(argument, description): exactly one must be given."""

ARGUMENTS = (
    ("rate", "1.0", float, "Speed, 1 = as recorded; 0 = as fast as possible, in lockstep."),
    ("lockstep", "false", bool, "Wait for the depth of each image before sending the next, so that none is lost."),
    ("loops", "1", int, "How often to play it; 0 = until stopped."),
    ("limit", "0", int, "Images to play; 0 = all."),
)
"""(argument, default, type, description) of the player's parameters that are arguments here."""

EVALUATION = (
    ("truth_topic", "/camera/depth", str, "True depth to compare with: Image or compressedDepth."),
    ("report_folder", "out/evaluation", str, "Folder for the figures and the report, or none."),
    ("result_bag", "", str, "Record what was played and published into this bag; empty: do not."),
    ("min_depth_m", "0.5", float, "Least true depth that counts, metres."),
    ("max_depth_m", "0.0", float, "Greatest true depth that counts, metres; 0 = no limit."),
)
"""(argument, default, type, description) of the evaluation node's parameters that are arguments here."""

REPORT_S = "60"
"""How long the evaluation may take to write its report, once everything else has ended."""


def _parameters(table):
    return {name: ParameterValue(LaunchConfiguration(name), value_type=kind) for name, _, kind, _ in table}


def _status(context):
    """Where the depth node says what became of each image."""
    names = (LaunchConfiguration(name).perform(context).strip("/") for name in ("namespace", "name"))
    return "/".join(["", *filter(None, names), "frame_status"])


def _mask(context):
    """Where the depth node listens to masks, unless told otherwise: next to the images."""
    image = LaunchConfiguration("image").perform(context)
    return LaunchConfiguration("valid_mask").perform(context) or f"{image[: image.rfind('/') + 1]}valid_mask"


def _evaluation(context):
    parameters = _parameters(EVALUATION)
    if LaunchConfiguration("report_folder").perform(context) == "none":  # an argument cannot be given as empty
        parameters["report_folder"] = ""
    return [
        Node(
            package="dvmvs_ros",
            executable="evaluation_node",
            namespace=LaunchConfiguration("namespace"),
            parameters=[
                {
                    "use_sim_time": True,
                    "depth_topic": ParameterValue(LaunchConfiguration("depth"), value_type=str),
                    "points_topic": ParameterValue(LaunchConfiguration("points"), value_type=str),
                    "status_topic": _status(context),
                    **parameters,
                }
            ],
            output="screen",
            sigterm_timeout=REPORT_S,
            sigkill_timeout=REPORT_S,
        )
    ]


def _player(context):
    given = {name: LaunchConfiguration(name).perform(context) for name, _ in RECORDINGS}
    paths = [path for path in given.values() if path]
    if len(paths) != 1:
        names = ", ".join(f"{name}:={path}" for name, path in given.items() if path) or "none of them"
        raise RuntimeError(f"expected exactly one of bag:=PATH, scene:=PATH and sequence:=PATH; got {names}")
    evaluated = IfCondition(LaunchConfiguration("evaluation")).evaluate(context)
    sequence = ParameterValue(paths[0], value_type=str)
    return [
        Node(
            package="dvmvs_ros",
            executable="replay_node",
            # It waits for those who listen: the depth node, and the evaluation.
            parameters=[{"sequence": sequence, "subscribers": 2 if evaluated else 1}, _parameters(ARGUMENTS)],
            # One topic for rectified and raw recordings: camera_info tells them apart.
            remappings=[
                ("camera/image_rect", LaunchConfiguration("image")),
                ("camera/image_raw", LaunchConfiguration("image")),
                ("camera/valid_mask", _mask(context)),
                ("depth_node/frame_status", _status(context)),
            ],
            output="screen",
            on_exit=OpaqueFunction(function=_end),
        )
    ]


def _end(context):
    """End everything with the player, unless it ended because everything does."""
    return [] if context.is_shutdown else [Shutdown(reason="the recording has ended")]


def generate_launch_description():
    """Return the arguments, the depth node, the evaluation, and the player, whose end is the end of all."""
    depth = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(os.path.join(SHARE, "launch", "depth.launch.py")),
        launch_arguments={"use_sim_time": "true", "required": "true"}.items(),
    )
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, default_value="", description=text) for name, text in RECORDINGS),
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, _, description in ARGUMENTS
            ),
            DeclareLaunchArgument("image", default_value="/camera/image", description="Topic to play the images on."),
            DeclareLaunchArgument(
                "evaluation", default_value="false", description="Compare the published depth with the recording's."
            ),
            *(
                DeclareLaunchArgument(name, default_value=default, description=f"With evaluation:=true. {description}")
                for name, default, _, description in EVALUATION
            ),
            depth,
            OpaqueFunction(function=_evaluation, condition=IfCondition(LaunchConfiguration("evaluation"))),
            OpaqueFunction(function=_player),
        ]
    )
