# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Compressed data, inflated with a bound: a few kilobytes of zlib, zstd or lz4 can claim any memory."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import lz4.frame

from dvmvs_core.errors import DamagedError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

PIECE_BYTES = 1 << 20

INFLATED_ANYWAY, INFLATED_PER_BYTE = 100_000_000, 200
"""What is believed of compressed data: so many bytes in all, and beyond that so many for each byte."""


def inflation_bound(compressed_bytes: int) -> int:
    """Return the most bytes that so many bytes of compressed data may become."""
    return max(INFLATED_ANYWAY, INFLATED_PER_BYTE * compressed_bytes)


def inflate_zlib(data: bytes, size: int) -> bytes:
    """Return a zlib stream that holds so many bytes.

    Raises:
        DamagedError: if it holds another number.
        zlib.error: if it is damaged.
    """
    stream = zlib.decompressobj()
    inflated = stream.decompress(data, size + 1)
    if len(inflated) != size or not stream.eof:
        raise DamagedError(
            f"compressed data must hold {size} bytes; they hold {'more' if len(inflated) > size else 'less'}"
        )
    return inflated


def inflate_part(compression: str, data: bytes, bound: int) -> bytes:
    """Return what comes out of a stream that may be cut off, up to a bound.

    Args:
        compression: "zstd", "lz4", or empty for none.
        data: the stream.
        bound: most bytes to make.
    """
    if compression == "":
        return data
    if compression == "zstd":
        return zstd.ZstdDecompressor().decompress(data, bound)
    if compression == "lz4":
        return lz4.frame.LZ4FrameDecompressor().decompress(data, bound)
    return b""


def inflate_whole(compression: str, data: bytes, size: int | None = None) -> bytes:
    """Return what a stream becomes.

    Args:
        compression: "zstd" or "lz4".
        data: the stream.
        size: how many bytes it says that it becomes; None if it says nothing.

    Raises:
        DamagedError: if it becomes far larger than it is.
    """
    bound = inflation_bound(len(data))
    if size is not None and size > bound:
        raise DamagedError(f"{len(data)} compressed bytes cannot be {size}, as their chunk says; it is damaged")
    inflated = inflate_part(compression, data, bound + 1)
    if len(inflated) > bound:
        raise DamagedError(f"{len(data)} compressed bytes would become more than {bound}; they are damaged")
    return inflated


def inflate_message(data: bytes) -> bytes:
    """Return a message that a recorder compressed by zstd; any other, and a damaged one, as it is.

    No serialised message begins with the mark of zstd.
    """
    if data[: len(ZSTD_MAGIC)] != ZSTD_MAGIC:
        return data
    try:
        return inflate_whole("zstd", data)
    except (DamagedError, zstd.ZstdError):
        return data


def inflate_file(file: Path, inflated: Path) -> str:
    """Decompress a file of zstd as far as it goes, within the bound of its size.

    Returns:
        What is wrong with it; an empty string if nothing is.
    """
    left = inflation_bound(file.stat().st_size)
    frame = zstd.ZstdDecompressor()
    with file.open("rb") as packed, inflated.open("wb") as out:
        while piece := (not frame.eof and packed.read(PIECE_BYTES)) or frame.unused_data or packed.read(PIECE_BYTES):
            frame = zstd.ZstdDecompressor() if frame.eof else frame
            try:
                left -= out.write(frame.decompress(piece, left + 1))
            except zstd.ZstdError as error:
                return str(error)
            if left < 0:
                return "it would become far larger than it is"
    return "" if frame.eof else "it ends early"
