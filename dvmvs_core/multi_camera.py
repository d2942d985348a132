# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Several cameras on one robot: each with its own keyframes and state, all through one network at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from dvmvs_core.config import EngineConfig
from dvmvs_core.engine import DepthEngine, run_jobs
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.types import DepthPrediction, Frame


class MultiCameraEngine:
    """Turns streams of posed frames, one of each camera, into depth maps.

    Depth is what an engine of each camera alone would give, up to rounding. Keyframes that fall together are worked
    out in one batch, provided that they have as many measurement frames, as they do after the first few.

    Args:
        network: a PairNet or FusionNet, shared by all cameras.
        cameras: how many.
        config: of every camera.

    Attributes:
        engines: one a camera, which share the network.
    """

    def __init__(self, network: PairNet | FusionNet, cameras: int, config: EngineConfig | None = None) -> None:
        first = DepthEngine(network, config)
        self.engines = [first, *(first.sibling(first.config) for _ in range(cameras - 1))]

    def step(self, frames: Sequence[Frame | None]) -> list[DepthPrediction | None]:
        """Take the next frame of each camera, None where there is none, and return the depth of those that get one."""
        groups: dict[tuple[int, bool], list[int]] = defaultdict(list)
        jobs = {}
        for camera, (engine, frame) in enumerate(zip(self.engines, frames, strict=True)):
            job = None if frame is None else engine.admit(frame)
            if job is not None:
                jobs[camera] = (engine, job)
                groups[len(job.measurements), job.memory is None].append(camera)
        predictions: list[DepthPrediction | None] = [None] * len(self.engines)
        for cameras in groups.values():
            for camera, prediction in zip(cameras, run_jobs([jobs[c] for c in cameras]), strict=True):
                predictions[camera] = prediction
        return predictions

    def warm_up(self) -> None:
        """Run the network on noise for all cameras at once, so that no real frame pays for the start."""
        for frames in zip(*(engine.warm_up_frames() for engine in self.engines), strict=True):
            self.step(frames)
        for engine in self.engines:
            engine.forget()
