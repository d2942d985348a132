# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Data sets that `dvmvs import` reads, two frames each, of which one file is damaged."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import fuzz_corpus as corpus
import fuzz_mutations as mutations
import numpy as np
from format_writers import encoded

from dvmvs_core.foreign import foreign
from dvmvs_core.importers.dataset import Dataset, SkippedFrame
from dvmvs_core.importers.formats import IclNuimOptions, RgbdScenesOptions, SevenScenesOptions, TumRgbdOptions
from dvmvs_core.importers.icl_nuim import IclNuim
from dvmvs_core.importers.rgbd_scenes import RgbdScenes
from dvmvs_core.importers.seven_scenes import SevenScenes
from dvmvs_core.importers.tum_rgbd import TumRgbd

FRAMES = 2
POSE = "".join(" ".join(map(str, row)) + "\n" for row in np.eye(4))


@cache
def data_sets() -> list[tuple[Callable[[bool], Dataset], dict[str, bytes]]]:
    """How to open each data set, as published or not, and its files by name."""
    colour, depth = encoded(".png", corpus.picture()), encoded(".png", corpus.depth())
    jpeg = encoded(".jpg", corpus.picture())
    numbers = range(FRAMES)
    sequence, tum = "chess/seq-01/frame-", "rgbd_dataset_freiburg3_x"
    return [
        (
            lambda published: IclNuim(published, IclNuimOptions()),
            {
                **{f"office1-color/{i:05d}.jpg": jpeg for i in numbers},
                **{f"office1-depth-clean/{i:05d}.png": depth for i in numbers},
                "office1-traj.txt": "".join(f"{i} {i} {i + 1}\n{POSE}" for i in numbers).encode(),
            },
        ),
        (
            lambda published: RgbdScenes(published, RgbdScenesOptions()),
            {
                **{f"imgs/scene_01/{i:05d}-color.png": colour for i in numbers},
                **{f"imgs/scene_01/{i:05d}-depth.png": depth for i in numbers},
                "pc/01.pose": b"1 0 0 0 0 0 0\n" * FRAMES,
            },
        ),
        (
            lambda published: SevenScenes(False, SevenScenesOptions()),  # as published, it needs another release
            {
                **{f"{sequence}{i:06d}.color.png": colour for i in numbers},
                **{f"{sequence}{i:06d}.depth.png": depth for i in numbers},
                **{f"{sequence}{i:06d}.pose.txt": POSE.encode() for i in numbers},
            },
        ),
        (
            lambda published: TumRgbd(False, TumRgbdOptions()),
            {
                **{
                    f"{tum}/{kind}/{i}.png": image
                    for i in numbers
                    for kind, image in (("rgb", colour), ("depth", depth))
                },
                **{
                    f"{tum}/{kind}.txt": "".join(f"{i + 1}.0 {kind}/{i}.png\n" for i in numbers).encode()
                    for kind in ("rgb", "depth")
                },
                f"{tum}/groundtruth.txt": "".join(f"{i}.0 0 0 0 0 0 0 1\n" for i in range(FRAMES + 2)).encode(),
            },
        ),
    ]


def damaged(rng: Random, seed: tuple[Callable[[bool], Dataset], dict[str, bytes]]) -> object:
    """A data set with a file that is damaged, missing, or another's."""
    opened, files = seed[0], dict(seed[1])
    name, kind = rng.choice(sorted(files)), rng.random()
    if kind < 0.8:
        mutate = mutations.mutated_image if name.endswith((".png", ".jpg")) else mutations.mutated_words
        files[name] = mutate(rng, files[name])
    elif kind < 0.9:
        del files[name]
    else:
        files[name] = files[rng.choice(sorted(files))]
    return opened(rng.random() < 0.5), files


def read(rng: Random, case: tuple[Dataset, dict[str, bytes]], folder: Path) -> None:
    """Read every frame, as an import does."""
    dataset, files = case
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for scene in dataset.find(folder):
        with foreign("the scene cannot be read"):  # as `import_scene` does
            for frame in dataset.open(scene).frames(1):
                assert isinstance(frame, SkippedFrame) or frame.image.shape[:2] == frame.depth.shape
