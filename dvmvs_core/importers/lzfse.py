# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Apple's LZFSE streams, as Record3D compresses depth with: stored blocks are read here, others by the package lzfse.

A stream is blocks that begin with their kind and the size that they inflate to, and ends with bvx$. The kinds are bvx-
(stored), bvxn (LZVN) and bvx2 (LZFSE). Source: lzfse_internal.h of Apple's reference implementation.
"""

from __future__ import annotations

import struct

from dvmvs_core.errors import DamagedError, DataError
from dvmvs_core.foreign import foreign

LZFSE_HEADER_BYTES = 32
"""The shortest header of a block, without its tables."""

STORED, LZVN, LZFSE, END = b"bvx-", b"bvxn", b"bvx2", b"bvx$"


def inflate_lzfse(data: bytes, size: int) -> bytes:
    """Return what a stream of a known size holds.

    Args:
        data: the stream.
        size: bytes that must come out.

    Raises:
        DataError: if it is damaged or of another size, or compressed and lzfse is not installed.
    """
    with foreign("data must be an LZFSE stream of one image"):
        blocks = _blocks(data)
    inflated = sum(length for _, length, _ in blocks)
    if inflated != size:
        raise DamagedError(f"the stream must hold {size} bytes; it holds {inflated}")
    if all(kind == STORED for kind, _, _ in blocks):
        return b"".join(data[end - length : end] for _, length, end in blocks)
    return _by_library(data, size)


def _blocks(data: bytes) -> list[tuple[bytes, int, int]]:
    """Kind, size and end of each block; nothing is inflated, since 180 kB may claim 300 MB."""
    blocks, at = [], 0
    while (kind := data[at : at + 4]) != END:
        (length,) = struct.unpack_from("<I", data, at + 4)
        if kind == STORED:
            at += 8 + length
        elif kind == LZVN:
            at += 12 + struct.unpack_from("<I", data, at + 8)[0]
        elif kind == LZFSE:
            literals, matches, header = struct.unpack_from("<3Q", data, at + 8)
            if header & 0xFFFFFFFF < LZFSE_HEADER_BYTES:
                raise DamagedError("a block has no header")
            at += (header & 0xFFFFFFFF) + (literals >> 20 & 0xFFFFF) + (matches >> 40 & 0xFFFFF)
        else:
            raise DamagedError("a block is of no known kind")
        if at > len(data):
            raise DamagedError("the stream ends early: it was cut off")
        blocks.append((kind, length, at))
    return blocks


def _by_library(data: bytes, size: int) -> bytes:
    try:
        import lzfse
    except ImportError:
        raise DataError("depth of Record3D is compressed with LZFSE: pip install lzfse, and run it again") from None
    with foreign("the LZFSE stream is damaged"):
        inflated = lzfse.decompress(data)
    if len(inflated) != size:
        raise DamagedError(f"the LZFSE stream must hold {size} bytes; it holds {len(inflated)}")
    return inflated
