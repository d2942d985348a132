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

import lz4.frame

from dvmvs_core.errors import DamagedError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


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
