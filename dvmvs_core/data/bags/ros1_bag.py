# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""ROS 1 bags, read as if they were rosbag2: messages of standard types become those of ROS 2."""

from __future__ import annotations

import bz2
import functools
from collections.abc import Collection, Iterator
from pathlib import Path

import lz4.frame
from rosbags.convert.converter import migrate_bytes
from rosbags.rosbag1 import Reader, reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from dvmvs_core.data.encodings.inflate import inflation_bound
from dvmvs_core.errors import DamagedError

SUFFIX = ".bag"

TRANSFORMS = "tf2_msgs/msg/TFMessage"
"""Not among the standard types of ROS 1 that rosbags knows; before tf2 it had another name."""

OLD_NAMES = {"tf/msg/tfMessage": TRANSFORMS}


class Ros1Bag:
    """A .bag file.

    Args:
        path: the file.

    Attributes:
        counts: topic → (message type as ROS 2 has it, number of messages).
        senders: topic → names of the nodes that published it.

    Raises:
        Exception: whatever rosbags raises over a file that is none, is cut off or was never closed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _bound()
        with Reader(path) as bag:
            self.counts = {
                name: (OLD_NAMES.get(info.msgtype or "", info.msgtype or ""), info.msgcount)
                for name, info in bag.topics.items()
            }
            self.senders = {
                name: {c.ext.callerid for c in info.connections if c.ext.callerid} for name, info in bag.topics.items()
            }

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
        """Yield topic, time of recording and CDR bytes of each message of some topics.

        A message that cannot be turned into one of ROS 2 comes empty, so that it counts as damaged.
        """
        cache: dict[str, object] = {}
        source, target = _stores()
        with Reader(self.path) as bag:
            connections = [c for c in bag.connections if c.topic in topics]
            if not connections:  # none would mean all
                return
            for connection, log_ns, data in bag.messages(connections):
                kind = OLD_NAMES.get(connection.msgtype, connection.msgtype)
                try:
                    cdr = bytes(migrate_bytes(source, target, kind, kind, cache, data, src_is2=False, dst_is2=True))
                except Exception:  # rosbags has no one type for what it finds in foreign bytes
                    cdr = b""
                yield connection.topic, log_ns, cdr


@functools.cache
def _stores():
    """The standard message types of ROS 1, and of ROS 2."""
    source = get_typestore(Stores.ROS1_NOETIC)
    source.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", TRANSFORMS))
    return source, get_typestore(Stores.LATEST)


def _bound() -> None:
    """Have rosbags inflate chunks with a bound."""
    reader.decompressors.update(bz2=_bounded(bz2.BZ2Decompressor), lz4=_bounded(lz4.frame.LZ4FrameDecompressor))


def _bounded(decompressor):
    def inflate(data: bytes) -> bytes:
        bound = inflation_bound(len(data))
        inflated = decompressor().decompress(data, bound + 1)
        if len(inflated) > bound:
            raise DamagedError(f"{len(data)} compressed bytes would become more than {bound}; they are damaged")
        return inflated

    return inflate
