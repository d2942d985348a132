#!/usr/bin/env python3
# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Draw keyframes of predictions as one PNG: image, depth, sensor depth, error and confidence, with a legend in metres.

dvmvs evaluate SCENE --out out
python benchmarks/field_strips.py out/SCENE SCENE strips.png --frames 12 40
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from dvmvs_core.atomic import replacing
from dvmvs_core.data.encodings.pictures import encode_png
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.sequence import FrameSequence
from dvmvs_core.errors import DataError, DvmvsError
from dvmvs_core.evaluation.prediction.depth_pictures import captioned, depth_strip
from dvmvs_core.evaluation.prediction.predict_sequence import PREDICTIONS
from dvmvs_core.evaluation.prediction.prediction_pixels import StoredKeyframe, StoredKeyframes
from dvmvs_core.evaluation.scoring.metrics import evaluate_depth


def spread_keyframes(stored: StoredKeyframes, count: int) -> list[int]:
    """Return the frame index of `count` keyframes, evenly from the first to the last; all if there are fewer."""
    indices = stored.reader.frame_index
    return indices[np.unique(np.linspace(0, len(indices) - 1, count).round().astype(int))].tolist()


def strips(predictions: Path, sequence: FrameSequence, frames: list[int] | None, count: int, min_depth_m: float):
    """Return the picture (H, W, 3) uint8 RGB and the indices of its frames, from top to bottom.

    Args:
        predictions: the npz.
        sequence: what it was made from; without sensor depth there are only image, depth and confidence.
        frames: the keyframes, by the index of their frames in the sequence.
        count: or how many, spread over the sequence.
        min_depth_m: nearest sensor depth that counts in the error that a row names; all of it is drawn.

    Raises:
        DataError: if one of them is no keyframe, or the predictions are of another sequence.
    """
    frames = sorted(frames or spread_keyframes(StoredKeyframes(predictions), count))
    stored = StoredKeyframes(predictions, frames)
    if missing := sorted(set(frames) - stored.missing):
        has = stored.reader.frame_index.tolist()
        raise DataError(f"frames {missing} are no keyframes of {predictions}; it has {has}")
    keyframes = stored.of(sequence, depth=sequence.has_depth)
    rows = [_row(keyframe, min_depth_m, sequence.depth_name) for keyframe in keyframes]
    widest = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (0, widest - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return np.vstack(rows), frames


def _row(keyframe: StoredKeyframe, min_depth_m: float, truth_name: str) -> np.ndarray:
    depth, truth = keyframe.depth, keyframe.truth
    said = f"frame {keyframe.item.frame.index} ({keyframe.item.name})"
    if truth is not None:
        metrics = evaluate_depth(depth, np.where(depth > 0, truth, 0), min_depth_m)
        said += f": abs rel {metrics.abs_relative_error:.3f}, within 1.25 {metrics.ratio_125:.3f}"
    strip = depth_strip(keyframe.image, depth, truth, keyframe.confidence, legend=True, truth_name=truth_name)
    return captioned(said, strip)


def main(arguments: list[str] | None = None) -> int:
    """Draw and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, help=f"{PREDICTIONS}, or the folder that holds it")
    parser.add_argument("sequence", type=Path, help="the scene folder or rosbag2 that it was made from")
    parser.add_argument("out", type=Path, help="the PNG")
    parser.add_argument("--frames", type=int, nargs="+", help="keyframes, by the index of their frames in the sequence")
    parser.add_argument("--count", type=int, default=6, help="or how many, spread over the sequence (default: 6)")
    parser.add_argument("--min-depth", type=float, default=0.5, help="nearest sensor depth that counts, metres")
    given = parser.parse_args(arguments)
    file = given.predictions / PREDICTIONS if given.predictions.is_dir() else given.predictions
    try:
        picture, frames = strips(file, open_sequence(given.sequence), given.frames, given.count, given.min_depth)
    except DvmvsError as error:
        print(f"field_strips.py: {error}", file=sys.stderr)
        return 1
    with replacing(given.out) as unfinished:
        unfinished.write_bytes(encode_png(picture))
    print(f"wrote {given.out}: frames {', '.join(map(str, frames))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
