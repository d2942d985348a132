# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Fitting the coefficients of confidence on synthetic worlds, so that it is the probability of being right.

A logistic regression (Newton's method, a little weight decay) says from the cues of a pixel whether its depth is within
10 % of the truth. No recorded image takes part: exact depth is known only of worlds, and a recording that figures are
reported on must not be fitted to. The last quarter of the clips only checks the fit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dvmvs_core.confidence import CUES, STEP, WITHIN, confidence_cues
from dvmvs_core.data.atomic import replacing
from dvmvs_core.data.synthetic.clips import SyntheticClips
from dvmvs_core.engine import DepthEngine
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.evaluation.sparsification import ConfidenceScore, ConfidenceScorer
from dvmvs_core.types import Frame

SEED = 2**31 - 2
"""Worlds of this seed are neither trained on nor validated with."""

POSE_NOISE = 1.0
"""Drift of the poses, 4 mm and 0.1° a keyframe: perfect ones would make matching look better than it is."""

KEYFRAMES = 8
"""Of a clip."""

TEXTURES = 192
"""That the worlds share."""

CELLS_OF_A_KEYFRAME = 800
"""Drawn at random: neighbours say the same, and a thousand keyframes would fill the memory."""

CHECKED = 4
"""One clip in so many only checks."""

DECAY = 1e-3
"""Weight decay on standardised cues, which keeps cues that say nearly the same from cancelling one another."""

FARTHEST_M = 20.0


@dataclass(frozen=True)
class Calibration:
    """A fit.

    Attributes:
        bias: log odds of a pixel whose cues are 0.
        weights: cue → log odds that 1 of it adds.
        keyframes: how many it was fitted on.
        check: how confidence does on the clips that were kept apart.
    """

    bias: float
    weights: dict[str, float]
    keyframes: int
    check: ConfidenceScore


@dataclass(frozen=True, eq=False)
class _Keyframe:
    cues: np.ndarray  # (N, F)
    depth: np.ndarray  # (N,)
    truth: np.ndarray  # (N,)


def calibrate(engine: DepthEngine, clips: int, advance: Callable[[int], None] | None = None) -> Calibration:
    """Predict synthetic clips and fit confidence to what comes out.

    Args:
        engine: with the weights that confidence is for.
        clips: how many, each a world of its own.
        advance: called with 1 after each clip.

    Raises:
        ConfigError: if there are too few clips to fit and to check.
        DataError: if the predictions are all right, or all wrong.
    """
    if clips < CHECKED:
        raise ConfigError(f"calibration needs at least {CHECKED} clips; got {clips}")
    config = engine.model_config
    size = (config.height, config.width)
    worlds = SyntheticClips(*size, KEYFRAMES, seed=SEED, textures=TEXTURES, pose_noise=POSE_NOISE)
    fitted: list[_Keyframe] = []
    checked: list[_Keyframe] = []
    for number in range(clips):
        part = checked if number % CHECKED == CHECKED - 1 else fitted
        part.extend(_keyframes(engine, worlds, number))
        if advance:
            advance(1)
    if not fitted or not checked:
        raise DataError("no synthetic frame became a keyframe, so there is nothing to fit confidence to")
    bias, weights = fit_logistic(
        np.concatenate([one.cues for one in fitted]), np.concatenate([_is_right(one) for one in fitted])
    )
    scorer = ConfidenceScorer()
    for one in checked:
        scorer.add(1 / (1 + np.exp(-(one.cues @ weights + bias))), one.depth, one.truth)
    return Calibration(bias, dict(zip(CUES, weights.tolist(), strict=True)), len(fitted), scorer.score())


def write_calibration(path: Path, calibration: Calibration, **how: object) -> None:
    """Write coefficients as confidence reads them, and how they came about."""
    stored = {
        "within": WITHIN,
        "bias": calibration.bias,
        "weights": calibration.weights,
        "keyframes": calibration.keyframes,
        **how,
    }
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(stored, indent=2) + "\n")


def fit_logistic(cues: np.ndarray, right: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the bias and the weights (F,) that make 1 / (1 + exp(−(bias + cues · weights))) the probability of right.

    Args:
        cues: (N, F).
        right: (N,) whether it is.

    Raises:
        DataError: if `right` is the same throughout.
    """
    if right.all() or not right.any():
        raise DataError("the predictions are all right or all wrong, so there is nothing to tell apart")
    mean, deviation = cues.mean(axis=0), cues.std(axis=0) + 1e-9
    design = np.column_stack(((cues - mean) / deviation, np.ones(len(cues))))
    decay = np.diag([DECAY] * cues.shape[1] + [0.0])
    solution = np.zeros(design.shape[1])
    for _ in range(50):
        probability = 1 / (1 + np.exp(-design @ solution))
        gradient = design.T @ (probability - right) / len(cues) + decay @ solution
        curvature = (design.T * (probability * (1 - probability))) @ design / len(cues) + decay
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(curvature)), gradient)
        solution -= step
        if np.abs(step).max() < 1e-8:
            break
    weights = solution[:-1] / deviation
    return float(solution[-1] - mean @ weights), weights


def _keyframes(engine: DepthEngine, worlds: SyntheticClips, number: int) -> Iterator[_Keyframe]:
    """The cues and depths of the keyframes of one clip, at cells that have truth and are in view."""
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep_cues(depth: torch.Tensor, *arguments) -> torch.Tensor:
        kept.append(confidence_cues(depth, *arguments))
        return torch.zeros_like(depth)

    clip = worlds.batch(1, number)
    random = np.random.default_rng(number)
    engine.reset()
    usual, engine.estimate_confidence = engine.estimate_confidence, keep_cues
    try:
        for index in range(KEYFRAMES):
            kept.clear()
            prediction = engine.step(_frame(clip, index))
            if prediction is None:
                continue
            ((cues, in_view),) = kept
            middle = STEP // 2
            truth = clip.depth[0, index, middle::STEP, middle::STEP].numpy().ravel()
            depth = prediction.depth[middle::STEP, middle::STEP].ravel()
            usable = np.flatnonzero(in_view[0].cpu().numpy().ravel() & (truth > 0) & (truth < FARTHEST_M))
            drawn = random.permutation(usable)[:CELLS_OF_A_KEYFRAME]
            if len(drawn):
                table = cues[0].flatten(1).T.double().cpu().numpy()
                yield _Keyframe(table[drawn], depth[drawn], truth[drawn])
    finally:
        engine.estimate_confidence = usual


def _frame(clip, index: int) -> Frame:
    world_T_cam = clip.world_T_cam[0, index].double().numpy()
    left, _, right = np.linalg.svd(world_T_cam[:3, :3])  # float32 is not quite a rotation
    world_T_cam = world_T_cam.copy()
    world_T_cam[:3, :3] = left @ right
    image = clip.image[0, index].permute(1, 2, 0).contiguous().numpy()
    return Frame(image, clip.K[0].double().numpy(), world_T_cam, stamp_ns=(index + 1) * 10**9, index=index)


def _is_right(one: _Keyframe) -> np.ndarray:
    return np.maximum(one.depth / one.truth, one.truth / one.depth) < WITHIN
