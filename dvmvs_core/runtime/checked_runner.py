# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""CUDA graphs as long as they can be trusted, and the plain network on the same GPU otherwise.

A robot never starts blind, and never dies of its GPU: before the first frame, captured steps are compared with the
plain network on the CPU, and what fails later is done again by the plain network on the GPU. There, its float32
convolutions would take more memory (workspaces of cuDNN) than all that is captured, only to be compared with.
"""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor

from dvmvs_core.config import EngineConfig
from dvmvs_core.errors import DeviceError, first_line
from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.model.features import ImageFeatures
from dvmvs_core.runtime.cuda_runner import CudaRunner
from dvmvs_core.runtime.device_memory import out_of_memory, working_device
from dvmvs_core.runtime.devices import network_precision
from dvmvs_core.runtime.plain_runner import PlainRunner
from dvmvs_core.runtime.runner import PreviousKeyframe, Runner, Timer

logger = logging.getLogger(__name__)

TOLERANCE = {"float32": 5e-4, "float16": 2e-3, "bfloat16": 5e-2}
"""Mean relative difference from the plain depth up to which a captured one is trusted. A CPU and a GPU in float32
may differ by 1e-5, since noise has steep edges everywhere."""


class CheckedRunner:
    """A `Runner` for CUDA.

    Args:
        network: on its device and in evaluation mode; it stays there for the case that graphs fail.
        device: where to run.
        config: of which precision and mode count; mode "fast" raises where "auto" does without graphs.

    Raises:
        DeviceError: if not even the plain network runs, or mode fast cannot keep what it promises.
    """

    keeps_features = True

    def __init__(self, network: PairNet | FusionNet, device: torch.device, config: EngineConfig) -> None:
        self.config, self.ends_at_quarter = network.config, network.ends_at_quarter
        self.device = device
        self._plain = PlainRunner(network, keeps_features=True, description="plain network on CUDA")
        self._captured: CudaRunner | None = None
        try:
            precision = network_precision(config, network.config.preset, torch.device("cuda"))
            captured = CudaRunner(network, device, getattr(torch, precision), config.mode == "fast")
            on_cpu = PlainRunner(copy.deepcopy(network).cpu(), keeps_features=True)
            _check(captured, on_cpu, TOLERANCE[precision])
            self._captured, failure = captured, None
        except Exception as error:  # capture, drivers and compilers fail in many ways
            # Its traceback would keep what was captured so far in memory.
            captured, failure = None, error.with_traceback(None)
        if failure is None:
            return
        if config.mode == "fast":
            raise DeviceError(f"{self._reason(failure)}; mode fast does not go on without them") from failure
        self._fall_back(failure)
        with working_device(network.config, device, "run the network"):
            _trial(self._plain)

    @property
    def description(self) -> str:
        """What runs now, for a person."""
        return self._running.description

    @property
    def timer(self) -> Timer:
        """Is told of the parts of `depth`, where nothing is captured."""
        return self._running.timer

    @timer.setter
    def timer(self, timer: Timer) -> None:
        for runner in filter(None, (self._plain, self._captured)):
            runner.timer = timer

    def features(self, image: Tensor) -> ImageFeatures:
        """As in `Runner`."""
        if self._captured is not None:
            try:
                return self._captured.features(image)
            except RuntimeError as error:
                self._fall_back(error)
        return self._plain.features(image)

    def depth(self, image: Tensor, reference: ImageFeatures, *arguments) -> tuple[Tensor, LSTMState | None]:
        """As in `Runner`, which names the other arguments."""
        if self._captured is not None:
            try:
                return self._captured.depth(image, reference, *arguments)
            except RuntimeError as error:
                self._fall_back(error)
                # Those of a graph may be of another precision.
                reference = self._plain.features(image)
        return self._plain.depth(image, reference, *arguments)

    @property
    def _running(self) -> Runner:
        return self._captured or self._plain

    def _fall_back(self, error: Exception) -> None:
        """Go on with the plain network, and say so once."""
        logger.warning("%s; depth goes on with the plain network on %s", self._reason(error), self.device)
        timer, self._captured = self.timer, None
        self.timer = timer
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _reason(self, error: Exception) -> str:
        if isinstance(error, torch.OutOfMemoryError):
            return out_of_memory(error, self.config, self.device)
        return f"CUDA graphs cannot be used ({type(error).__name__}: {first_line(error)})"


def _check(captured: Runner, plain: Runner, tolerance: float) -> None:
    """Compare depth of captured steps, with memory where the network has one, with the plain network's.

    Raises:
        DeviceError: if they differ.
    """
    for found, expected in zip(_trial(captured), _trial(plain), strict=True):
        difference = float(((found - expected).abs() / expected).mean())
        if not difference <= tolerance:
            raise DeviceError(f"depth differs from the plain network's by {difference:.2g} in the mean")


@torch.inference_mode()
def _trial(runner: Runner) -> list[Tensor]:
    """Depth (1, H, W), on the CPU, of two keyframes of noise, each measured against the same frame."""
    height, width = runner.config.height, runner.config.width
    noise = torch.Generator().manual_seed(0)
    first, *images = (torch.randn(1, 3, height, width, generator=noise).to(runner.device) for _ in range(3))
    K = torch.tensor(((width, 0.0, width / 2), (0.0, width, height / 2), (0.0, 0.0, 1.0)))[None]
    # Moved and turned about all axes: where a row of pixels met the border of another frame to the last digit, two
    # devices would disagree on what is in view.
    twist = torch.tensor(((0, -0.011, 0.017, 0.1), (0.011, 0, -0.013, 0.03), (-0.017, 0.013, 0, 0.02), (0, 0, 0, 0)))
    poses = torch.linalg.matrix_exp(twist * torch.arange(3)[:, None, None])[:, None]
    matching = [runner.features(first).matching]
    depths, previous = [], None
    for image, pose in zip(images, poses[1:], strict=True):
        features = runner.features(image)
        depth, state = runner.depth(image, features, matching, pose, [poses[0]], K, previous)
        previous = PreviousKeyframe(depth[:, None], pose, state)
        depths.append(depth.cpu())
    return depths
