# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How crowded images are: the worlds that networks learn from against the rooms that they are for.

python benchmarks/training/image_statistics.py [FOLDER ...] [--clips 48]

Every row is a mean over frames, scaled to 320x256: median and 90 % of the image gradient (Sobel, grey levels a pixel),
share of pixels whose 7x7 neighbourhood has a deviation below 2 grey levels, and mean and deviation of the grey levels.
FOLDER holds images, in itself or in images/. Rows `worlds` show live worlds as rendered, and as training sees them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import tyro

SIZE = (256, 320)
COLUMNS = ("images", "frames", "gradient median", "gradient 90 %", "flat share", "mean", "deviation")
_FLAT_BELOW = 2.0
_SUFFIXES = {".png", ".jpg", ".jpeg", ".ppm"}


@dataclass(frozen=True)
class Options:
    """Print a table of image statistics."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")] = ()
    """scene folders, or folders of images"""
    frames: int = 60
    """of each folder, evenly spaced"""
    clips: int = 0
    """live worlds to measure, one frame of each"""
    seed: int = 0
    """of the worlds"""


def statistics(image: np.ndarray) -> tuple[float, float, float, float, float]:
    """Gradient's median and 90 %, flat share, mean and deviation of an (H, W, 3) uint8 RGB image."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)) / 8.0
    mean = cv2.blur(grey, (7, 7))
    deviation = np.sqrt(np.maximum(cv2.blur(grey * grey, (7, 7)) - mean * mean, 0.0))
    return (
        float(np.median(gradient)),
        float(np.quantile(gradient, 0.9)),
        float((deviation < _FLAT_BELOW).mean()),
        float(grey.mean()),
        float(grey.std()),
    )


def of_folder(folder: Path, count: int) -> Iterator[np.ndarray]:
    """Evenly spaced images of a folder, RGB, scaled."""
    inside = folder / "images" if (folder / "images").is_dir() else folder
    paths = sorted(path for path in inside.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise SystemExit(f"{inside} must hold images ({', '.join(sorted(_SUFFIXES))}); it holds none")
    for number in np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)):
        image = cv2.imread(str(paths[number]))
        yield cv2.cvtColor(cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)


def of_worlds(count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames of live worlds, as rendered and as augmented for training."""
    from dvmvs_core.preprocess import IMAGE_MEAN, IMAGE_STD
    from dvmvs_core.synthetic.clips import SyntheticClips
    from dvmvs_core.training.augmentation import augment_clip, draw_clip

    clips = SyntheticClips(*SIZE, 2, seed=seed)
    for number in range(count):
        batch = clips.batch(1, number)
        augmented = augment_clip(batch, [draw_clip(np.random.default_rng([seed, number]))], 0.25, 20.0).image[0, 0]
        colours = augmented.permute(1, 2, 0).numpy() * IMAGE_STD + IMAGE_MEAN
        yield (
            batch.image[0, 0].permute(1, 2, 0).contiguous().numpy(),
            (colours * 255.0 + 0.5).clip(0, 255).astype(np.uint8),
        )


def row(name: str, images: Iterator[np.ndarray]) -> str:
    """One line of the table."""
    found = np.array([statistics(image) for image in images])
    median, most, flat, mean, deviation = found.mean(0)
    return f"| {name} | {len(found)} | {median:.2f} | {most:.1f} | {flat:.2f} | {mean:.0f} | {deviation:.0f} |"


def main() -> None:
    """Print the table."""
    options = tyro.cli(Options, description=__doc__)
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for folder in options.folders:
        print(row(folder.name, of_folder(folder, options.frames)), flush=True)
    if options.clips:
        rendered, trained = zip(*of_worlds(options.clips, options.seed), strict=True)
        print(row("worlds, as rendered", iter(rendered)))
        print(row("worlds, augmented", iter(trained)))


if __name__ == "__main__":
    main()
