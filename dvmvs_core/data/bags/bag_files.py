# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The messages of a rosbag2 by topic, whole or damaged, from one file or several.

A bag that `rosbags` opens is read through its index, in the order of time. Where it does not (a recorder that was
killed leaves no index, a metadata.yaml that counts nothing or none, and its newest rows in SQLite's log) each file is
read from front to back as far as it goes, and `notes` says so. Files and messages may be compressed by zstd.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Protocol

from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from dvmvs_core.data.bags.bounded_rosbags import bound_rosbags
from dvmvs_core.data.bags.mcap_salvage import is_mcap, salvage_mcap
from dvmvs_core.data.bags.ros1_bag import SUFFIX as ROS1_SUFFIX
from dvmvs_core.data.bags.ros1_bag import Ros1Bag
from dvmvs_core.data.bags.sqlite_salvage import CutSqlite, journal_of, log_of
from dvmvs_core.data.encodings.inflate import inflate_file, inflate_message
from dvmvs_core.data.file_order import held_kinds, is_clutter, natural_key
from dvmvs_core.errors import DataError, MessageError
from dvmvs_core.foreign import foreign, reason

logger = logging.getLogger(__name__)

DEPTH_NAME = "dvmvs_depth_name"
"""Key of metadata.yaml's `custom_data` under which a bag keeps its `FrameSequence.depth_name`."""

STORAGE_SUFFIXES, COMPRESSED_SUFFIXES = (".mcap", ".db3"), (".zstd", ".zst")


class RawMessage(NamedTuple):
    """One message: its topic, time of recording and serialised bytes."""

    topic: str
    log_ns: int
    data: bytes


class Topic(NamedTuple):
    """One topic of a bag: its message type, and how many messages it has."""

    message_type: str
    count: int


def is_storage(file: Path) -> bool:
    """Return whether a name is that of a file of a bag, compressed or not."""
    name = file.with_suffix("") if file.suffix in COMPRESSED_SUFFIXES else file
    return name.suffix in STORAGE_SUFFIXES and not is_clutter(file.name)


def storage_files(folder: Path) -> list[Path]:
    """Return the files of a bag in natural order: those of a split bag are numbered without leading zeros."""
    found = [file for file in folder.iterdir() if is_storage(file) and file.is_file()]
    return sorted(found, key=lambda file: natural_key(file.name))


class BagFiles:
    """A rosbag2, opened for any number of passes.

    Args:
        path: bag folder, or a single .mcap or .db3 file, which may be compressed (.zstd).

    Attributes:
        topics: name → type and number of messages.
        notes: sentences about what could not be read.
        faults: file that could not be read to its end → what is wrong with it.
        custom_data: what metadata.yaml holds beyond the messages.

    Raises:
        DataError: if nothing at all can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self.faults: dict[str, str] = {}
        self._folder: TemporaryDirectory | None = None
        self._sources = self._open()
        self.custom_data = getattr(self._sources[0], "custom_data", {})
        self.topics: dict[str, Topic] = {}
        for source in self._sources:
            for name, topic in source.topics.items():
                known = self.topics.get(name)
                self.topics[name] = Topic(topic.message_type, topic.count + (known.count if known else 0))
        if not any(topic.count for topic in self.topics.values()):
            raise DataError(f"{path} holds no message{'; ' + '; '.join(self.notes) if self.notes else ''}")

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        """Yield the messages of some topics. Passes are independent of each other and may run side by side."""
        for source in self._sources:
            try:
                for message in source.messages(topics):
                    yield message._replace(data=inflate_message(message.data))
            except Exception as error:
                note = f"{source.path} is damaged ({reason(error)}): messages after the damage are missing"
                if note not in self.notes:
                    self.notes.append(note)
                    self.faults[source.path.name] = f"damaged ({reason(error)}); messages after it are missing"
                    logger.warning(note)

    def senders(self, topic: str) -> set[str]:
        """Return the names of the nodes that published a topic, where the bag knows them, as one of ROS 1 does."""
        return {sender for source in self._sources for sender in getattr(source, "senders", {}).get(topic, ())}

    def of_type(self, message_type: str) -> list[str]:
        """Return the names of the topics with a message type and at least one message, sorted."""
        return sorted(name for name, topic in self.topics.items() if topic.message_type == message_type and topic.count)

    def _open(self) -> list[_Source]:
        if self.path.suffix == ROS1_SUFFIX:
            with foreign(f"{self.path} cannot be read as a ROS 1 bag", advice=". Try rosbag reindex on a copy of it"):
                return [_Ros1Source(self.path)]
        if self.path.is_file():
            return [self._open_file(self.path)]
        files = storage_files(self.path)
        try:
            source = _IndexedSource(self.path, files)
        except Exception as error:
            why = reason(error)
        else:
            self.notes += source.notes
            return [source]
        if not files:
            raise DataError(
                f"{self.path} must hold *.mcap or *.db3 files; found none, but {held_kinds(self.path)} ({why})"
            )
        self.notes.append(f"{self.path} does not open as a whole ({why}), so its files were read one by one")
        # By their first messages, since a file may have been renamed.
        return sorted((self._open_file(file) for file in files), key=_start_ns)

    def _open_file(self, named: Path) -> _Source:
        file = named
        if file.suffix in COMPRESSED_SUFFIXES:
            with foreign(f"{file} cannot be decompressed"):
                file = self._inflate(file)
        try:
            if is_mcap(file) and file.suffix != ".mcap":
                raise DataError("it is an mcap file, whatever its name says")
            if not log_of(file):
                return _IndexedSource(file, [file])
            why = ""
        except Exception as error:
            why = reason(error)
        return self._salvage(named, file, why)

    def _inflate(self, file: Path) -> Path:
        """A compressed file, or what comes out of it, in a folder that goes when this object does."""
        self._folder = self._folder or TemporaryDirectory(prefix="dvmvs_bag_")
        inflated = Path(self._folder.name, file.stem)
        fault = inflate_file(file, inflated)
        if fault:
            self.notes.append(f"{file} is cut off or damaged ({fault}): what could be decompressed of it is read")
        return inflated

    def _salvage(self, named: Path, file: Path, why: str) -> _Source:
        with foreign(f"{named} cannot be read"):
            source = _CutSource(file)
        count = sum(topic.count for topic in source.topics.values())
        if why:
            self.notes.append(f"{named} does not open through its index ({why}): {count} messages could still be read")
            self.faults[named.name] = f"cut off or damaged ({why}); {count} messages could still be read"
        else:
            self.notes.append(f"{named} was read together with its log {log_of(file).name}: {count} messages")
            if source.lost > 0:
                self.faults[named.name] = f"{source.lost} messages are damaged; {count} could still be read"
        return source


def _start_ns(source: _Source) -> int:
    try:
        return next((message.log_ns for message in source.messages(source.topics)), 0)
    except Exception:  # its damage is told where it is read
        return 0


class _Source(Protocol):
    """One readable piece of a bag."""

    path: Path
    topics: dict[str, Topic]

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]: ...


class _IndexedSource:
    """A bag folder or file that is whole.

    Attributes:
        notes: sentences about what of it is not read.
        custom_data: that of metadata.yaml, where it is a mapping.
    """

    def __init__(self, path: Path, files: list[Path]) -> None:
        self.path = path
        self.notes: list[str] = []
        bound_rosbags()
        for file in files:
            self._check(file)
        with Reader(path) as reader:
            custom = reader.storage.metadata.custom
            self.custom_data = custom if isinstance(custom, dict) else {}
            self.topics = {name: Topic(info.msgtype or "", info.msgcount) for name, info in reader.topics.items()}
            if path.is_dir():
                self._compare(reader, files)
            elif reader.storage.metadata.message_count and not any(topic.count for topic in self.topics.values()):
                raise DataError("its index counts no message of any topic")

    def _check(self, file: Path) -> None:
        """Refuse what rosbags would read in part without a word."""
        if file.suffix == ".db3":
            if log := log_of(file):
                raise DataError(f"the newest messages of {file.name} are in {log.name}")
            if journal := journal_of(file):
                self.notes.append(f"{file}: its newest messages may be missing, since {journal.name} was not finished")

    def _compare(self, reader: Reader, files: list[Path]) -> None:
        """Compare metadata.yaml, which a recorder writes first with zeros and last with counts, with the files."""
        held: Counter[str] = Counter()
        for storage in reader.storage.storages:
            held.update({c.topic: c.msgcount for c in storage.connections})
        said = Counter({name: topic.count for name, topic in self.topics.items()})
        counts = f"metadata.yaml counts {said.total()} messages, its files hold {held.total()}"
        if held - said:
            raise DataError(counts)
        if said - held:
            self.notes.append(f"{self.path}: {counts}; the others are missing")
        listed = {storage.path.name for storage in reader.storage.storages}
        for file in files:
            if not {file.name, file.stem} & listed:
                self.notes.append(
                    f"{file} was left out, since metadata.yaml does not list it; open it by itself, or write a new"
                    " metadata.yaml: ros2 bag reindex"
                )

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        with Reader(self.path) as reader:
            connections = [c for c in reader.connections if c.topic in topics]
            if connections:  # none would mean all
                for connection, log_ns, data in reader.messages(connections):
                    yield RawMessage(connection.topic, log_ns, data)


class _Ros1Source(Ros1Bag):
    """A ROS 1 bag."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.topics = {name: Topic(*counted) for name, counted in self.counts.items()}

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        return itertools.starmap(RawMessage, super().messages(topics))


class _CutSource:
    """What is left of an mcap or sqlite3 file.

    Attributes:
        lost: how many rows of a sqlite3 file are not whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        cut = None if is_mcap(path) else CutSqlite(path)
        self._read = cut.messages if cut else functools.partial(salvage_mcap, path)
        counts = Counter(message[:2] for message in self._read())
        self.topics = {topic: Topic(message_type, count) for (topic, message_type), count in counts.items()}
        self.lost = cut.stored - counts.total() if cut else 0

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage]:
        for topic, _, log_ns, data in self._read():
            if topic in topics:
                yield RawMessage(topic, log_ns, data)


def deserialise(data: bytes, message_type: str) -> object:
    """Return a message of a standard type from its CDR bytes.

    Raises:
        MessageError: if the bytes are not of that type.
    """
    with foreign(f"a {message_type} of {len(data)} bytes is damaged", MessageError):
        return typestore().deserialize_cdr(data, message_type)


@functools.cache
def typestore():
    """Return the standard message types; those used here are the same on every ROS 2 distribution."""
    return get_typestore(Stores.LATEST)
