# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`base` over a clip, as at inference: frame after frame, measured against past ones, with its own past as a hint.

Symbols: B clips, T frames a clip, H×W the network's resolution, h×w cells of its score volume.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.matching.volume import fastest_score_volume
from dvmvs_core.model.base import BaseNet, BasePrediction
from dvmvs_core.model.depth_hint import DepthHint, depth_hint, no_hint, splat_depth
from dvmvs_core.model.intrinsics import inverse
from dvmvs_core.model.score_volume import ScoreVolume
from dvmvs_core.training.augmentation import TrainingClip

HINT_SHARE = 0.5
DISTURBED_SHARE = 0.3
"""Share of the hints that are disturbed, so that the network does not rely on what may be wrong."""
DISTURBANCE = 0.12
"""Deviation of a disturbance's log scale, for the whole view and for its parts alike."""
_PART_CELLS = 8


class BaseStep(NamedTuple):
    """One reference frame of a clip.

    Attributes:
        prediction: of the network.
        truth: (B, H, W) metres.
        scores: what matching said.
    """

    prediction: BasePrediction
    truth: Tensor
    scores: ScoreVolume


@dataclass(frozen=True, eq=False)
class HintDraws:
    """What becomes of the hints of a clip in training.

    Attributes:
        kept: (B,) 1 for clips whose hints are kept, 0 for those that do without.
        shift: (B,) added to all log depths of a hint.
        parts: (B, n, m) added to those of its parts, before it is enlarged to the hint's size.
    """

    kept: Tensor
    shift: Tensor
    parts: Tensor


def draw_hints(rng: np.random.Generator, clips: int, size: tuple[int, int]) -> HintDraws:
    """Draw what becomes of the hints of some clips, whose volume has `size` (h, w) cells."""
    disturbed = rng.random(clips) < DISTURBED_SHARE
    parts = (clips, max(1, size[0] // _PART_CELLS), max(1, size[1] // _PART_CELLS))
    return HintDraws(
        torch.from_numpy((rng.random(clips) < HINT_SHARE).astype(np.float32)),
        torch.from_numpy((rng.normal(0.0, DISTURBANCE, clips) * disturbed).astype(np.float32)),
        torch.from_numpy((rng.normal(0.0, DISTURBANCE, parts) * disturbed[:, None, None]).astype(np.float32)),
    )


def base_predictions(
    network: BaseNet, clip: TrainingClip, measurement_frames: int, draws: HintDraws | None = None
) -> Iterator[BaseStep]:
    """Predict the depth of all frames of a clip but the first.

    Args:
        network: predicts.
        clip: B clips of T frames.
        measurement_frames: at most so many of the latest frames are measured against.
        draws: what becomes of the hints; None keeps them, as at inference.
    """
    features = [network.extract(image) for image in clip.image.unbind(1)]
    to_reference = relative_poses(clip.world_T_cam)
    state, past = None, []
    for reference in range(1, clip.image.shape[1]):
        measured = range(reference - 1, max(reference - 1 - measurement_frames, -1), -1)
        meas_T_ref = to_reference[:, :, reference].unbind(1)
        scores = fastest_score_volume(
            features[reference],
            [features[index] for index in measured],
            [meas_T_ref[index] for index in measured],
            clip.K,
            network.planes,
        )
        # Frame 0 has no prediction.
        hint = _hint(past, to_reference[:, reference, 1:].unbind(1), clip.K, scores)
        if state is not None:
            state = network.carry(state, meas_T_ref[reference - 1], hint, clip.K)
        shown = hint if draws is None else disturbed_hint(hint, draws)
        prediction, state = network(clip.image[:, reference], features[reference], scores, shown, clip.K, state)
        yield BaseStep(prediction, clip.depth[:, reference], scores)
        past.append(prediction.depth.detach())


def relative_poses(world_T_cam: Tensor) -> Tensor:
    """Return a_T_b (B, T, T, 4, 4), of frames a and b, from poses (B, T, 4, 4)."""
    with torch.autocast(world_T_cam.device.type, enabled=False):
        return inverse(world_T_cam)[:, :, None] @ world_T_cam[:, None]


def disturbed_hint(hint: DepthHint, draws: HintDraws) -> DepthHint:
    """Leave hints out, or disturb them, as drawn."""
    kept, shift, parts = (part.to(hint.count.device, non_blocking=True) for part in vars(draws).values())
    noise = functional.interpolate(parts[:, None], size=hint.count.shape[-2:], mode="bilinear")
    count = hint.count * kept.view(-1, 1, 1, 1)
    known = (count > 0).to(noise.dtype)
    return DepthHint(known * (hint.log_depth + shift.view(-1, 1, 1, 1) + noise), known * hint.spread, count)


def _hint(past: Sequence[Tensor], ref_T_past: Sequence[Tensor], K: Tensor, scores: ScoreVolume) -> DepthHint:
    if not past:
        return no_hint(scores.patch)
    return depth_hint([splat_depth(depth, transform, K) for depth, transform in zip(past, ref_T_past, strict=False)])
