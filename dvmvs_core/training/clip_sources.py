# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where clips come from: live synthetic worlds, recordings in the training layout, or a weighted mix of both."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.synthetic.clips import ClipBatch, Shot, SyntheticClips
from dvmvs_core.synthetic.paths import CameraPath
from dvmvs_core.training.training_scenes import SceneClips

logger = logging.getLogger(__name__)

SYNTHETIC = "synthetic"
HELD_OUT_SEED = 2**31 - 1
"""Worlds of this seed are never trained on."""


class ClipSource(Protocol):
    """Gives any batch of an endless stream by its number, the same one in every process."""

    def batch(self, batch_size: int, index: int) -> ClipBatch:
        """Make batch `index`."""


@dataclass(frozen=True)
class DataPart:
    """One part of the data.

    Args:
        name: "synthetic", or a folder in the training layout.
        weight: its weight among the parts.
    """

    name: str
    weight: Fraction

    @property
    def synthetic(self) -> bool:
        """Whether it is rendered while it is trained on."""
        return self.name == SYNTHETIC


def parse_data(entries: Sequence[str], rendered: bool = True) -> tuple[DataPart, ...]:
    """Read `NAME` or `NAME:WEIGHT` of each part; a part without a weight weighs 1.

    Args:
        entries: the parts.
        rendered: whether worlds may be rendered while they are trained on.

    Raises:
        ConfigError: if a weight is not positive, or a folder does not exist.
    """
    folder = "a folder that holds train.txt"
    allowed, example = (f"{SYNTHETIC}, or {folder}", SYNTHETIC) if rendered else (folder, "FOLDER")
    parts = []
    for entry in entries:
        name, weight = _split_weight(entry)
        if weight <= 0:
            raise ConfigError(f"the weight of {name} must be positive; got {entry!r}")
        if name != SYNTHETIC and not Path(name).is_dir():
            raise ConfigError(f"data must be {allowed}; {name!r} is no folder. Add a weight as in {example}:0.7")
        parts.append(DataPart(name, weight))
    if not parts:
        raise ConfigError(f"name at least one part of data: {allowed}")
    return tuple(parts)


def training_sources(
    parts: Sequence[DataPart], size: tuple[int, int], frames: int, seed: int, device: str = "cpu"
) -> list[ClipSource]:
    """Open every part.

    Args:
        parts: what to train on.
        size: (H, W) of the frames.
        frames: of each clip.
        seed: of worlds and order.
        device: where worlds are rendered.

    Raises:
        DataError: if nothing of a folder can be used.
    """
    return [
        SyntheticClips(*size, frames, seed=seed, device=device)
        if part.synthetic
        else _folder_clips(part.name, size, frames, seed)
        for part in parts
    ]


class HeldOutWorlds:
    """Worlds that are never trained on: drawn once, and filmed for runs of one size and another.

    Args:
        size: (H, W) that they are drawn for; another size sees the same.
        frames: most frames of a clip.
    """

    def __init__(self, size: tuple[int, int], frames: int) -> None:
        self._size = size
        self._drawn_from = SyntheticClips(*size, frames, seed=HELD_OUT_SEED)
        self._shots: list[Shot] = []

    def batches(
        self, size: tuple[int, int], frames: int, batch_size: int, count: int, device: str = "cpu"
    ) -> list[ClipBatch]:
        """Film the first clips, cut short, in so many batches."""
        while len(self._shots) < count * batch_size:
            self._shots += self._drawn_from.draw(1, len(self._shots))
        camera = SyntheticClips(*size, frames, seed=HELD_OUT_SEED, device=device)
        shots = [self._shot(number, size, frames) for number in range(count * batch_size)]
        return [camera.render(shots[first : first + batch_size]) for first in range(0, len(shots), batch_size)]

    def _shot(self, number: int, size: tuple[int, int], frames: int) -> Shot:
        """A copy of what was drawn: filming uses it up."""
        shot = self._shots[number]
        y, x = (new / drawn for new, drawn in zip(size, self._size, strict=True))
        # Whole numbers are the centres of pixels.
        new_from_drawn = np.array([[x, 0.0, (x - 1.0) / 2.0], [0.0, y, (y - 1.0) / 2.0], [0.0, 0.0, 1.0]])
        path = CameraPath(*(part[:frames] for part in shot.path))
        return Shot(shot.world, new_from_drawn @ shot.K, path, copy.deepcopy(shot.rng))


@dataclass(frozen=True)
class HeldOut:
    """Clips that are not learned from.

    Args:
        calibration: batches that batch-norm statistics are estimated from before validation.
        validation: batches that the losses of validation are measured on: of worlds and scenes never trained on.
    """

    calibration: Sequence[ClipBatch]
    validation: Sequence[ClipBatch]


def held_out_clips(
    parts: Sequence[DataPart],
    sources: Sequence[ClipSource],
    size: tuple[int, int],
    frames: int,
    batch_size: int,
    batches: int,
    device: str = "cpu",
    worlds: HeldOutWorlds | None = None,
) -> HeldOut:
    """Make the clips for calibration and validation, as many batches of each as there are of each part.

    Args:
        parts: what is trained on.
        sources: the parts, opened.
        size: (H, W) of the frames.
        frames: of each clip.
        batch_size: B.
        batches: for calibration and for validation, of each part.
        device: where worlds are rendered.
        worlds: those of other runs; by default they are drawn here.

    Raises:
        ConfigError: if there is nothing to validate with.
    """
    calibration: list[ClipBatch] = []
    validation: list[ClipBatch] = []
    for part, source in zip(parts, sources, strict=True):
        if part.synthetic:
            worlds = worlds or HeldOutWorlds(size, frames)
            made = worlds.batches(size, frames, batch_size, 2 * batches, device)
            calibration += made[:batches]
            validation += made[batches:]
        else:
            calibration += source.spread(batch_size, batches)
            held = SceneClips(Path(part.name), "validation", *size, frames)
            validation += held.spread(batch_size, batches)
            warn_of_skipped(part.name, held.skipped)
            if not len(held):
                logger.warning("%s names no scene in validation.txt, so it is not validated on", part.name)
    if not validation:
        raise ConfigError(
            "there is nothing to validate with: name scenes in validation.txt, or add synthetic to the data"
        )
    return HeldOut(calibration, validation)


def warn_of_skipped(name: str, skipped: dict[str, str]) -> None:
    """Log what a folder left out: how many, and the first of them."""
    if skipped:
        first = "; ".join(f"{what}: {why}" for what, why in list(skipped.items())[:_SKIPS_NAMED])
        more = f"; and {len(skipped) - _SKIPS_NAMED} more" if len(skipped) > _SKIPS_NAMED else ""
        logger.warning("%s: left out %d: %s%s", name, len(skipped), first, more)


_SKIPS_NAMED = 3


def _split_weight(entry: str) -> tuple[str, Fraction]:
    name, colon, weight = entry.rpartition(":")
    try:
        return (name, Fraction(weight)) if colon and name else (entry, Fraction(1))
    except (ValueError, ZeroDivisionError):
        return entry, Fraction(1)  # a folder with a colon in its name


def _folder_clips(name: str, size: tuple[int, int], frames: int, seed: int) -> SceneClips:
    clips = SceneClips(Path(name), "train", *size, frames, seed)
    if not len(clips):
        raise DataError(f"{Path(name) / 'train.txt'} must name at least one scene to train on; it names none")
    warn_of_skipped(name, clips.skipped)
    return clips
