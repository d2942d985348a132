# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How cells of one view's grid map to cells of another's.

A point of inverse depth d at cell c of the reference view is at cell (H c + d t) of the other view, homogeneous.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """Cells at every `step`-th pixel of an image.

    Attributes:
        step: pixels from one cell to the next.
        offset: pixel at the centre of the first cell.
    """

    step: int
    offset: int

    @property
    def margin(self) -> np.float32:
        """Cells by which the image reaches beyond the grid."""
        return np.float32((self.step - 1) / self.step)

    @property
    def pixel_from_cell(self) -> np.ndarray:
        """(3, 3), for homogeneous coordinates."""
        return np.array(((self.step, 0, self.offset), (0, self.step, self.offset), (0, 0, 1)), dtype=np.float64)


FULL, HALF, QUARTER, PRETRAINED = Grid(1, 0), Grid(2, 0), Grid(4, 0), Grid(4, 3)
"""Of pixels; of patches; of the prior depth; of the pretrained maps."""


def relative_views(
    world_T_from: Sequence[np.ndarray],
    K_from: Sequence[np.ndarray],
    world_T_to: Sequence[np.ndarray],
    K_to: Sequence[np.ndarray],
    grid: Grid,
) -> tuple[np.ndarray, np.ndarray]:
    """Return homographies (M, 3, 3) and translations (M, 3), float32, of M pairs of views on the same kind of grid.

    Args:
        world_T_from: (4, 4) poses of the views that cells are mapped from.
        K_from: (3, 3) their intrinsics, pixels.
        world_T_to: (4, 4) poses of the views that they are mapped to.
        K_to: (3, 3) their intrinsics.
        grid: of the cells.
    """
    to_pixel = grid.pixel_from_cell
    to_cell_b = np.linalg.inv(to_pixel) @ np.stack(K_to)
    b_T_a = np.linalg.inv(np.stack(world_T_to)) @ np.stack(world_T_from)
    homographies = to_cell_b @ b_T_a[:, :3, :3] @ np.linalg.inv(np.stack(K_from)) @ to_pixel
    translations = (to_cell_b @ b_T_a[:, :3, 3:])[..., 0]
    return homographies.astype(np.float32), translations.astype(np.float32)
