# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Results under the names and in the shapes of the published method's own scripts.

{system}_predictions_{scene}.npz and {system}_errors_{scene}.npz, each with one array `arr_0`: depth (N, h, w) float32
metres, and the eight errors (N, 8) in their published order, NaN where a keyframe has no valid sensor depth.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from dvmvs_core.atomic import replacing
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader, write_images
from dvmvs_core.evaluation.scoring.metrics import NAMES
from dvmvs_core.evaluation.scoring.score import SequenceScore

ERRORS = NAMES[:8]
"""The published figures in the order of the columns."""

ARRAY = "arr_0"


def system_name(
    keyframing: str, dataset: str, size: tuple[int, int], measurement_frames: int, network: str, online: bool
) -> str:
    """Return the published name of a system.

    Args:
        keyframing: "keyframe", "simple10", ….
        dataset: name of the data set.
        size: (h, w) of the network's input.
        measurement_frames: how many each keyframe gets at most.
        network: "fusionnet" or "pairnet". The published online script of PairNet calls itself fusionnet by mistake;
            that is not followed.
        online: whether the keyframe rule ran with the network, and not an index file.
    """
    height, width = size
    name = f"{keyframing}_{dataset}_{width}_{height}_{measurement_frames}_dvmvs_{network}"
    return f"{name}_online" if online else name


def write_published(
    predictions: Path, score: SequenceScore | None, folder: Path, system: str, scene: str
) -> list[Path]:
    """Write one sequence's predictions, and its errors if it was scored.

    Args:
        predictions: the npz that `write_predictions` made.
        score: the figures against sensor depth; None if there is none.
        folder: where to; made if missing.
        system: what `system_name` gives.
        scene: name of the sequence.

    Returns:
        The files written.
    """
    reader = PredictionReader(predictions)
    files = [folder / f"{system}_predictions_{scene}.npz"]
    with replacing(files[0]) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        shape = (len(reader), *next(reader.depths()).shape)
        write_images(archive, ARRAY, shape, (depth.data.cast("B") for depth in reader.depths()))
    if score is not None:
        errors = np.full((len(reader), len(ERRORS)), np.nan)
        for position, metrics in zip(score.position, score.metrics, strict=True):
            errors[position] = [getattr(metrics, name) for name in ERRORS]
        files.append(folder / f"{system}_errors_{scene}.npz")
        with replacing(files[1]) as unfinished:
            np.savez(unfinished, errors)
    return files
