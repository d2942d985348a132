# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""rosbags, made to read bags that others made: what it inflates is bounded, and what makes work out of nothing refused.

It reads a file under whatever name the metadata gives it, and those of a compressed bag once they are inflated. So what
is checked of a file is checked where it opens one.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, BinaryIO

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2 import reader, storage_mcap, storage_sqlite3
from ruamel.yaml import YAML
from ruamel.yaml.events import AliasEvent

from dvmvs_core.data.bags.mcap_salvage import measure_chunks
from dvmvs_core.data.bags.sqlite_salvage import is_cut, stores_rows
from dvmvs_core.data.encodings.inflate import inflate_message, inflate_whole, inflation_bound, zstd
from dvmvs_core.errors import DamagedError
from dvmvs_core.foreign import regular

LARGEST_METADATA = 256 * 1024
"""Bytes of a metadata.yaml that is read: those of some 500 topics, for which rosbags takes up to 4 s. Of a bag that has
more, the files are read one by one."""


def bound_rosbags() -> None:
    """Have rosbags read with bounds from now on."""
    storage_mcap.DECOMPRESSORS.update(lz4=_chunk("lz4"), zstd=_chunk("zstd"))
    reader.zstd = SimpleNamespace(open=_BoundedFile, decompress=inflate_message)
    reader.YAML = _BoundedYaml
    # Messages are read by the types known here. A schema of another kind (JSON, protobuf) would have the file refused.
    storage_mcap.get_msgdef = lambda schema: MessageDefinition(MessageDefinitionFormat.NONE, "")
    # The qualities of service of each topic are YAML of their own, which takes a millisecond, and are not used here.
    reader.parse_qos = storage_sqlite3.parse_qos = storage_mcap.parse_qos = lambda profiles: []
    reader.DirectoryReader.STORAGE_PLUGINS.update(mcap=_BoundedMcap, sqlite3=_StoredRows)
    reader.Reader.STORAGE_PLUGINS.update({"dir": _BagFolder, ".mcap": _BoundedMcap, ".db3": _StoredRows})


class _BagFolder(reader.DirectoryReader):
    def open(self) -> None:
        size = regular(self.path / "metadata.yaml").stat().st_size
        if size > LARGEST_METADATA:
            raise DamagedError(f"its metadata.yaml has {size} bytes; at most {LARGEST_METADATA} are read")
        super().open()
        if len({storage.path for storage in self.storages}) < len(self.storages):
            self.close()
            raise DamagedError("its metadata.yaml names a file several times")


class _BoundedMcap(storage_mcap.McapReader):
    def open(self) -> None:
        size, offsets = measure_chunks(self.path)
        if size > inflation_bound(self.path.stat().st_size):
            raise DamagedError(f"{self.path.name} would become far larger than it is")
        super().open()
        indexed = {chunk.chunk_start_offset for chunk in self.chunks}
        if indexed and indexed != offsets:
            self.close()
            raise DamagedError(f"the index of {self.path.name} names other chunks than it has")


class _StoredRows(storage_sqlite3.Sqlite3Reader):
    def open(self) -> None:
        if is_cut(self.path):
            raise DamagedError(f"{self.path.name} ends early")
        if not stores_rows(self.path):
            raise DamagedError(f"{self.path.name} makes up its rows instead of storing them")
        super().open()


class _BoundedYaml(YAML):
    def load(self, stream: str) -> Any:
        # rosbag2 writes none, and a few of them make lists without end.
        if "*" in stream and any(isinstance(event, AliasEvent) for event in self.parse(stream)):
            raise DamagedError("its metadata.yaml has aliases")
        return super().load(stream)


def _chunk(compression: str):
    return lambda data, size: inflate_whole(compression, data, size)


class _BoundedFile:
    """A file of one or more zstd frames, read within the bound of its size."""

    def __init__(self, file: BinaryIO, mode: str) -> None:
        self._file = zstd.open(file, mode)
        self._bound = inflation_bound(file.seek(0, 2))
        file.seek(0)

    def __enter__(self) -> _BoundedFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._bound -= len(data)
        if self._bound < 0:
            raise DamagedError("a compressed bag would become far larger than it is; it is damaged")
        return data
