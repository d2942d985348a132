# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the regulariser makes of matched depth on clips that are never trained on.

All figures are of pixels 2x, where cells are, so that depth as measured needs no upsampling.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from dvmvs_core.evaluation.scoring.confidence_scores import SureAndWrong, sure_and_wrong
from dvmvs_core.evaluation.scoring.metrics import DepthMetrics, evaluate_depth, mean_metrics
from dvmvs_core.model.regulariser import Regulariser, RegulariserInputs, prepared
from dvmvs_core.training.regulariser.clip_files import FARTHEST_TRUTH_M, Keyframes

BATCH = 4


@torch.no_grad()
def held_out_figures(network: Regulariser, clips: Iterable[Keyframes]) -> dict[str, float | None]:
    """Return mean figures over keyframes, None where nothing could be compared.

    Args:
        network: in evaluation mode, on the CPU or where the clips are.
        clips: that nothing was learned from.

    Returns:
        abs_rel, within_125 and within_105 of depth as measured (``matched_…``) and as the network gives it
        (``regularised_…``); ``sure``, the share of pixels with a confidence of 0.7 or more; and ``wrong``, the share of
        these that are off by more than 10 %.
    """
    matched: list[DepthMetrics] = []
    regularised: list[DepthMetrics] = []
    counts = SureAndWrong()
    for clip in clips:
        for first in range(0, len(clip.truth), BATCH):
            some = slice(first, first + BATCH)
            inputs = RegulariserInputs(*(part[some] for part in clip.inputs))
            part = Keyframes(inputs, clip.offset[some], clip.truth[some])
            answer = network(prepared(inputs))
            measured = (inputs.matched + part.offset).exp()[:, 0].cpu().numpy()
            depth = (answer.log_depth + part.offset).exp()[:, 0, ::2, ::2].cpu().numpy()
            confidence = (answer.log_odds.sigmoid() * (inputs.views > 0))[:, 0].cpu().numpy()
            truth = torch.where(part.valid, part.truth, 0.0)[:, 0, ::2, ::2].cpu().numpy()
            for index in range(len(truth)):
                matched.append(_metrics(measured[index], truth[index]))
                regularised.append(_metrics(depth[index], truth[index]))
                known = truth[index] > 0
                counts += sure_and_wrong(confidence[index][known], depth[index][known], truth[index][known])
    share = counts.to_dict()
    return {
        **_named("matched", mean_metrics(matched)),
        **_named("regularised", mean_metrics(regularised)),
        "sure": share["coverage"],
        "wrong": share["wrong"],
    }


def _metrics(depth: np.ndarray, truth: np.ndarray) -> DepthMetrics:
    return evaluate_depth(depth, truth, min_depth_m=0.0, max_depth_m=FARTHEST_TRUTH_M)


def _named(kind: str, metrics: DepthMetrics) -> dict[str, float | None]:
    figures = metrics.to_dict()
    names = {"abs_rel": "abs_relative_error", "within_125": "ratio_125", "within_105": "ratio_105"}
    return {f"{kind}_{short}": figures[name] for short, name in names.items()}
