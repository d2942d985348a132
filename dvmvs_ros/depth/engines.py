# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The engines of one process: cameras with the same weights share one network in memory."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from dvmvs_ros.depth.config import NodeConfig

if TYPE_CHECKING:
    from dvmvs_core.engine import DepthEngine


class Engines:
    """Makes engines. Networks live as long as an engine that uses them. Make engines from one thread.

    Attributes:
        one_at_a_time: to be held by whoever runs an engine. What runs the network may have buffers of its own, and two
            networks at once would only take the cores from one another.
    """

    def __init__(self) -> None:
        self.one_at_a_time = threading.Lock()
        self._latest: WeakValueDictionary[tuple, DepthEngine] = WeakValueDictionary()

    def open(self, config: NodeConfig) -> tuple[DepthEngine, bool]:
        """Return an engine of its own state, and whether it shares its network with another one.

        Raises:
            WeightsError: if the weights cannot be used.
            DeviceError: if the device does not exist here.
        """
        # Imported here: torch takes seconds, and a node that waits for its manager should be there at once.
        from dvmvs_core.engine import DepthEngine

        key = _identity(config)
        other = self._latest.get(key)
        if other is None:
            engine = DepthEngine.from_weights(config.weights, config.network, config.engine)
        else:
            engine = other.sibling(config.engine)
        self._latest[key] = engine
        return engine, other is not None


def _identity(config: NodeConfig) -> tuple:
    """What is equal for two configurations only if one network serves both."""
    file = Path(config.weights)
    version = (file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else None
    engine = config.engine
    # What auto means, weights tell that are not read yet.
    matching = "matched" if engine.matching in ("fast", "full") else engine.matching
    return config.weights, version, config.network, engine.device, engine.precision, matching, engine.mode
