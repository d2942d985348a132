# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Predictions on disk: one npz for a sequence, written and read one depth map at a time.

Arrays: depth (N, h, w) float32 metres; confidence (N, h, w) float32 where the engine estimates it; frame_index (N,);
measurement_index (N, M), -1 = none; stamp_ns (N,); K (3, 3); world_T_cam (N, 4, 4); latency_ms (N,); refined (N,) bool.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from dvmvs_core.atomic import replacing
from dvmvs_core.data.encodings.image_size import check_pixels
from dvmvs_core.data.encodings.npz import array_names, open_array, read_arrays
from dvmvs_core.errors import DamagedError, DataError
from dvmvs_core.foreign import foreign, regular
from dvmvs_core.types import DepthPrediction

IMAGES = ("depth", "confidence")
"""Arrays of one image a keyframe, too large to hold for a long sequence."""

CHUNK_BYTES = 1 << 20

SMALL = {
    "frame_index": ("iu", (None,)),
    "measurement_index": ("iu", (None, None)),
    "stamp_ns": ("iu", (None,)),
    "K": ("f", (3, 3)),
    "world_T_cam": ("f", (None, 4, 4)),
    "latency_ms": ("f", (None,)),
}
"""The other arrays that a file must have: kinds of numpy types, and shape; None for any number, the first that of
predictions."""

REQUIRED = ("depth", *SMALL)


class PredictionWriter:
    """Collects predictions and writes them as one npz when its block ends well; otherwise leaves no file.

    Args:
        path: the npz.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._predictions: list[DepthPrediction] = []
        self._raw: dict[str, BinaryIO] = {}

    def __enter__(self) -> PredictionWriter:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._raw = {name: tempfile.TemporaryFile(dir=self._path.parent) for name in IMAGES}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._write()
        finally:
            for raw in self._raw.values():
                raw.close()

    def __len__(self) -> int:
        """Return the number of predictions so far."""
        return len(self._predictions)

    @property
    def latencies_ms(self) -> list[float]:
        """The engine's time for each prediction so far."""
        return [prediction.latency_ms for prediction in self._predictions]

    def append(self, prediction: DepthPrediction) -> None:
        """Take the next prediction.

        Raises:
            DataError: if the intrinsics differ from those before, since a file holds one K.
        """
        if self._predictions and not np.array_equal(prediction.K, self._predictions[0].K):
            raise DataError(
                f"the intrinsics change at frame {prediction.frame_index}; one prediction file holds one camera only."
                " Split the recording there"
            )
        for name in IMAGES:
            image = getattr(prediction, name)
            if image is not None:
                self._raw[name].write(np.ascontiguousarray(image, dtype=np.float32))
        self._predictions.append(_without_images(prediction))

    def _write(self) -> None:
        with replacing(self._path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
            for name in IMAGES:
                raw = self._raw[name]
                if name == "depth" or raw.tell():
                    shape = (len(self), *self._predictions[0].image.shape[:2]) if self._predictions else (0, 0, 0)
                    raw.seek(0)
                    write_images(archive, name, shape, iter(lambda raw=raw: raw.read(CHUNK_BYTES), b""))
            for name, array in self._small_arrays().items():
                with archive.open(f"{name}.npy", "w") as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)

    def _small_arrays(self) -> dict[str, np.ndarray]:
        predictions = self._predictions
        most = max((len(p.measurement_index) for p in predictions), default=0)
        measurement_index = np.full((len(predictions), most), -1, dtype=np.int64)
        for row, p in zip(measurement_index, predictions, strict=True):
            row[: len(p.measurement_index)] = p.measurement_index
        return {
            "frame_index": np.array([p.frame_index for p in predictions], dtype=np.int64),
            "measurement_index": measurement_index,
            "stamp_ns": np.array([p.stamp_ns for p in predictions], dtype=np.int64),
            "K": predictions[0].K if predictions else np.full((3, 3), np.nan),
            "world_T_cam": np.array([p.world_T_cam for p in predictions], dtype=np.float64).reshape(-1, 4, 4),
            "latency_ms": np.array(self.latencies_ms, dtype=np.float64),
            "refined": np.array([p.refined for p in predictions], dtype=bool),
        }


class PredictionReader:
    """Reads predictions back; depth maps come one at a time.

    Args:
        path: the npz.

    Attributes:
        frame_index: (N,) index of each reference frame in its sequence.
        measurement_index: (N, M), -1 = none.
        stamp_ns: (N,).
        K: (3, 3) intrinsics of the depth maps.
        world_T_cam: (N, 4, 4).
        latency_ms: (N,).
        has_confidence: whether confidence was stored.
        refined: whether all depth was refined against keyframes before and after it.

    Raises:
        DataError: if the file is missing, damaged, or lacks an array.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with foreign(f"{path} cannot be read as predictions", advice=". Run dvmvs predict again"):
            names = array_names(path)
            missing = [name for name in REQUIRED if name not in names]
            if missing:
                raise DamagedError(f"it lacks {', '.join(missing)}")
            self.has_confidence = "confidence" in names
            arrays = read_arrays(path, [name for name in (*SMALL, "refined") if name in names])
            self._check(arrays)
            self.frame_index: np.ndarray = arrays["frame_index"]
            self.measurement_index: np.ndarray = arrays["measurement_index"]
            self.stamp_ns: np.ndarray = arrays["stamp_ns"]
            self.K: np.ndarray = arrays["K"]
            self.world_T_cam: np.ndarray = arrays["world_T_cam"]
            self.latency_ms: np.ndarray = arrays["latency_ms"]
            # Files of before there was a choice do not say.
            self.refined = "refined" in names and bool(len(self)) and bool(arrays["refined"].all())

    @staticmethod
    def _check(arrays: dict[str, np.ndarray]) -> None:
        """Refuse arrays that are of other shapes or kinds than the writer's."""
        count = len(arrays["frame_index"]) if arrays["frame_index"].ndim else 0
        for name, array in arrays.items():
            kind, shape = SMALL.get(name, ("b", (None,)))
            wanted = shape if name == "K" else (count, *shape[1:])
            fits = array.ndim == len(wanted) and all(
                n in (None, size) for n, size in zip(wanted, array.shape, strict=True)
            )
            if not fits or array.dtype.kind not in kind:
                raise DamagedError(f"{name} of {count} must have shape {wanted}; got {array.dtype} of {array.shape}")

    def __len__(self) -> int:
        """Return the number of predictions."""
        return len(self.frame_index)

    def depths(self) -> Iterator[np.ndarray]:
        """Yield each depth map (h, w) float32, in the order of `frame_index`.

        Raises:
            DataError: if the file is damaged.
        """
        return self._images("depth")

    def confidences(self) -> Iterator[np.ndarray | None]:
        """Yield each confidence map (h, w) float32, or None where there is none, in the order of `frame_index`.

        Raises:
            DataError: if the file is damaged.
        """
        return self._images("confidence") if self.has_confidence else repeat(None, len(self))

    def _images(self, name: str) -> Iterator[np.ndarray]:
        with (
            foreign(f"{self._path} cannot be read as predictions", advice=". Run dvmvs predict again"),
            zipfile.ZipFile(regular(self._path)) as archive,
            open_array(archive, name) as (entry, shape, dtype, fortran),
        ):
            if dtype != np.float32 or len(shape) != 3 or shape[0] != len(self) or fortran:
                raise DamagedError(f"{name} must be float32 of ({len(self)}, h, w); got {dtype} of {shape}")
            if len(self):
                check_pixels(*shape[1:], self._path.stat().st_size)
            size = math.prod(shape[1:]) * dtype.itemsize
            for _ in range(shape[0]):
                data = entry.read(size)
                if len(data) < size:
                    raise DamagedError("it ends early")
                yield np.frombuffer(data, dtype).reshape(shape[1:])


def write_images(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], values: Iterable[bytes | memoryview]
) -> None:
    """Store float32 values as the entry `name` of an npz without having them all in memory.

    Args:
        archive: the npz, open for writing.
        name: of the array.
        shape: of the array.
        values: its bytes in order, in pieces of any size.
    """
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
        np.lib.format.write_array_header_1_0(entry, header)
        for piece in values:
            entry.write(piece)


def _without_images(prediction: DepthPrediction) -> DepthPrediction:
    """The prediction without pixels, which keeps only the size of its image."""
    nothing = np.broadcast_to(np.uint8(0), prediction.image.shape)
    return dataclasses.replace(prediction, depth=nothing[..., 0], image=nothing, confidence=None)
