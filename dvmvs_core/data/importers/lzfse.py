# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Apple's LZFSE streams, as Record3D compresses depth with: stored blocks are read here, others by liblzfse.

A stream is blocks that begin with bvx- (stored), bvxn, bvx1 or bvx2 and the size that they inflate to, and ends with
bvx$. Source: lzfse_internal.h of Apple's reference implementation.
"""

from __future__ import annotations

import struct

from dvmvs_core.errors import DamagedError, DataError
from dvmvs_core.foreign import foreign

STORED, COMPRESSED, END = b"bvx-", (b"bvxn", b"bvx1", b"bvx2"), b"bvx$"


def inflate_lzfse(data: bytes, size: int) -> bytes:
    """Return what a stream of a known size holds.

    Args:
        data: the stream.
        size: bytes that must come out.

    Raises:
        DataError: if it is damaged or of another size, or compressed and liblzfse is not installed.
    """
    stored = _stored(data)
    if stored is None:
        if data[:4] not in COMPRESSED or struct.unpack_from("<I", data, 4)[0] > size:
            raise DamagedError("data must be an LZFSE stream of one image; they are damaged")
        stored = _by_library(data)
    if len(stored) != size:
        raise DamagedError(f"the stream must hold {size} bytes; it holds {len(stored)}")
    return stored


def _stored(data: bytes) -> bytes | None:
    """What a stream of stored blocks holds; None if one is compressed."""
    found, at = bytearray(), 0
    while data[at : at + 4] == STORED:
        if at + 8 > len(data):
            raise DamagedError("the stream ends early: it was cut off")
        (length,) = struct.unpack_from("<I", data, at + 4)
        if at + 8 + length > len(data):
            raise DamagedError("the stream ends early: it was cut off")
        found += data[at + 8 : at + 8 + length]
        at += 8 + length
    if data[at : at + 4] == END:
        return bytes(found)
    if at + 8 > len(data):
        raise DamagedError("the stream ends early: it was cut off")
    return None


def _by_library(data: bytes) -> bytes:
    try:
        import liblzfse
    except ImportError:
        raise DataError(
            "depth of Record3D is compressed with LZFSE: pip install pyliblzfse, and run it again"
        ) from None
    with foreign("the LZFSE stream is damaged"):
        return liblzfse.decompress(data)
