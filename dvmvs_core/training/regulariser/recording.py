# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Records what matching finds while the engine walks through rendered worlds.

The network errs more on recordings than on the worlds that it was trained on. So its depth is disturbed in some clips,
before matching sees it. Clocks and calibration of real cameras turn their poses as odometry never would, so the poses
of some clips are turned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from dvmvs_core.config import MATCHING_PRESETS, EngineConfig
from dvmvs_core.engine import DepthEngine
from dvmvs_core.errors import DataError
from dvmvs_core.matching.choose_matcher import shared_extractor, shared_regulariser
from dvmvs_core.matching.descriptors import Describer
from dvmvs_core.matching.keyframe import MatchedDepth, MatchingView, on_host
from dvmvs_core.matching.matcher import Matcher
from dvmvs_core.matching.regularise import Regularise, middle, unregularised
from dvmvs_core.model.regulariser import Regularised, RegulariserInputs
from dvmvs_core.synthetic.clips import ClipBatch, SyntheticClips, clip_frame, with_misaligned_poses
from dvmvs_core.synthetic.defects import with_defects
from dvmvs_core.training.regulariser.clip_files import Keyframes, joined, write_clip
from dvmvs_core.training.setup import initial_network

CLIP_KINDS = ((10, 0.5), (16, 1.0), (12, 1.5))
"""Keyframes of a clip, and the pose noise of its camera; clips take turns."""

DISTURBANCES = (0.0, 0.15, 0.3, 0.5, 0.8)
"""Deviations, of log depth, of the disturbance of the network's depth; one is drawn for each clip."""

STAYS, CHANGES = 0.8, 0.6
"""How much of a disturbance stays from keyframe to keyframe, and is drawn again: its deviation keeps its size."""

GRID = (4, 5)
"""Cells of the grid that the smooth part of a disturbance is drawn on."""

NEAREST_M, FARTHEST_M = 0.25, 20.0
"""Range that disturbed depth is kept in."""

_PRESET = "fast"
_ATTEMPTS = 20
_OTHER_CLIPS = 10**6  # numbers from which on clips stand in for those without keyframes


class Disturbance:
    """Smooth factors on the network's depth, which change slowly from keyframe to keyframe.

    Args:
        random: draws them.
        deviation: of their logarithms: each of the smooth part and of the factor of the whole image.
    """

    def __init__(self, random: np.random.Generator, deviation: float) -> None:
        self._random = random
        self._deviation = deviation
        self._field: np.ndarray | None = None

    def __call__(self, depth: np.ndarray) -> np.ndarray:
        """Return disturbed depth (H, W) metres of the next keyframe."""
        new = self._draw(depth.shape)
        self._field = new if self._field is None else STAYS * self._field + CHANGES * new
        return np.clip(depth * np.exp(self._deviation * self._field), NEAREST_M, FARTHEST_M).astype(np.float32)

    def _draw(self, size: tuple[int, int]) -> np.ndarray:
        smooth = self._random.normal(size=GRID).astype(np.float32)
        return cv2.resize(smooth, size[::-1], interpolation=cv2.INTER_CUBIC) + np.float32(self._random.normal())


class RecordingMatcher(Matcher):
    """A matcher that keeps what it asks the regulariser.

    Args:
        height: of the images.
        width: of the images.
        regularise: answers; by default matched depth as it is, so that nothing trained is needed.
        preset: of matching.

    Attributes:
        asked: inputs of the last keyframe; None if it was not matched, since no other keyframe saw what it sees.
        offset: (1, 1, 1, 1) what log depths of these are relative to.
        disturb: what the network's depth goes through before it is matched.
    """

    def __init__(self, height: int, width: int, regularise: Regularise | None = None, preset: str = _PRESET) -> None:
        super().__init__(MATCHING_PRESETS[preset], Describer(shared_extractor(height, width, "float32")), self._keep)
        self.asked: RegulariserInputs | None = None
        self.offset = torch.zeros(1, 1, 1, 1)
        self.disturb: Callable[[np.ndarray], np.ndarray] = np.asarray
        self._answer = regularise or unregularised

    def match(self, reference: MatchingView, past: Sequence[MatchingView], network_depth: Tensor) -> MatchedDepth:
        """Return the depth of a keyframe, see `Matcher.match`."""
        self.asked = None
        matched = super().match(reference, past, self.disturb(on_host(network_depth)))
        self.offset = torch.full((1, 1, 1, 1), float(middle(np.log(matched.measured_depth))))
        return matched

    def _keep(self, inputs: RegulariserInputs) -> Regularised:
        self.asked = inputs
        return self._answer(inputs)


@dataclass(frozen=True)
class Walks:
    """The walks of a run.

    Args:
        height: of the images, pixels.
        width: of the images, pixels.
        seed: of worlds, cameras and disturbances.
        textures: that all worlds share.
        kinds: see CLIP_KINDS.
    """

    height: int
    width: int
    seed: int
    textures: int = 256
    kinds: tuple[tuple[int, float], ...] = CLIP_KINDS

    @cached_property
    def sources(self) -> tuple[SyntheticClips, ...]:
        """The clips of each kind."""
        count = len(self.kinds)
        return tuple(
            SyntheticClips(
                self.height,
                self.width,
                length,
                seed=count * self.seed + kind,
                textures=self.textures,
                pose_noise=pose_noise,
                texture_seed=count * self.seed,
            )
            for kind, (length, pose_noise) in enumerate(self.kinds)
        )

    def clip(self, number: int) -> tuple[ClipBatch, Disturbance]:
        """Return a clip (B = 1) as its camera recorded it, and how the network's depth is disturbed in it."""
        random = np.random.default_rng([self.seed, number])
        clip = with_defects(self.sources[number % len(self.sources)].batch(1, number), random)
        disturbance = Disturbance(random, float(random.choice(DISTURBANCES)))
        return with_misaligned_poses(clip, random), disturbance


class Recorder:
    """Walks clips with an engine of its own and the shipped regulariser, on the CPU.

    Args:
        height: of the images.
        width: of the images.
    """

    def __init__(self, height: int, width: int) -> None:
        network, _ = initial_network("fusionnet", "small", "small", height, width)
        # Later keyframes start from what became of this one, so recorded keyframes go through all that others do.
        self._matcher = RecordingMatcher(height, width, shared_regulariser(height, width, "float32"))
        config = EngineConfig(device="cpu", confidence=False)
        self._engine = DepthEngine(network, config, matcher=self._matcher)

    def record(self, path: Path, walks: Walks, number: int) -> None:
        """Write what matching found along a clip; along another one where the camera hardly moves.

        Raises:
            DataError: if the file cannot be written, or no clip has keyframes.
        """
        for attempt in range(_ATTEMPTS):
            clip, self._matcher.disturb = walks.clip(number + attempt * _OTHER_CLIPS)
            keyframes = recorded(self._engine, self._matcher, clip)
            if keyframes is not None:
                write_clip(path, keyframes)
                return
        raise DataError(f"none of {_ATTEMPTS} clips of {walks} has a keyframe that can be matched")


def recorded(engine: DepthEngine, matcher: RecordingMatcher, clip: ClipBatch) -> Keyframes | None:
    """Walk a clip (B = 1) and return its matched keyframes; None if there is none.

    Args:
        engine: with that matcher; reset first.
        matcher: of the engine.
        clip: with images of the size that the network takes.
    """
    engine.reset()
    found = []
    for index in range(clip.image.shape[1]):
        prediction = engine.step(clip_frame(clip, index))
        if prediction is not None and matcher.asked is not None:
            found.append(Keyframes(matcher.asked, matcher.offset, clip.depth[:, index, None]))
    return joined(found) if found else None
