# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""TensorBoard: losses as curves, contact sheets as images. An optional package writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dvmvs_core.errors import PackageError

FOLDER_NAME = "tensorboard"


class Board:
    """Writes what TensorBoard shows.

    Args:
        folder: the run folder; the events go into a folder of it.

    Raises:
        PackageError: if TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise PackageError(
                f"TensorBoard is not installed ({error}); install it: pip install tensorboard"
            ) from error
        self._writer = SummaryWriter(str(folder / FOLDER_NAME))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Add a point to each of some curves."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Add an image (H, W, 3) uint8 RGB."""
        self._writer.add_image(name, picture, step, dataformats="HWC")

    def flush(self) -> None:
        """Write everything to disk."""
        self._writer.flush()
