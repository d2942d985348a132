# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The core logs with the standard library; here its lines reach the ROS log."""

from __future__ import annotations

import logging

from rclpy.node import Node


class RosLogHandler(logging.Handler):
    """Passes records of the core on to a node's logger."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._log = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record at its own level."""
        text = self.format(record)
        # Spelt out: rclpy refuses a call site whose severity changes.
        if record.levelno >= logging.ERROR:
            self._log.error(text)
        elif record.levelno >= logging.WARNING:
            self._log.warning(text)
        elif record.levelno >= logging.INFO:
            self._log.info(text)
        else:
            self._log.debug(text)
