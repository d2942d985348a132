# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Reads what is left of an mcap file that was cut off or damaged, from front to back and without its index.

A file is its magic bytes, then records: opcode (1 byte), length (8 bytes), content. Messages (0x05) lie in the open
or in chunks (0x06), after the schema (0x03) and the channel (0x04) that they refer to. Integers are little-endian.
Source: https://mcap.dev/spec
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dvmvs_core.data.encodings.inflate import inflate_part, inflation_bound

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX, DATA_END = 0x03, 0x04, 0x05, 0x06, 0x08, 0x0F

LARGEST_INDEX = 1 << 20
"""Bytes of an entry of the index: it has ten for each channel."""

RECORD_HEAD = struct.Struct("<BQ")
CHUNK_HEAD = struct.Struct("<QQQI")
MESSAGE_HEAD = struct.Struct("<HIQQ")


def is_mcap(path: Path) -> bool:
    """Return whether a file begins as an mcap file does."""
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def salvage_mcap(path: Path) -> Iterator[tuple[str, str, int, bytes]]:
    """Yield topic, type, time of recording and serialised bytes of every whole message up to where the data break off.

    Messages come in the order of the file. A chunk that cannot be decompressed to its end gives what comes out of it.
    """
    schemas: dict[int, str] = {}
    channels: dict[int, tuple[str, str]] = {}
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            return
        for opcode, content in _top_records(stream):
            try:
                if opcode == SCHEMA:
                    schemas[_uint16(content)] = _text(content, 2)[0]
                elif opcode == CHANNEL:
                    topic, _ = _text(content, 4)
                    channels[_uint16(content)] = (topic, schemas.get(_uint16(content, 2), ""))
                elif opcode == MESSAGE:
                    channel, _, log_ns, _ = MESSAGE_HEAD.unpack_from(content)
                    if channel in channels:
                        yield *channels[channel], log_ns, content[MESSAGE_HEAD.size :]
            except (struct.error, UnicodeDecodeError):
                continue


def measure_chunks(path: Path) -> tuple[int, set[int]]:
    """Return to how many bytes the chunks of a file inflate in one pass, by what it says of them, and their offsets.

    Chunks say so themselves, and so does the index by which they are read, which may name one any number of times.
    """
    in_chunks = in_index = 0
    offsets: set[int] = set()
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            return 0, offsets
        while len(head := stream.read(RECORD_HEAD.size)) == RECORD_HEAD.size:
            opcode, length = RECORD_HEAD.unpack(head)
            end = stream.tell() + length
            if opcode == CHUNK:
                offsets.add(stream.tell() - RECORD_HEAD.size)
                in_chunks += CHUNK_HEAD.unpack(stream.read(CHUNK_HEAD.size))[2]
            elif opcode == CHUNK_INDEX:
                content = stream.read(min(length, LARGEST_INDEX))
                in_index += struct.unpack_from("<Q", content, len(content) - 8)[0]
            stream.seek(end)
    return max(in_chunks, in_index), offsets


def _top_records(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The records of a file in order, those inside chunks in the place of their chunk."""
    size = os.fstat(stream.fileno()).st_size
    left = inflation_bound(size)
    while len(head := stream.read(RECORD_HEAD.size)) == RECORD_HEAD.size:
        opcode, length = RECORD_HEAD.unpack(head)
        if opcode == DATA_END:
            return
        content = stream.read(min(length, size - stream.tell()))  # a damaged length may be beyond any memory
        if opcode == CHUNK:
            chunk = _decompress(content, left)
            left -= len(chunk)
            yield from _records(chunk)
        elif len(content) == length:
            yield opcode, content
        if len(content) < length:
            return


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole records in the content of a chunk."""
    position = 0
    while position + RECORD_HEAD.size <= len(content):
        opcode, length = RECORD_HEAD.unpack_from(content, position)
        position += RECORD_HEAD.size
        # No record has opcode 0: a chunk of zeros would be millions of them.
        if position + length > len(content) or opcode == 0:
            return
        yield opcode, content[position : position + length]
        position += length


def _decompress(chunk: bytes, bound: int) -> bytes:
    """The records of a chunk, as far as they come out of what there is of it, up to a bound."""
    try:
        compression, after = _text(chunk, CHUNK_HEAD.size)
        data = chunk[after + 8 :]
        return inflate_part(compression, data, max(bound, 0))
    except Exception:  # whatever struct and the decompressors raise over damaged data
        return b""


def _uint16(content: bytes, offset: int = 0) -> int:
    return struct.unpack_from("<H", content, offset)[0]


def _text(content: bytes, offset: int) -> tuple[str, int]:
    """The string at an offset, and the offset after it."""
    (length,) = struct.unpack_from("<I", content, offset)
    start = offset + 4
    if start + length > len(content):
        raise struct.error("the string reaches beyond its record")
    return content[start : start + length].decode(), start + length
