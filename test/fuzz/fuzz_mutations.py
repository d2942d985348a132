# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Damage: of bytes as they are, and of what lies below checksums, lengths and compression, which are then repaired."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random

import lz4.frame

from dvmvs_core.data.encodings.inflate import zstd

NUMBERS = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1, 30000)
FLOATS = (float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e300, 1e-300, 1e38, 1e200)
WORDS = (
    *(b"nan", b"inf", b"-inf", b"1e400", b"1e308000000", b"1e999980", b"-1", b"0", b"1e-400", b"9" * 400, b"x" * 70000),
    *(b"\0" * 2000, b"\xff\xfe", b"\xe2\x82", b"1_0", b"0x10", b"", b"TRACKING", "²".encode(), b"[[[", b"{", b"null"),
)

Mutation = Callable[[Random, bytes], bytes]


def mutated(rng: Random, data: bytes) -> bytes:
    """Return bytes with up to four damages."""
    damaged = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        rng.choice(_DAMAGES)(rng, damaged)
    return bytes(damaged)


def mutated_words(rng: Random, data: bytes) -> bytes:
    """Return a text with up to three words that are others, or damaged as bytes are."""
    if rng.random() < 0.3:
        return mutated(rng, data)
    lines = data.splitlines(keepends=True)
    for _ in range(rng.choice((0, 1, 1, 1, 3))):
        if not lines:
            break
        at = rng.randrange(len(lines))
        words = lines[at].split()
        kind = rng.random()
        if kind < 0.6 and words:
            words[rng.randrange(len(words))] = rng.choice(WORDS)
            lines[at] = b" ".join(words) + b"\n"
        elif kind < 0.7:
            del lines[at]
        elif kind < 0.8:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif words:
            words.insert(rng.randrange(len(words) + 1), rng.choice(WORDS))
            lines[at] = b" ".join(words) + b"\n"
    return b"".join(lines)


def mutated_image(rng: Random, data: bytes) -> bytes:
    """Return an encoded image, damaged; of a PNG also below its compression, and with checksums that fit."""
    if not data.startswith(b"\x89PNG"):
        return mutated(rng, data)
    kind = rng.random()
    if kind < 0.3:
        return mutated(rng, data)
    chunks = _png_chunks(data)
    at = rng.randrange(len(chunks))
    name, content = chunks[at]
    if name == b"IDAT" and kind < 0.7:
        content = zlib.compress(mutated(rng, zlib.decompress(content)))
    elif content:
        content = mutated(rng, content)
    chunks[at] = name, content
    return data[:8] + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def mutated_mcap(rng: Random, data: bytes) -> bytes:
    """Return an mcap, damaged as it is, or in the content of a record, chunks decompressed, with lengths that fit."""
    if rng.random() < 0.3:
        return mutated(rng, data)
    records = list(_mcap_records(data))
    at = rng.randrange(len(records))
    opcode, content = records[at]
    if opcode == 0x06:
        content = _mutated_chunk(rng, content)
    else:
        content = mutated(rng, content)
    records[at] = opcode, content
    return data[:8] + b"".join(struct.pack("<BQ", op, len(body)) + body for op, body in records) + data[-8:]


def mutated_npz(rng: Random, arrays: dict[str, bytes]) -> bytes:
    """Return an archive of npy files, one of them damaged, missing, or of another's content; or the archive damaged."""
    arrays = dict(arrays)
    kind, name = rng.random(), rng.choice(sorted(arrays))
    if kind < 0.6:
        arrays[name] = mutated(rng, arrays[name])
    elif kind < 0.7:
        del arrays[name]
    elif kind < 0.8:
        arrays[name] = arrays[rng.choice(sorted(arrays))]
    data = _archive(rng, {f"{key}.npy": content for key, content in arrays.items()})
    return mutated(rng, data) if kind >= 0.8 else data


def mutated_torch_file(rng: Random, data: bytes) -> bytes:
    """Return a file of torch, damaged as it is, or in one of its entries, with a checksum that fits."""
    if not data.startswith(b"PK") or rng.random() < 0.3:
        return mutated(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(entries))
    entries[name] = mutated(rng, entries[name])
    return _archive(rng, entries)


def mutated_safetensors(rng: Random, data: bytes) -> bytes:
    """Return a safetensors file, damaged as it is, or in its header, with a length that fits."""
    if rng.random() < 0.3:
        return mutated(rng, data)
    (length,) = struct.unpack_from("<Q", data)
    header, tensors = data[8 : 8 + length], data[8 + length :]
    numbers = list(re.finditer(rb"-?\d+(\.\d+)?|true|false|\[\]|\{\}", header))
    if rng.random() < 0.7 and numbers:
        found = rng.choice(numbers)
        value = rng.choice(
            (*(str(number).encode() for number in NUMBERS), b"-1", b"1e400", b"null", b"[]", b"{}", b"1.5")
        )
        header = header[: found.start()] + value + header[found.end() :]
    else:
        header = mutated(rng, header)
    return struct.pack("<Q", len(header)) + header + tensors


def mutated_sens(rng: Random, data: bytes) -> bytes:
    """Return a ScanNet recording, damaged in its header for the most part."""
    if rng.random() < 0.5:
        return mutated(rng, data)
    head = 4 + 8 + len("StructureSensor") + 4 * 64 + 36
    damaged = bytearray(data)
    at = rng.randrange(0, head - 8)
    struct.pack_into(rng.choice(("<I", "<Q")), damaged, at, rng.choice(NUMBERS) & 0xFFFFFFFF)
    return bytes(damaged)


def _archive(rng: Random, entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _mcap_records(data: bytes):
    at = 8
    while at + 9 <= len(data) - 8:
        opcode, length = struct.unpack_from("<BQ", data, at)
        yield opcode, data[at + 9 : at + 9 + length]
        at += 9 + length


def _mutated_chunk(rng: Random, content: bytes) -> bytes:
    head = content[:16]
    (length,) = struct.unpack_from("<I", content, 28)
    compression = content[32 : 32 + length]
    data = content[40 + length :]
    inner = {b"zstd": zstd.decompress, b"lz4": lz4.frame.decompress}.get(compression, bytes)(data)
    inner = mutated(rng, inner)
    compression = rng.choice((b"", b"zstd", b"lz4", compression))
    outer = {b"zstd": zstd.compress, b"lz4": lz4.frame.compress}.get(compression, bytes)(inner)
    size = rng.choice((len(inner), len(inner), rng.choice(NUMBERS)))
    return (
        head
        + struct.pack("<QI", size & (2**64 - 1), 0)  # without a checksum
        + struct.pack("<I", len(compression))
        + compression
        + struct.pack("<Q", len(outer))
        + outer
    )


def _flip(rng: Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set_number(rng: Random, data: bytearray) -> None:
    kind = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q", "<f", "<d"))
    size = struct.calcsize(kind)
    if len(data) >= size:
        number = rng.choice(FLOATS) if kind[-1] in "fd" else rng.choice(NUMBERS) & ((1 << 8 * size) - 1)
        try:
            struct.pack_into(kind, data, rng.randrange(len(data) - size + 1), number)
        except OverflowError:  # a float that is too large for four bytes
            pass


def _cut_out(rng: Random, data: bytearray) -> None:
    start = rng.randrange(len(data) + 1)
    del data[start : start + rng.choice((1, 4, 16, 256, len(data)))]


def _repeat(rng: Random, data: bytearray) -> None:
    start = rng.randrange(len(data) + 1)
    piece = data[start : start + rng.choice((1, 8, 64))]
    data[start:start] = piece * rng.choice((1, 2, 50))


def _insert(rng: Random, data: bytearray) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = rng.randbytes(rng.choice((1, 4, 32)))


def _truncate(rng: Random, data: bytearray) -> None:
    del data[rng.randrange(len(data) + 1) :]


_DAMAGES = (_flip, _flip, _set_number, _set_number, _set_number, _cut_out, _repeat, _insert, _truncate)
