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
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from dvmvs_core.captured_steps import choose_confidence, choose_fusion
from dvmvs_core.confidence import MAX_PREDICTIONS
from dvmvs_core.config import EngineConfig, KeyframeConfig, ModelConfig
from dvmvs_core.engine_state import FrameEstimate, PastKeyframes, StoredView
from dvmvs_core.errors import ConfigError, FrameError
from dvmvs_core.geometry import is_finite_pose
from dvmvs_core.keyframes import KeyframeBuffer, KeyframeDecision
from dvmvs_core.matching.blindness import least_relative_error
from dvmvs_core.matching.choose_matcher import choose_matcher, choose_monocular, matcher_on_device
from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.matching.matched_confidence import matched_confidence
from dvmvs_core.matching.self_calibration import SelfCalibration
from dvmvs_core.model.checkpoint import load_network
from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.dvmvs import FusionNet, PairNet, ending_at_quarter
from dvmvs_core.model.features import ImageFeatures
from dvmvs_core.preprocess import Preprocessor, normalised_tensor
from dvmvs_core.radial_distortion import bent, removable, straightened
from dvmvs_core.runtime.choose_runner import choose_runner
from dvmvs_core.runtime.device_memory import enough_memory
from dvmvs_core.runtime.devices import resolve_device
from dvmvs_core.runtime.runner import Runner, Timer, untimed
from dvmvs_core.runtime.threads import one_thread
from dvmvs_core.temporal_fusion import FusedDepth
from dvmvs_core.types import DepthPrediction, Frame

if TYPE_CHECKING:
    from dvmvs_core.matching.gpu.checked_matcher import CheckedMatcher
    from dvmvs_core.matching.matcher import Matcher  # needs numba

logger = logging.getLogger(__name__)


class DepthEngine:
    """Turns a stream of posed frames into depth maps of its keyframes.

    Not thread-safe: call it from one thread.

    Args:
        network: a PairNet or FusionNet, which may be moved to the device and put in evaluation mode; where depth is
            matched, a copy of it runs. Or what runs one already, to share it with another engine.
        config: device, precision, mode and keyframe rule.
        timer: is told of the stages of each frame, as `dvmvs benchmark` lists them; plane_sweep and network are parts
            of depth, where the runner can tell them apart. Who shares a runner shares what it tells.
        matcher: matches keyframes in place of the one that `config.matching` names, as where what it does is recorded.

    Attributes:
        device: where the network's tensors are.
        last_decision: what the keyframe rule said of the last frame given to `step`; None before the first and after
            a reset.
        estimates_confidence: whether the next predictions get a confidence; `config.confidence` at first.
        estimate_confidence: what does so, with the arguments of `confidence.estimate_confidence`.
        estimate_matched_confidence: what does so where depth was matched, with those of `matched_confidence`.

    Raises:
        DeviceError: if the device does not exist here, or cannot run the network.
        ConfigError: if what runs a network already is for engines that match, and this one does not.
    """

    def __init__(
        self,
        network: PairNet | FusionNet | Runner,
        config: EngineConfig | None = None,
        timer: Timer | None = None,
        matcher: Matcher | CheckedMatcher | None = None,
    ) -> None:
        self.config = config or EngineConfig()
        # First: it compiles in a thread.
        self._matcher = matcher or choose_matcher(self.config.matching, network.config, self.config.precision)
        if isinstance(network, nn.Module):
            network = choose_runner(ending_at_quarter(network) if self._matcher else network, self.config)
        elif network.ends_at_quarter and not self._matcher:
            raise ConfigError(
                "the network of an engine that matches cannot be shared with one that does not: it ends at quarter"
                f" resolution; matching is {self.config.matching} here: give this engine a network of its own"
            )
        if matcher is None:
            self._matcher = matcher_on_device(self._matcher, network.config, network.device, self.config.mode)
        if self._matcher:
            self._monocular = choose_monocular(network.config, network.device, self.config.precision)
        if timer is not None:
            network.timer = timer
        self.model_config: ModelConfig = network.config
        self.device = network.device
        self.estimates_confidence = self.config.confidence
        self.estimate_confidence = choose_confidence(self.device)
        self.estimate_matched_confidence = matched_confidence
        self._fuse = choose_fusion(self.device)
        self._runner = network
        self._timer = timer or untimed
        self._keyframes: KeyframeBuffer[StoredView] = KeyframeBuffer(self.config.keyframes)
        self._past = PastKeyframes(self.config.keyframes.buffer_size)
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
        return cls(load_network(weights, network)[0], config)

    def sibling(self, config: EngineConfig) -> DepthEngine:
        """Return an engine for another camera that runs the same network: the weights are in memory once.

        Args:
            config: with the device, precision and mode of this engine, and with matching if this one has it; the rest
                may differ.

        Raises:
            ConfigError: if this engine matches and the other does not.
        """
        return type(self)(self._runner, config)

    @property
    def runs_as(self) -> str:
        """What runs here, for a person: mode and matching "auto" leave that open."""
        return self._runner.description + (f"; matching {self._matcher.description}" if self._matcher else "")

    @property
    def matching(self) -> str | None:
        """The preset of multi-view matching; None where depth is the network's."""
        return self._matcher.config.preset if self._matcher else None

    def reset(self) -> None:
        """Forget all keyframes and the recurrent state, as after a jump in time or a new scene."""
        self._keyframes.clear()
        self._past.clear()
        self._preprocessor: Preprocessor | None = None
        self._warned_of: set[str] = set()
        self.last_decision: KeyframeDecision | None = None

    def step(self, frame: Frame) -> DepthPrediction | None:
        """Take the next frame in the order of time, and return its depth if it is a keyframe.

        Frames may have any size; one with another size or other intrinsics than the last resets the engine, since
        neither features nor recurrent state of another camera can be used.

        Args:
            frame: RGB image, intrinsics, pose and stamp.

        Returns:
            The prediction, or None; `last_decision` says why.
        """
        started = time.perf_counter()
        self._follow_camera(frame)
        reference = StoredView.of(frame)
        self.last_decision = self._keyframes.add(frame.world_T_cam, reference)
        if self.last_decision is KeyframeDecision.TRACKING_LOST:
            self._past.clear()
        if self.last_decision is KeyframeDecision.FIRST:
            self._past.add(reference)
        if self.last_decision is not KeyframeDecision.KEYFRAME:
            return None
        measurements = self._keyframes.measurement_frames()
        estimate = self._estimate(frame.image, reference, measurements)
        self._remember(reference, estimate)
        self._warn_of_intrinsics()
        return estimate.prediction(frame, self._preprocessor.K, measurements, started)

    def predict_without_update(self, frame: Frame) -> DepthPrediction | None:
        """Return the depth of a frame without taking it: keyframes, recurrent state and decisions stay as they are.

        For depth of every image: `step` first, and this where it found the frame too close to the last keyframe.

        Args:
            frame: RGB image, intrinsics, pose and stamp.

        Returns:
            The prediction from the keyframes and the state as they are now; None while there is no other keyframe of
            this camera to measure against, or where the frame has no finite pose.
        """
        started = time.perf_counter()
        if not is_finite_pose(frame.world_T_cam) or not self._is_same_camera(frame) or not len(self._keyframes):
            return None
        measurements = self._keyframes.measurement_frames_of(frame.world_T_cam)
        estimate = self._estimate(frame.image, StoredView.of(frame), measurements)
        return estimate.prediction(frame, self._preprocessor.K, measurements, started)

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
        *measurements, view = [self._past.view_of(frame) for frame in (*measurement_frames, reference)]
        view.matching_view = None  # of a frame that was matched before, not all descriptors were kept
        estimate = self._estimate(reference.image, view, measurements)
        self._remember(view, estimate)
        return estimate.prediction(reference, self._preprocessor.K, measurements, started)

    def set_keyframe_rule(self, rule: KeyframeConfig) -> None:
        """Follow another keyframe rule from the next frame on; the keyframes stay.

        Raises:
            ConfigError: if its buffer is of another size.
        """
        if rule != self.config.keyframes:
            self._keyframes.set_rule(rule)
            self.config = self.config.replace(keyframes=rule)

    def warm_up(self) -> None:
        """Run the network on noise, so that no real frame pays for compilation, captures and allocation.

        Every number of measurement frames comes up that the keyframe rule can choose, with recurrent state.
        """
        height, width = self.model_config.height, self.model_config.width
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        K = np.array(((width, 0.0, width / 2), (0.0, width, height / 2), (0.0, 0.0, 1.0)))
        for i in range(max(3, self.config.keyframes.measurement_frames + 1)):
            world_T_cam = np.eye(4)
            world_T_cam[0, 3] = i * (self.config.keyframes.pose_distance + 0.05)
            self.step(Frame(noise, K, world_T_cam, stamp_ns=i + 1, index=i))
        self.reset()

    @torch.inference_mode()
    def _estimate(self, image: np.ndarray, reference: StoredView, measurements: list[StoredView]) -> FrameEstimate:
        """Run the network and what follows it, one line a stage; nothing but the views' features changes."""
        with enough_memory(self.model_config, self.device):
            image, straight, resized = self._network_image(image)
            # First, since a runner may overwrite the reference frame's features at the next extraction.
            self._extract_missing(measurements)
            features = self._features(image, straight, reference)
            network_depth, state = self._depth(image, features, reference, measurements)
            depth, confidence, fused = network_depth, None, None
            if self._matcher:
                depth, confidence, fused = self._match(straight, reference, measurements, network_depth)
                depth, confidence = self._bent(depth, confidence, reference.matching_view.distortion)
            elif self.estimates_confidence:
                confidence = self._confidence(depth, reference, measurements)
        return FrameEstimate(resized, depth, network_depth, state, confidence, fused)

    def _network_image(self, image: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """What the network takes; the image (h, w, 3) without the distortion that is known of; and as it came."""
        distortion = self._removed_distortion()
        with self._timer("preprocess"):
            image, resized = self._preprocessor.network_image(image, self.device)
            if not distortion:
                return image, resized, resized
            straight = straightened(resized, self._preprocessor.K, distortion)
            return normalised_tensor(straight[None]), straight, resized

    def _removed_distortion(self) -> float:
        """What is taken out of the next image."""
        size = self.model_config.height, self.model_config.width
        return removable(self._past.calibration.removed_distortion, self._preprocessor.K, size)

    def _bent(self, depth: Tensor, confidence: Tensor | None, distortion: float) -> tuple[Tensor, Tensor | None]:
        """Depth (1, h, w) and confidence at the pixels of the image as it came, of which the distortion was taken."""
        if not distortion:
            return depth, confidence
        lens = self._preprocessor.K, distortion
        with self._timer("preprocess"):
            return bent(depth, *lens, "border"), None if confidence is None else bent(confidence, *lens, "zeros")

    def _extract_missing(self, measurements: list[StoredView]) -> None:
        """Extract the features of measurement frames that have none, or whose features must not be kept."""
        for view in measurements:
            if view.matching is None or not self._runner.keeps_features:
                self._features(*self._network_image(view.image)[:2], view)

    def _features(self, image: Tensor, resized: Tensor, view: StoredView) -> ImageFeatures:
        describes = self._matcher and view.matching_view is None
        finish = self._matcher.describe_beside(resized) if describes else None
        with self._timer("features"):
            features = self._runner.features(image)
        view.matching = features.matching
        if finish:
            with self._timer("descriptors"):
                descriptors = finish()
            camera = self._preprocessor.K, view.world_T_cam[0].numpy()
            view.matching_view = MatchingView(descriptors, *camera, distortion=self._removed_distortion())
        if self._runner.keeps_features:
            view.image = None
        return features

    def _depth(
        self, image: Tensor, features: ImageFeatures, reference: StoredView, measurements: list[StoredView]
    ) -> tuple[Tensor, LSTMState | None]:
        matching, poses = zip(*((view.matching, view.world_T_cam) for view in measurements), strict=True)
        K = self._K(self._past.calibration)
        with self._timer("depth"):
            return self._runner.depth(image, features, matching, reference.world_T_cam, poses, K, self._past.previous)

    def _informed(self, depth: Tensor, reference: StoredView, measurements: list[StoredView]) -> Tensor:
        """Network depth (1, h, w) brought to what the image says by itself, as far as parallax could not tell."""
        seen = [view.matching_view for view in measurements]
        return self._monocular.informed(depth, reference.matching_view, seen, self._past.calibration)

    def _match(
        self, image: Tensor, reference: StoredView, measurements: list[StoredView], depth: Tensor
    ) -> tuple[Tensor, Tensor | None, FusedDepth]:
        K = self._K(self._past.calibration)
        with self._timer("matching"):
            depth = self._informed(depth, reference, measurements)[0]
            matched = self._matcher.match(reference.matching_view, self._past.described(reference), depth)
        with self._timer("confidence"):
            confidence = self.estimate_matched_confidence(matched, self.matching)
        # A GPU that can no longer match still has the depth of past keyframes.
        depth, confidence = (torch.as_tensor(x, device=self.device)[None] for x in (matched.depth, confidence))
        with self._timer("fusion"):
            past = self._past.fused
            depth, confidence, fused = self._fuse(depth, confidence, image, K, reference.world_T_cam, past)
            with one_thread():
                depth = least_relative_error(depth, torch.as_tensor(matched.blindness, device=self.device))
                depth = depth.clamp(min=self._matcher.config.min_depth_m)
        reference.matching_view = reference.matching_view.with_depth(matched.settled(fused.depth[0]))
        return depth, confidence if self.estimates_confidence else None, fused

    def _confidence(self, depth: Tensor, reference: StoredView, measurements: list[StoredView]) -> Tensor:
        with self._timer("confidence"):
            return self.estimate_confidence(
                depth,
                self._K(SelfCalibration()),
                reference.world_T_cam,
                reference.matching,
                [(view.matching, view.world_T_cam) for view in measurements],
                self._past.predictions(reference)[-MAX_PREDICTIONS:],
            )

    def _remember(self, view: StoredView, estimate: FrameEstimate) -> None:
        self._past.remember(view, estimate.network_depth, estimate.state, estimate.fused)
        if view.matching_view and view.matching_view.distortion != self._removed_distortion():
            self._past.fused.clear()  # the pixels of the next image will be others

    def _K(self, calibration: SelfCalibration) -> Tensor:
        """Intrinsics (1, 3, 3) of the straightened network image, by what is known of the camera."""
        return torch.from_numpy(calibration.K(self._preprocessor.K))[None]

    def _warn_of_intrinsics(self) -> None:
        """Say once of each that it is clearly off: depth is as wrong as it is where matching is off."""
        calibration = self._past.calibration
        if calibration.is_clearly_off and "focal length" not in self._warned_of:
            self._warned_of.add("focal length")
            logger.warning(
                "the camera's focal length seems to be %.0f %% %s than its intrinsics say; depth is matched with that, "
                "but calibrate the camera",
                100 * abs(calibration.log_focal),
                "longer" if calibration.log_focal > 0 else "shorter",
            )
        if calibration.is_clearly_bent and "distortion" not in self._warned_of:
            self._warned_of.add("distortion")
            logger.warning(
                "the camera's images seem to be radially distorted, with k1 = %+.2f besides what is known of their "
                "lens; depth is matched with that, but calibrate the camera",
                calibration.distortion,
            )

    def _follow_camera(self, frame: Frame) -> None:
        if self._is_same_camera(frame):
            return
        if self._preprocessor is not None:
            logger.warning("the camera's size or intrinsics changed: keyframes and recurrent state are reset")
            self.reset()
        size = (self.model_config.height, self.model_config.width)
        self._preprocessor = Preprocessor(frame.K, frame.image.shape[:2], size, crop=self.config.crop)

    def _is_same_camera(self, frame: Frame) -> bool:
        """Whether features and state stay usable."""
        return self._preprocessor is not None and self._preprocessor.is_for(frame.K, frame.image.shape[:2])
