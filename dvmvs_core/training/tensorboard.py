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
