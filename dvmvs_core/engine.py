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
from torch import Tensor

from dvmvs_core.confidence import estimate_confidence
from dvmvs_core.config import EngineConfig, ModelConfig
from dvmvs_core.errors import DeviceError, FrameError
from dvmvs_core.geometry import is_finite_pose
from dvmvs_core.keyframes import KeyframeBuffer, KeyframeDecision
from dvmvs_core.model.checkpoint import load_network
from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.model.features import ImageFeatures
from dvmvs_core.model.hidden_state import lstm_depth_estimate, reproject_depth
from dvmvs_core.preprocess import Preprocessor, normalise
from dvmvs_core.types import DepthPrediction, Frame

logger = logging.getLogger(__name__)

CONFIDENCE_PREDICTIONS = 3
"""Earlier predictions that a new one is compared with for its confidence."""


@dataclass(eq=False)
class _View:
    """A frame as the engine keeps it: its raw image only until its features exist.

    The first frame after a reset gets no depth, and may never become a measurement frame, so its features wait until
    they are needed. Every other keyframe gets them as a reference frame.
    """

    frame: Frame | None
    world_T_cam: Tensor
    stamp_ns: int
    index: int
    matching: Tensor | None = None


@dataclass(frozen=True, eq=False)
class _Past:
    """What one prediction leaves for those to come; only FusionNet has a state."""

    depth: Tensor
    world_T_cam: Tensor
    lstm_state: LSTMState | None


class DepthEngine:
    """Turns a stream of posed frames into depth maps of its keyframes.

    Not thread-safe: call it from one thread.

    Args:
        network: a PairNet or FusionNet; it is moved to the device and put in evaluation mode.
        config: device, precision and keyframe rule.

    Attributes:
        last_decision: what the keyframe rule said of the last frame given to `step`; None before the first and after
            a reset.
        estimates_confidence: whether the next predictions get a confidence; `config.confidence` at first.

    Raises:
        DeviceError: if the device does not exist here.
    """

    def __init__(self, network: PairNet | FusionNet, config: EngineConfig | None = None) -> None:
        self.config = config or EngineConfig()
        self.model_config: ModelConfig = network.config
        self.device = resolve_device(self.config.device)
        self.estimates_confidence = self.config.confidence
        self._network = network.to(self.device).eval()
        self._keyframes: KeyframeBuffer[_View] = KeyframeBuffer(self.config.keyframes)
        self._preprocessor: Preprocessor | None = None
        self._camera: tuple | None = None
        self._indexed_views: dict[int, _View] = {}
        self._past: deque[_Past] = deque(maxlen=CONFIDENCE_PREDICTIONS)
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
        started = time.perf_counter()
        self._follow_camera(frame)
        self.last_decision = self._keyframes.add(frame.world_T_cam, view := self._view(frame))
        if self.last_decision is KeyframeDecision.TRACKING_LOST:
            self._past.clear()
        if self.last_decision is not KeyframeDecision.KEYFRAME:
            return None
        return self._predict(frame, view, self._keyframes.measurement_frames(), started)

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
        """Run the network on noise, so that the first real frame does not pay for allocation and kernel selection."""
        height, width = self.model_config.height, self.model_config.width
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        K = np.array(((width, 0.0, width / 2), (0.0, width, height / 2), (0.0, 0.0, 1.0)))
        for i in range(3):
            world_T_cam = np.eye(4)
            world_T_cam[0, 3] = i * (self.config.keyframes.pose_distance + 0.05)
            self.step(Frame(noise, K, world_T_cam, stamp_ns=i + 1, index=i))
        self.reset()
        self._camera = None

    def _follow_camera(self, frame: Frame) -> None:
        camera = (frame.image.shape[:2], frame.K.tobytes())
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
        """Return the array as float32 on the device with a batch axis in front."""
        return torch.from_numpy(np.asarray(array, dtype=np.float32))[None].to(self.device)

    @torch.inference_mode()
    def _predict(self, frame: Frame, reference: _View, measurements: list[_View], started: float) -> DepthPrediction:
        resized = self._preprocessor.image(frame.image)
        image = self._tensor(normalise(resized))
        features = self._network.extract(image)
        reference.matching, reference.frame = features.matching, None
        matching = [self._matching(view) for view in measurements]
        depth, lstm_state = self._run_network(image, features, reference, measurements, matching)
        confidence = self._confidence(depth, reference, measurements) if self.estimates_confidence else None
        self._past.append(_Past(depth[:, None], reference.world_T_cam, lstm_state))
        return DepthPrediction(
            depth=depth[0].cpu().numpy(),
            K=self._preprocessor.K.astype(np.float64),
            image=np.clip(np.rint(resized), 0, 255).astype(np.uint8),
            world_T_cam=frame.world_T_cam,
            stamp_ns=frame.stamp_ns,
            frame_index=frame.index,
            measurement_index=tuple(view.index for view in measurements),
            measurement_stamps_ns=tuple(view.stamp_ns for view in measurements),
            latency_ms=(time.perf_counter() - started) * 1e3,
            confidence=None if confidence is None else confidence[0].cpu().numpy(),
        )

    def _run_network(
        self,
        image: Tensor,
        features: ImageFeatures,
        reference: _View,
        measurements: list[_View],
        matching: list[Tensor],
    ) -> tuple[Tensor, LSTMState | None]:
        """Return the depth (1, h, w) and, from FusionNet, its new state."""
        poses = [view.world_T_cam for view in measurements]
        arguments = (image, features, matching, reference.world_T_cam, poses, self._K)
        if isinstance(self._network, PairNet):
            return self._network(*arguments).full, None
        if not self._past:
            pyramid, state = self._network(*arguments, None, None, None)
            return pyramid.full, state
        last = self._past[-1]
        reprojected = reproject_depth(last.depth, last.world_T_cam, reference.world_T_cam, self._K)
        pyramid, state = self._network(*arguments, last.lstm_state, last.world_T_cam, lstm_depth_estimate(reprojected))
        return pyramid.full, state

    def _confidence(self, depth: Tensor, reference: _View, measurements: list[_View]) -> Tensor:
        return estimate_confidence(
            depth,
            self._K,
            reference.world_T_cam,
            reference.matching,
            [(view.matching, view.world_T_cam) for view in measurements],
            [(past.depth, past.world_T_cam) for past in self._past],
        )

    def _matching(self, view: _View) -> Tensor:
        if view.matching is None:
            image = self._tensor(normalise(self._preprocessor.image(view.frame.image)))
            view.matching, view.frame = self._network.extract(image).matching, None
        return view.matching


def resolve_device(name: str) -> torch.device:
    """Return the torch device for "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        DeviceError: if the name is unknown, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device must be auto, cpu, cuda or cuda:N; got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device must be auto, cpu, cuda or cuda:N; got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name!r} was asked for, but this machine has {torch.cuda.device_count()} CUDA devices;"
            " use device auto or cpu"
        )
    return device
