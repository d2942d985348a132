# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A bag that grows while messages arrive, byte for byte as they came."""

from __future__ import annotations

from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer

from dvmvs_core.data.bags.bag_writer import BAG_VERSION, OpenBag, check_new


class MessageLog(OpenBag):
    """Writes to an mcap, which is readable as far as it goes even if the process is killed.

    Args:
        out: folder of the bag, which must not exist yet.

    Attributes:
        path: that folder.

    Raises:
        DataError: if it exists.
    """

    def __init__(self, out: Path) -> None:
        check_new(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        self.path = out
        super().__init__(Writer(out, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP))
        self._writer.open()

    def close(self) -> None:
        """Finish the bag."""
        self._writer.close()


def type_name(message_type: type) -> str:
    """Return the name of a message's class, as in "sensor_msgs/msg/Image"."""
    return f"{message_type.__module__.split('.')[0]}/msg/{message_type.__name__}"
