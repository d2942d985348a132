# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the regulariser is trained on, in files: keyframes of a walk as matching left them, with the truth.

Symbols: N keyframes, H×W pixels, h×w = H/2×W/2 cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.atomic import replacing
from dvmvs_core.data.encodings.npz import read_arrays
from dvmvs_core.errors import DamagedError, DataError
from dvmvs_core.foreign import foreign
from dvmvs_core.model.regulariser import RegulariserInputs

FARTHEST_TRUTH_M = 20.0
"""Truth at that depth or beyond counts as none: nothing predicts it."""


class Keyframes(NamedTuple):
    """Keyframes with their truth.

    Attributes:
        inputs: of the regulariser as the matcher makes them, before `prepared`: images hold 0…255.
        offset: (N, 1, 1, 1) what log depths of the inputs, and of the answer, are relative to.
        truth: (N, 1, H, W) metres, 0 where there is none.
    """

    inputs: RegulariserInputs
    offset: Tensor
    truth: Tensor

    @property
    def valid(self) -> Tensor:
        """Which pixels (N, 1, H, W) have a truth."""
        return (self.truth > 0) & (self.truth < FARTHEST_TRUTH_M)

    @property
    def log_truth(self) -> Tensor:
        """Log of the truth less the offset, (N, 1, H, W), for comparison with `Regularised.log_depth`."""
        return torch.where(self.valid, self.truth, 1.0).log() - self.offset

    def to(self, device: torch.device) -> Keyframes:
        """Return them on a device."""
        inputs = RegulariserInputs(*(part.to(device) for part in self.inputs))
        return Keyframes(inputs, self.offset.to(device), self.truth.to(device))


def joined(parts: Sequence[Keyframes]) -> Keyframes:
    """Return the keyframes of several in one."""
    inputs, offsets, truths = zip(*parts, strict=True)
    together = (torch.cat(each) for each in zip(*inputs, strict=True))
    return Keyframes(RegulariserInputs(*together), torch.cat(offsets), torch.cat(truths))


def write_clip(path: Path, keyframes: Keyframes) -> None:
    """Write keyframes, whole or not at all: images as bytes, all else as float16 but the offset, which depth hangs on.

    Raises:
        DataError: if that fails, as on a full disk.
    """
    arrays = {name: part.numpy().astype(np.float16) for name, part in keyframes.inputs._asdict().items()}
    arrays["image"] = keyframes.inputs.image.numpy().astype(np.uint8)
    arrays["offset"] = keyframes.offset.numpy()
    arrays["truth"] = keyframes.truth.numpy().astype(np.float16)
    try:
        with replacing(path) as unfinished:
            np.savez(unfinished, **arrays)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error}") from error


def read_clip(path: Path, choose: np.random.Generator | None = None, count: int | None = None) -> Keyframes:
    """Read keyframes, as float32.

    Args:
        path: from `write_clip`.
        choose: draws `count` of them; all are read without it.
        count: at most so many.

    Raises:
        DataError: if the file cannot be read.
    """
    with foreign(f"{path} holds no keyframes that can be read", advice="; delete it"):
        arrays = read_arrays(path, (*RegulariserInputs._fields, "offset", "truth"))
        kept = slice(None)
        if choose is not None:
            total = len(arrays["offset"])
            kept = choose.choice(total, min(count, total), replace=False)
        read = {name: torch.from_numpy(array[kept]).float() for name, array in arrays.items()}
        numbers = {name: len(part) for name, part in read.items()}
        if len(set(numbers.values())) > 1:
            raise DamagedError(f"its arrays must be of as many keyframes each; they are of {numbers}")
        if read["offset"].shape[1:] != (1, 1, 1):
            raise DamagedError("its offsets are those of an earlier version")
        offset, truth = read.pop("offset"), read.pop("truth")
        return Keyframes(RegulariserInputs(**read), offset, truth)
