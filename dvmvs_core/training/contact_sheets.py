# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Contact sheets: what the network predicts on clips that it has not seen, to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.evaluation.prediction.depth_pictures import depth_strip
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.synthetic.clips import ClipBatch
from dvmvs_core.training.augmentation import prepare_clip
from dvmvs_core.training.passes import predictions

ROWS = 6


@torch.no_grad()
def contact_sheet(network: PairNet | FusionNet, batches: Sequence[ClipBatch], measurement_frames: int) -> np.ndarray:
    """Return image, prediction, truth and error of the last frame of some clips, one below the other.

    Args:
        network: in evaluation mode, on the device of the clips.
        batches: clips; those of the first ROWS are shown.
        measurement_frames: most measurement frames of a reference frame.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    rows: list[np.ndarray] = []
    for batch in batches:
        *_, (pyramid, truth) = predictions(network, prepare_clip(batch), measurement_frames, True)
        depth, truth = (_of_last_frames(maps, len(batch.image)) for maps in (pyramid.full, truth))
        images = batch.image[:, -1].permute(0, 2, 3, 1).cpu().numpy()
        rows += [depth_strip(*row) for row in zip(images, depth, truth, strict=True)]
        if len(rows) >= ROWS:
            break
    return np.vstack(rows[:ROWS])


def _of_last_frames(maps: Tensor, clips: int) -> np.ndarray:
    """(B·T, H, W) of all frames, or (B, H, W) of the last ones, as (B, H, W) of the last ones."""
    return maps.unflatten(0, (clips, -1))[:, -1].float().cpu().numpy()
