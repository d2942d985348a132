# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The one way from frames to depth: keyframe selection, the network, and all state between keyframes.

The node, offline prediction, evaluation and benchmarks call the same `DepthEngine.step`, so the same frames give
the same depths everywhere.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dvmvs_core.confidence import compiled_confidence, estimate_confidence
from dvmvs_core.config import EngineConfig, KeyframeConfig, ModelConfig
from dvmvs_core.errors import FrameError
from dvmvs_core.geometry import is_finite_pose
from dvmvs_core.keyframes import KeyframeBuffer, KeyframeDecision
from dvmvs_core.model.checkpoint import load_network
from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.preprocess import Preprocessor
from dvmvs_core.runtime.choose import choose_runner
from dvmvs_core.runtime.devices import resolve_device
from dvmvs_core.runtime.memory import Memory
from dvmvs_core.runtime.runner import Runner
from dvmvs_core.types import DepthPrediction, Frame

logger = logging.getLogger(__name__)

CONFIDENCE_PREDICTIONS = 3
"""Earlier predictions that a new one is compared with for its confidence."""


@dataclass(eq=False)
class _View:
    """A frame as the engine keeps it: its raw image only until its features exist, unless the runner keeps none.

    The first frame after a reset gets no depth, and may never become a measurement frame, so its features wait until
    they are needed. Every other keyframe gets them as a reference frame.
    """

    frame: Frame | None
    world_T_cam: Tensor
    stamp_ns: int
    index: int
    matching: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Job:
    """A frame that is to get a depth, with all that this needs.

    Attributes:
        frame: the reference frame.
        image: (1, 3, h, w) its normalised image.
        resized: (h, w, 3) its image at the network's resolution, 0…255.
        reference: the reference frame as the engine keeps it.
        measurements: the measurement frames, best first.
        memory: of the last prediction.
        started: time.perf_counter() when the frame came.
        keeps: whether later predictions build on this one.
    """

    frame: Frame
    image: Tensor
    resized: Tensor
    reference: _View
    measurements: list[_View]
    memory: Memory | None
    started: float
    keeps: bool


class DepthEngine:
    """Turns a stream of posed frames into depth maps of its keyframes.

    Not thread-safe: call it from one thread.

    Args:
        network: a PairNet or FusionNet, which is moved to the device and put in evaluation mode; or what runs one
            already, to share it with another engine.
        config: device, precision, mode and keyframe rule.

    Attributes:
        last_decision: what the keyframe rule said of the last frame given to `step`; None before the first and after
            a reset.
        estimates_confidence: whether the next predictions get a confidence; `config.confidence` at first.
        rate_depth: what estimates it, with the arguments of `confidence.estimate_confidence`.

    Raises:
        DeviceError: if the device does not exist here.
    """

    def __init__(self, network: PairNet | FusionNet | Runner, config: EngineConfig | None = None) -> None:
        self.config = config or EngineConfig()
        self.model_config: ModelConfig = network.config
        self.device = resolve_device(self.config.device)
        self.estimates_confidence = self.config.confidence
        self._runner: Runner = network
        if isinstance(network, nn.Module):
            self._runner = choose_runner(network, self.config)
        self.rate_depth = compiled_confidence if self._runner.compiled else estimate_confidence
        self._keyframes: KeyframeBuffer[_View] = KeyframeBuffer(self.config.keyframes)
        self._preprocessor: Preprocessor | None = None
        self._camera: tuple | None = None
        self._indexed_views: dict[int, _View] = {}
        self._past: deque[Memory] = deque(maxlen=CONFIDENCE_PREDICTIONS)
        self.reset()

    @classmethod
    def from_weights(
        cls, weights: str | Path, network: str | None = None, config: EngineConfig | None = None
    ) -> DepthEngine:
        """Build the engine from a safetensors file, or from the name of a shipped checkpoint.

        Args:
            weights: path, or name such as "small".
            network: "fusionnet" or "pairnet" where the file holds both; the file's own choice if None.
            config: device, precision and keyframe rule.

        Raises:
            WeightsError: if the file is broken, unknown or does not hold that network.
            DeviceError: if the device does not exist here.
        """
        config = config or EngineConfig()
        resolve_device(config.device)
        loaded, _ = load_network(weights, network)
        return cls(loaded, config)

    def sibling(self, config: EngineConfig) -> DepthEngine:
        """Return an engine for another camera that runs the same network: the weights are in memory once.

        Args:
            config: with the device, precision and mode of this engine; the rest may differ.
        """
        return type(self)(self._runner, config)

    @property
    def runs_as(self) -> str:
        """What runs the network here, for a person: mode "auto" leaves that open."""
        return self._runner.description

    def reset(self) -> None:
        """Forget all keyframes and the recurrent state, as after a jump in time or a new scene."""
        self._keyframes.clear()
        self._indexed_views.clear()
        self._past.clear()
        self.last_decision: KeyframeDecision | None = None

    def step(self, frame: Frame) -> DepthPrediction | None:
        """Take the next frame in the order of time, and return its depth if it is a keyframe.

        Frames may have any size; one with another size or other intrinsics than the last starts anew, since neither
        features nor recurrent state of another camera can be used.

        Args:
            frame: RGB image, intrinsics, pose and stamp.

        Returns:
            The prediction, or None; `last_decision` says why.
        """
        job = self.admit(frame)
        return None if job is None else run_jobs([(self, job)])[0]

    def admit(self, frame: Frame) -> Job | None:
        """Take the next frame as `step` does, but leave its depth to be worked out together with other engines' jobs.

        Every job must go through `run_jobs` before the next frame is taken.
        """
        started = time.perf_counter()
        self._follow_camera(frame)
        self.last_decision = self._keyframes.add(frame.world_T_cam, view := self._view(frame))
        if self.last_decision is KeyframeDecision.TRACKING_LOST:
            self._past.clear()
        if self.last_decision is not KeyframeDecision.KEYFRAME:
            return None
        return self._job(frame, view, self._keyframes.measurement_frames(), started)

    def peek(self, frame: Frame) -> DepthPrediction | None:
        """Return the depth of a frame without taking it: keyframes, recurrent state and decisions stay as they are.

        For depth of every image: `step` first, and `peek` where it found the frame too close to the last keyframe.

        Args:
            frame: RGB image, intrinsics, pose and stamp.

        Returns:
            The prediction from the keyframes and the state as they are now; None while there is no other keyframe of
            this camera to measure against, or where the frame has no finite pose.
        """
        started = time.perf_counter()
        if not is_finite_pose(frame.world_T_cam) or _camera_of(frame) != self._camera or not len(self._keyframes):
            return None
        return self._predict(
            frame, self._view(frame), self._keyframes.measurement_frames_of(frame.world_T_cam), started, keeps=False
        )

    def set_measurement_frames(self, count: int) -> None:
        """Choose at most this many measurement frames for each keyframe from the next frame on.

        Raises:
            ConfigError: if the keyframe buffer cannot hold that many.
        """
        self.set_keyframe_rule(self.config.keyframes.replace(measurement_frames=count))

    def set_keyframe_rule(self, rule: KeyframeConfig) -> None:
        """Follow another keyframe rule from the next frame on; the keyframes stay.

        Raises:
            ConfigError: if its buffer is of another size.
        """
        if rule != self.config.keyframes:
            self._keyframes.set_rule(rule)
            self.config = self.config.replace(keyframes=rule)

    def predict(self, reference: Frame, measurement_frames: list[Frame]) -> DepthPrediction:
        """Return the depth of a reference frame against given measurement frames, past the keyframe rule.

        The recurrent state is carried from call to call as in `step`; features are kept by stamp for the last
        `buffer_size` frames, so that a measurement frame which was a reference frame before is not extracted again.

        Raises:
            FrameError: if there is no measurement frame, or a pose is not finite.
        """
        started = time.perf_counter()
        if not measurement_frames:
            raise FrameError("a prediction needs at least 1 measurement frame; got none")
        for frame in (reference, *measurement_frames):
            if not is_finite_pose(frame.world_T_cam):
                raise FrameError(f"frame {frame.index} has no finite pose, so no depth can be predicted from it")
        self._follow_camera(reference)
        measurements = [self._indexed_view(frame) for frame in measurement_frames]
        return self._predict(reference, self._indexed_view(reference), measurements, started)

    def warm_up(self) -> None:
        """Run the network on noise, so that the first real frame does not pay for compilation and allocation."""
        for frame in self.warm_up_frames():
            self.step(frame)
        self.forget()

    def warm_up_frames(self) -> list[Frame]:
        """Return frames of noise that are all keyframes."""
        height, width = self.model_config.height, self.model_config.width
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        K = np.array(((width, 0.0, width / 2), (0.0, width, height / 2), (0.0, 0.0, 1.0)))
        frames = []
        for i in range(3):
            world_T_cam = np.eye(4)
            world_T_cam[0, 3] = i * (self.config.keyframes.pose_distance + 0.05)
            frames.append(Frame(noise, K, world_T_cam, stamp_ns=i + 1, index=i))
        return frames

    def forget(self) -> None:
        """Reset, and take any camera next without a word."""
        self.reset()
        self._camera = None

    def _follow_camera(self, frame: Frame) -> None:
        camera = _camera_of(frame)
        if camera == self._camera:
            return
        if self._camera is not None:
            logger.warning("the camera's size or intrinsics changed: keyframes and recurrent state start anew")
            self.reset()
        config = self.model_config
        self._preprocessor = Preprocessor(
            frame.K, frame.image.shape[:2], (config.height, config.width), crop=self.config.crop
        )
        self._K = self._tensor(self._preprocessor.K)
        self._camera = camera

    def _view(self, frame: Frame) -> _View:
        return _View(frame, self._tensor(frame.world_T_cam), frame.stamp_ns, frame.index)

    def _indexed_view(self, frame: Frame) -> _View:
        view = self._indexed_views.get(frame.stamp_ns)
        if view is None:
            view = self._indexed_views[frame.stamp_ns] = self._view(frame)
            if len(self._indexed_views) > self.config.keyframes.buffer_size:
                self._indexed_views.pop(next(iter(self._indexed_views)))
        return view

    def _tensor(self, array: np.ndarray) -> Tensor:
        """Return the array as float32 on the CPU with a batch axis in front."""
        return torch.from_numpy(np.asarray(array, dtype=np.float32))[None]

    def _predict(
        self, frame: Frame, reference: _View, measurements: list[_View], started: float, keeps: bool = True
    ) -> DepthPrediction:
        """Return the depth of a frame; `keeps` says whether later predictions build on it."""
        return run_jobs([(self, self._job(frame, reference, measurements, started, keeps))])[0]

    def _job(
        self, frame: Frame, reference: _View, measurements: list[_View], started: float, keeps: bool = True
    ) -> Job:
        image, resized = self._image(frame)
        memory = self._past[-1] if self._past else None
        return Job(frame, image, resized, reference, measurements, memory, started, keeps)

    @torch.inference_mode()
    def _finish(self, job: Job, depth: Tensor, state: LSTMState | None) -> DepthPrediction:
        """Return the prediction of a job whose depth (1, h, w) is there, and remember it."""
        confidence = self._confidence(depth, job) if self.estimates_confidence else None
        if job.keeps:
            self._past.append(Memory(depth[:, None], job.reference.world_T_cam, state))
        return DepthPrediction(
            depth=depth[0].cpu().numpy(),
            K=self._preprocessor.K.astype(np.float64),
            image=job.resized.round().clamp(0, 255).to(torch.uint8).cpu().numpy(),
            world_T_cam=job.frame.world_T_cam,
            stamp_ns=job.frame.stamp_ns,
            frame_index=job.frame.index,
            measurement_index=tuple(view.index for view in job.measurements),
            measurement_stamps_ns=tuple(view.stamp_ns for view in job.measurements),
            latency_ms=(time.perf_counter() - job.started) * 1e3,
            confidence=None if confidence is None else confidence[0].cpu().numpy(),
        )

    def _confidence(self, depth: Tensor, job: Job) -> Tensor:
        return self.rate_depth(
            depth,
            self._K.to(self.device),
            job.reference.world_T_cam.to(self.device),
            job.reference.matching,
            [(view.matching, view.world_T_cam.to(self.device)) for view in job.measurements],
            [(past.depth, past.world_T_cam.to(self.device)) for past in self._past],
        )

    def _image(self, frame: Frame) -> tuple[Tensor, Tensor]:
        """Return the normalised image (1, 3, h, w), and the resized one (h, w, 3) with values 0…255."""
        return self._runner.image(self._preprocessor, frame.image)

    def _matching(self, view: _View) -> Tensor:
        """Return the matching map of a view, from its image where the runner does not want it kept."""
        if view.matching is None or not self._runner.keeps_features:
            view.matching = self._runner.features(self._image(view.frame)[0]).matching
        if self._runner.keeps_features:
            view.frame = None
        return view.matching


@torch.inference_mode()
def run_jobs(jobs: list[tuple[DepthEngine, Job]]) -> list[DepthPrediction]:
    """Return the prediction of each job; all have as many measurement frames, and memory or none, and one runner."""
    runner = jobs[0][0]._runner
    views = list(zip(*(job.measurements for _, job in jobs), strict=True))
    # Before the reference frame's features, which a runner may overwrite at the next extraction.
    matching = [_joined([engine._matching(view) for (engine, _), view in zip(jobs, v, strict=True)]) for v in views]
    image = _joined([job.image for _, job in jobs])
    features = runner.features(image)
    for i, (_, job) in enumerate(jobs):
        job.reference.matching = features.matching[i : i + 1]
        if runner.keeps_features:
            job.reference.frame = None
    memory = None
    if jobs[0][1].memory is not None:
        memory = _joined_memory([job.memory for _, job in jobs])
    depth, state = runner.depth(
        image,
        features,
        matching,
        _joined([job.reference.world_T_cam for _, job in jobs]),
        [_joined([view.world_T_cam for view in v]) for v in views],
        _joined([engine._K for engine, _ in jobs]),
        memory,
    )
    states = [None if state is None else LSTMState(*(x[i : i + 1] for x in state)) for i in range(len(jobs))]
    return [
        engine._finish(job, depth[i : i + 1], one)
        for i, ((engine, job), one) in enumerate(zip(jobs, states, strict=True))
    ]


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _joined_memory(memories: list[Memory]) -> Memory:
    states = [memory.state for memory in memories]
    state = None if states[0] is None else LSTMState(*map(_joined, zip(*states, strict=True)))
    return Memory(_joined([m.depth for m in memories]), _joined([m.world_T_cam for m in memories]), state)


def _camera_of(frame: Frame) -> tuple:
    """What must stay the same for features and state to stay usable."""
    return frame.image.shape[:2], frame.K.tobytes()
