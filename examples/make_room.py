# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Render the walk in examples/room: 48 frames at 15 Hz through a furnished room, with exact depth and poses.

    .venv/bin/python examples/make_room.py OUT

The same seed gives the same walk; pixels can differ in the last bit where torch or OpenCV differ.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from dvmvs_core.importers.dataset import ImportedFrame
from dvmvs_core.importers.scene_writer import SceneFolder
from dvmvs_core.progress import progress
from dvmvs_core.synthetic.clips import render_sequence
from dvmvs_core.synthetic.paths import FRAME_RATE_HZ

SEED = 28
FRAMES, EVERY = 48, 2
HEIGHT, WIDTH = 256, 320
SAMPLES = 2
JPEG_QUALITY = 90


def main(out: Path, seed: int = SEED) -> None:
    """Write the scene folder `out`, whole or not at all."""
    folder = SceneFolder(out, training=False, pose_format="%.9g", jpeg_quality=JPEG_QUALITY)
    frames, K = render_sequence(seed, FRAMES, HEIGHT, WIDTH, SAMPLES, every=EVERY)
    with progress(f"rendering {out}", FRAMES) as advance:
        for number, (image, depth, world_T_cam) in enumerate(frames):
            millimetres = np.rint(depth * 1000).clip(0, 65535).astype(np.uint16)
            stamp_ns = 10**9 + round(number * EVERY * 1e9 / FRAME_RATE_HZ)
            folder.add(ImportedFrame(image, millimetres, world_T_cam, stamp_ns))
            advance(1)
    folder.finish(K, {"made by": "examples/make_room.py", "seed": seed})


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
