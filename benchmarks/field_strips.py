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

from dvmvs_core.atomic import replacing
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DvmvsError
from dvmvs_core.evaluation.prediction.depth_pictures import encode_png
from dvmvs_core.evaluation.prediction.predict_sequence import PREDICTIONS
from dvmvs_core.evaluation.report.strips import spread_keyframes, strip


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
        frames = given.frames or spread_keyframes(file, given.count)
        picture = strip(file, open_sequence(given.sequence), frames, given.min_depth)
    except DvmvsError as error:
        print(f"field_strips.py: {error}", file=sys.stderr)
        return 1
    with replacing(given.out) as unfinished:
        unfinished.write_bytes(encode_png(picture))
    print(f"wrote {given.out}: frames {', '.join(map(str, sorted(frames)))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
