# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What is heard, as bags that grow message by message: one for each time that the images started again."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rclpy.executors import SingleThreadedExecutor
from rosbags.rosbag2 import StoragePlugin, Writer

from dvmvs_core.data.bags.bag_writer import BAG_VERSION, TF_STATIC, OpenBag, check_new
from dvmvs_core.data.lens.valid_mask import is_mask_topic
from dvmvs_core.foreign import reason
from dvmvs_ros.process.guard import guarded_spin
from dvmvs_ros.process.main_program import POLL_S

MAX_STATICS = 1000
"""Different messages of static transforms that are kept for the bags to come; of masks it is the newest."""

SETTLED_S = 0.5
"""A recording ends when nothing has come for this long after the signal to stop."""
SETTLED_ROUNDS = 5
"""And for so many callbacks or waits: a process that was suspended meanwhile still has to read what came."""
LONGEST_END_S = 5.0
"""A camera never ends: this long after the signal to stop, a recording ends in any case."""


class RecordedBags:
    """Bags next to one another, PATH, PATH_2, PATH_3, …, with every message byte for byte as it came.

    They are mcaps, which are readable as far as they go even if the process is killed.

    Args:
        path: of the first; None to record nothing.
        kept: whether they stay once all is done.
        on_full: told when the disk takes no more, once; what was recorded by then remains.

    Attributes:
        bags: paths of all so far.

    Raises:
        DataError: if the first exists.
    """

    def __init__(self, path: Path | None, kept: bool, on_full: Callable[[str], None]) -> None:
        self.bags: list[Path] = []
        self._path = path
        self._kept = kept
        self._on_full = on_full
        self._writer: Writer | None = None
        self._types: dict[str, str] = {}
        self._statics: list[bytes] = []
        self._masks: dict[str, bytes] = {}
        if path is not None:
            self._open_next()

    def open(self, topic: str, message_type: str) -> None:
        """Announce a topic by its full name."""
        self._types[topic] = message_type
        if self._writer:
            self._bag.open(topic, message_type)

    def write(self, topic: str, data: bytes) -> None:
        """Write a message that came just now."""
        if topic == TF_STATIC and data not in self._statics and len(self._statics) < MAX_STATICS:
            self._statics.append(data)  # it comes only once, and every bag needs it
        if is_mask_topic(topic):
            self._masks[topic] = data
        if self._writer:
            try:
                self._bag.write(topic, time.time_ns(), data)
            except OSError as error:
                self._writer = None
                self._on_full(f"{self.bags[-1]} ends here: {reason(error)}")

    def start_again(self) -> None:
        """Go on in another bag."""
        if self._writer:
            self.close()
            self._open_next()

    def close(self) -> None:
        """Finish the newest bag."""
        if self._writer:
            self._writer.close()
            self._writer = None

    def remove(self) -> None:
        """Remove the bags, unless they are kept."""
        self.close()
        if not self._kept:
            for bag in self.bags:
                shutil.rmtree(bag, ignore_errors=True)

    def _open_next(self) -> None:
        number = len(self.bags) + 1
        path = self._path if number == 1 else self._path.with_name(f"{self._path.name}_{number}")
        if not self._kept:
            shutil.rmtree(path, ignore_errors=True)
        check_new(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = Writer(path, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._bag = OpenBag(self._writer)
        self.bags.append(path)
        for topic, message_type in self._types.items():
            self._bag.open(topic, message_type)
        for data in self._statics:
            self._bag.write(TF_STATIC, time.time_ns(), data)
        for topic, data in self._masks.items():
            self._bag.write(topic, time.time_ns(), data)


def spin_until_settled(
    executor: SingleThreadedExecutor, stop: threading.Event, last_arrival_s: Callable[[], float]
) -> None:
    """Run callbacks until told to stop, and then until what was sent before has arrived.

    Args:
        executor: runs them.
        stop: set to end it.
        last_arrival_s: when the last message came, by `time.monotonic`.
    """
    stopped_s, quiet_rounds, newest_s = None, 0, last_arrival_s()
    while True:
        guarded_spin(executor, POLL_S)
        now_s = time.monotonic()
        quiet_rounds = quiet_rounds + 1 if last_arrival_s() == newest_s else 0
        newest_s = last_arrival_s()
        if stop.is_set():
            stopped_s = stopped_s or now_s
            settled = quiet_rounds >= SETTLED_ROUNDS and now_s - newest_s >= SETTLED_S
            if settled or now_s - stopped_s >= LONGEST_END_S:
                return
