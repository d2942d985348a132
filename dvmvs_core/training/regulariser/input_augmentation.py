# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What is done to inputs in training, so that the regulariser does not rely on what is better on worlds than elsewhere.

Symbols: B batch, h×w cells.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.model.regulariser import RegulariserInputs
from dvmvs_core.runtime.devices import to_device

LEFT_OUT = 0.2
"""Share of the keyframes that lack each of Lite0's maps."""

DISTURBED = 0.7
"""Share of the batches, and of the keyframes in them, in which the network's depth is disturbed."""

DEVIATION = 0.2
"""Of the disturbance of log depth: of its smooth part and of the whole image alike."""

GRID = (4, 5)
"""Cells of the grid that the smooth part is drawn on."""


def augmented(inputs: RegulariserInputs, random: np.random.Generator) -> RegulariserInputs:
    """Return inputs (of `prepared`) without some of Lite0's maps, and with disturbed depth of the network."""
    if random.random() < DISTURBED:
        inputs = _disturbed(inputs, random)
    levels = {name: getattr(inputs, name) for name in ("level4", "level8", "level16", "level32")}
    keep = random.random((len(levels), len(inputs.image), 1, 1, 1)) >= LEFT_OUT
    kept = to_device(torch.from_numpy(keep).float(), inputs.image.device)
    return inputs._replace(**{name: level * one for (name, level), one in zip(levels.items(), kept, strict=True)})


def _disturbed(inputs: RegulariserInputs, random: np.random.Generator) -> RegulariserInputs:
    def normal(*size: int) -> Tensor:
        return on_device(random.normal(0, DEVIATION, (len(inputs.image), 1, *size)))

    def on_device(drawn: np.ndarray) -> Tensor:
        return to_device(torch.from_numpy(drawn).float(), inputs.image.device)

    chosen = on_device(random.random((len(inputs.image), 1, 1, 1)) < DISTURBED)
    smooth = functional.interpolate(normal(*GRID), size=tuple(inputs.network.shape[-2:]), mode="bilinear")
    return inputs._replace(network=inputs.network + chosen * (normal(1, 1) + smooth))
