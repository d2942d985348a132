# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dvmvs_core.cli.outputs import Output

if TYPE_CHECKING:
    from dvmvs_core.config import EngineConfig
    from dvmvs_core.data.sequence import FrameSequence
    from dvmvs_core.engine import DepthEngine


SequencePath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SEQUENCE")]
"""A scene folder or a rosbag2."""

SequencePaths = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SEQUENCE ...")]
"""Scene folders or rosbag2 recordings."""

IndexPaths = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE|DIR ...")]
"""Index files, or folders of them."""

OptionalFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
OutputFile = Annotated[OptionalFile, Output.FILE]
OutputFolder = Annotated[Path | None, tyro.conf.arg(metavar="DIR"), Output.FOLDER]
RequiredFolder = Annotated[Path, tyro.conf.arg(metavar="DIR"), Output.FOLDER]
NewFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT"), Output.FOLDER]
OptionalName = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
OptionalCount = Annotated[int | None, tyro.conf.arg(metavar="N")]
Count = Annotated[int, tyro.conf.arg(metavar="N")]
Metres = Annotated[float, tyro.conf.arg(metavar="METRES")]
_Topic = Annotated[str | None, tyro.conf.arg(metavar="TOPIC")]


@dataclass(frozen=True)
class BagOptions:
    """Topics and frames of a rosbag2, if the automatic choice is wrong."""

    image_topic: _Topic = None
    """topic of the colour images"""
    camera_info_topic: _Topic = None
    """topic of their camera_info"""
    depth_topic: _Topic = None
    """topic of sensor depth, or a PointCloud2 to project into the images"""
    pose_topic: _Topic = None
    """topic of Odometry, PoseStamped or PoseWithCovarianceStamped; by default only used if /tf has no camera pose"""
    tf_topic: _Topic = None
    """topic of moving transforms; by default /tf and any topic named tf in a namespace of the images"""
    world_frame: Annotated[str | None, tyro.conf.arg(metavar="FRAME")] = None
    """world frame of the poses; by default odom, otherwise the root of the camera's tree"""
    rectify: Literal["auto", "always", "never"] = "auto"
    """rectify images with lens distortion; auto decides by the name of their topic"""

    def open_all(self, paths: tuple[Path, ...]) -> list[FrameSequence]:
        """Open several sequences.

        Raises:
            ConfigError: if none is named.
        """
        from dvmvs_core.errors import ConfigError

        if not paths:
            raise ConfigError("name at least one sequence, a scene folder or a rosbag2, before the options")
        return [self.open(path) for path in paths]

    def open(self, path: Path) -> FrameSequence:
        """Open a sequence."""
        from dvmvs_core.data.bags.bag_sequence import BagTopics
        from dvmvs_core.data.open_sequence import open_sequence

        topics = BagTopics(
            self.image_topic,
            self.camera_info_topic,
            self.depth_topic,
            self.world_frame,
            self.pose_topic,
            self.rectify,
            self.tf_topic,
        )
        return open_sequence(path, topics)


@dataclass(frozen=True)
class EngineOptions:
    """Network and device."""

    weights: Annotated[str, tyro.conf.arg(metavar="FILE|NAME")] = "small"
    """a safetensors file, or the name of a shipped checkpoint (dvmvs weights list)"""
    network: Annotated[Literal["fusionnet", "pairnet"] | None, tyro.conf.arg(metavar="{fusionnet,pairnet}")] = None
    """network to use, if the weights hold both"""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """auto, cpu, cuda, cuda:N, or openvino:CPU, :GPU or :NPU"""
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """arithmetic of the networks; auto is float16 on CUDA and bfloat16 on CPUs that support it, but float32 for preset
    paper without matching"""
    mode: Literal["auto", "fast", "reference"] = "auto"
    """auto: the fastest implementation that works here; fast: fail if it does not work; reference: plain torch"""
    matching: Literal["auto", "off", "fast", "full"] = "auto"
    """match the network's depth against 5 (fast) or 12 (full) past keyframes; auto is off for weights of preset paper,
    otherwise fast"""
    measurement_frames: OptionalCount = None
    """largest number of measurement frames per keyframe; by default 2, or as many as index files name"""

    def config(self) -> EngineConfig:
        """Return the engine's configuration."""
        from dvmvs_core.config import EngineConfig, KeyframeConfig

        keyframes = KeyframeConfig()
        if self.measurement_frames is not None:
            keyframes = KeyframeConfig(measurement_frames=self.measurement_frames)
        return EngineConfig(
            device=self.device,
            precision=self.precision,
            mode=self.mode,
            matching=self.matching,
            keyframes=keyframes,
        )

    def build(self, description: str | None = None) -> DepthEngine:
        """Build the engine and run it once, so that no measured frame pays for the start."""
        from dvmvs_core.progress import progress

        with progress(description or f"loading {self.weights}", 1, transient=True) as advance:
            from dvmvs_core.engine import DepthEngine

            engine = DepthEngine.from_weights(self.weights, self.network, self.config())
            engine.warm_up()
            advance(1)
        return engine
