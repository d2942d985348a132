# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Confidence of matched depth: the probability that it is within 10 % of the truth.

It is the product of three probabilities. One is a logistic regression on what matching found: how clearly a plane won,
how much parallax could tell it from others, whether the past came to the same. Its coefficients are fitted on rendered
worlds (`dvmvs weights calibrate`). Another is that of the regulariser, which sees the image and its edges too, and
learned from the same kind of worlds. Either alone is overconfident on recordings; the product is underconfident on
worlds. The third is what poses allow, by how rough those of the camera were so far: where it mostly turned, an error of
a rotation moves all points as another depth would, so that nothing else shows it.

Symbols: (H, W) pixels, (h, w) cells of the half-resolution grid, F cues.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from dvmvs_core.confidence import load_coefficients
from dvmvs_core.matching.allowed_by_poses import allowed_by_poses
from dvmvs_core.matching.keyframe import MatchedDepth

FOLDER = Path(__file__).parents[1] / "weights"

CUES = (
    "margin",
    "clear_margin",
    "parallax",
    "agreement",
    "agreement_without_parallax",
    "off_prior",
    "off_network",
    "off_measured",
    "edge",
    "views",
    "blindness",
)

CLEAR_PARALLAX_PX = 4.0
"""Parallax of a 25 % depth step from which on a margin counts in full as a clear one."""

MAX_MARGIN = 2.0
MAX_DIFFERENCE = 0.5
"""Of log depth; a larger difference says no more."""

EDGE_CELLS = 5
"""Cells a side in which depth edges are looked for."""


def matched_confidence(matched: MatchedDepth, preset: str) -> np.ndarray:
    """Return the confidence (H, W) float32, 0…1, of matched depth; a pixel that no past keyframe has in view gets 0.

    Args:
        matched: from `Matcher.match`.
        preset: the preset that it was matched with, which the coefficients are of.

    Raises:
        WeightsError: if the coefficients are damaged.
    """
    if matched.confidence is not None:
        return matched.confidence
    coefficients = load_coefficients(coefficients_path(preset), CUES)
    cues, in_view = matched_cues(matched)
    log_odds = np.tensordot(np.float32(coefficients.weights), cues, axes=1) + np.float32(coefficients.bias)
    confidence = 1 / (1 + np.exp(-log_odds))
    if matched.log_odds is not None:
        confidence /= 1 + np.exp(-matched.log_odds)
    parallax = torch.from_numpy(_resized(matched.parallax, confidence.shape))
    confidence *= allowed_by_poses(parallax, matched.pose_error_px).numpy()
    size = matched.depth.shape[::-1]
    valid_mask = cv2.resize(in_view.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    return valid_mask * _resized(in_view * confidence, matched.depth.shape)


def coefficients_path(preset: str) -> Path:
    """Return the file that holds the coefficients of a preset of matching."""
    return FOLDER / f"confidence_{preset}.json"


def matched_cues(matched: MatchedDepth) -> tuple[np.ndarray, np.ndarray]:
    """Return the cues (F, h, w) float32 in the order of `CUES`, and which cells (h, w) a past keyframe has in view."""
    log_depth = np.log(matched.depth[::2, ::2])
    prior, agreement, parallax, blindness = (
        _resized(x, log_depth.shape) for x in (matched.prior, matched.agreement, matched.parallax, matched.blindness)
    )
    margin = np.clip(matched.margin, 0, MAX_MARGIN)
    clear = np.minimum(parallax / CLEAR_PARALLAX_PX, 1)
    square = np.ones((EDGE_CELLS, EDGE_CELLS), np.uint8)
    edge = cv2.dilate(log_depth, square) - cv2.erode(log_depth, square)
    differences = [
        np.minimum(np.abs(log_depth - np.log(other)), MAX_DIFFERENCE)
        for other in (prior, matched.network_depth, matched.measured_depth)
    ]
    cues = (
        margin,
        margin * clear,
        np.log1p(parallax),
        agreement,
        agreement * (1 - clear),
        *differences,
        np.minimum(edge, 1),
        np.minimum(matched.views, 4) / np.float32(4),
        blindness,
    )
    return np.stack(cues).astype(np.float32, copy=False), matched.views > 0


def _resized(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return cv2.resize(values, shape[::-1], interpolation=cv2.INTER_LINEAR)
