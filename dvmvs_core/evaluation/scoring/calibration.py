# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Fitting the coefficients of confidence on synthetic worlds, so that it is the probability of being right.

A logistic regression with a little weight decay says from the cues of a pixel whether its depth is within
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
from scipy.optimize import minimize
from scipy.special import expit

from dvmvs_core import confidence
from dvmvs_core.atomic import replacing
from dvmvs_core.confidence import WITHIN
from dvmvs_core.engine import DepthEngine
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.evaluation.scoring.confidence_scores import ConfidenceScore, ConfidenceScorer
from dvmvs_core.matching import matched_confidence as matching_confidence
from dvmvs_core.matching.keyframe import MatchedDepth
from dvmvs_core.synthetic.clips import SyntheticClips, clip_frame, with_misaligned_poses
from dvmvs_core.synthetic.defects import with_defects

SEED = 2**31 - 2
"""Worlds of this seed are neither trained on nor validated with."""

POSE_NOISE = 2.5
"""Largest drift of the poses, 10 mm and 0.25° a keyframe: perfect ones would make matching look better than it is. In
three clips of five cameras are turned besides, since clocks and calibration add to the errors of odometry."""

KEYFRAMES = 12
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
class ConfidenceFit:
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


def calibrate(engine: DepthEngine, clips: int, advance: Callable[[int], None] | None = None) -> ConfidenceFit:
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
        scorer.add(expit(one.cues @ weights + bias), one.depth, one.truth)
    return ConfidenceFit(
        bias, dict(zip(_cue_names(engine), weights.tolist(), strict=True)), len(fitted), scorer.score()
    )


def write_calibration(path: Path, fit: ConfidenceFit, **how: object) -> None:
    """Write coefficients as confidence reads them, and how they came about."""
    stored = {
        "within": WITHIN,
        "bias": fit.bias,
        "weights": fit.weights,
        "keyframes": fit.keyframes,
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
    decay = np.append(np.full(cues.shape[1], DECAY), 0.0)

    def loss(solution: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean cross-entropy with decay, and its gradient."""
        odds = design @ solution
        value = np.logaddexp(0, odds).mean() - odds[right].sum() / len(odds) + decay @ solution**2 / 2
        return value, design.T @ (expit(odds) - right) / len(odds) + decay * solution

    solution = minimize(loss, np.zeros(design.shape[1]), jac=True, options={"gtol": 1e-8}).x
    weights = solution[:-1] / deviation
    return float(solution[-1] - mean @ weights), weights


def coefficients_path(engine: DepthEngine) -> Path:
    """Return the file from which an engine with this configuration reads the coefficients of confidence."""
    if engine.matching is None:
        return confidence.COEFFICIENTS
    return matching_confidence.coefficients_path(engine.matching)


def _cue_names(engine: DepthEngine) -> tuple[str, ...]:
    return confidence.CUES if engine.matching is None else matching_confidence.CUES


def _keyframes(engine: DepthEngine, worlds: SyntheticClips, number: int) -> Iterator[_Keyframe]:
    """The cues and depths of the keyframes of one clip, at cells that have truth and are in view."""
    kept: list[tuple[np.ndarray, np.ndarray, slice]] = []  # cues (F, h, w), in view (h, w), pixels of the cells

    def keep_cues(depth: torch.Tensor, *arguments) -> torch.Tensor:
        cues, in_view = confidence.confidence_cues(depth, *arguments)
        cells = slice(confidence.STEP // 2, None, confidence.STEP)
        kept.append((cues[0].cpu().numpy(), in_view[0].cpu().numpy(), cells))
        return torch.zeros_like(depth)

    def keep_matched_cues(matched: MatchedDepth, preset: str) -> np.ndarray:
        kept.append((*matching_confidence.matched_cues(matched.on_host()), slice(None, None, 2)))
        return matching_confidence.matched_confidence(matched, preset)  # by which depth is fused

    random = np.random.default_rng(number)
    clip = with_misaligned_poses(with_defects(worlds.batch(1, number), random), random)
    engine.reset()
    usual = engine.estimate_confidence, engine.estimate_matched_confidence
    engine.estimate_confidence, engine.estimate_matched_confidence = keep_cues, keep_matched_cues
    try:
        for index in range(KEYFRAMES):
            kept.clear()
            prediction = engine.step(clip_frame(clip, index))
            if prediction is None:
                continue
            ((cues, in_view, cells),) = kept
            truth = clip.depth[0, index].numpy()[cells, cells].ravel()
            depth = prediction.depth[cells, cells].ravel()
            usable = np.flatnonzero(in_view.ravel() & (truth > 0) & (truth < FARTHEST_M))
            drawn = random.permutation(usable)[:CELLS_OF_A_KEYFRAME]
            if len(drawn):
                table = cues.reshape(len(cues), -1).T.astype(np.float64)
                yield _Keyframe(table[drawn], depth[drawn], truth[drawn])
    finally:
        engine.estimate_confidence, engine.estimate_matched_confidence = usual


def _is_right(one: _Keyframe) -> np.ndarray:
    return np.maximum(one.depth / one.truth, one.truth / one.depth) < WITHIN
