# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the evaluation hears, as bags: one for each time that the images started anew."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from dvmvs_core.data.bags.bag_writer import TF_STATIC
from dvmvs_core.data.lens.valid_mask import is_mask_topic
from dvmvs_ros.messages.message_log import MessageLog

MAX_STATICS = 1000
"""Different messages of static transforms that are kept for the bags to come; of masks it is the newest."""


class Recording:
    """Bags side by side: PATH, PATH_2, PATH_3, ….

    Args:
        path: of the first; None to record nothing.
        kept: whether they stay once all is done.
        warn: told when the disk takes no more; what was recorded by then remains.

    Attributes:
        bags: paths of all so far.

    Raises:
        DataError: if the first exists.
    """

    def __init__(self, path: Path | None, kept: bool, warn: Callable[[str], None]) -> None:
        self.bags: list[Path] = []
        self._path = path
        self._kept = kept
        self._warn = warn
        self._log: MessageLog | None = None
        self._types: dict[str, str] = {}
        self._statics: list[bytes] = []
        self._masks: dict[str, bytes] = {}
        if path is not None:
            if not kept:
                shutil.rmtree(path, ignore_errors=True)
            self._open_next()

    def open(self, topic: str, message_type: str) -> None:
        """Announce a topic by its full name."""
        self._types[topic] = message_type
        if self._log:
            self._log.open(topic, message_type)

    def write(self, topic: str, data: bytes) -> None:
        """Write a message that came just now."""
        if topic == TF_STATIC and data not in self._statics and len(self._statics) < MAX_STATICS:
            self._statics.append(data)  # it comes only once, and every bag needs it
        if is_mask_topic(topic):
            self._masks[topic] = data
        if self._log:
            try:
                self._log.write(topic, time.time_ns(), data)
            except OSError as error:
                self._log = None
                self._warn(f"{self.bags[-1]} ends here: {error}")

    def start_anew(self) -> None:
        """Go on in another bag."""
        if self._log:
            self.close()
            self._open_next()

    def close(self) -> None:
        """Finish the newest bag."""
        if self._log:
            self._log.close()
            self._log = None

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
        self._log = MessageLog(path)
        self.bags.append(path)
        for topic, message_type in self._types.items():
            self._log.open(topic, message_type)
        for data in self._statics:
            self._log.write(TF_STATIC, time.time_ns(), data)
        for topic, data in self._masks.items():
            self._log.write(topic, time.time_ns(), data)
