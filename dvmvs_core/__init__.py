# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Dense metric depth from one posed camera: model, engine, data, training and evaluation, without ROS.

The names below are the public interface. Each is imported when it is first used: `import dvmvs_core` loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvmvs_core.config import EngineConfig, KeyframeConfig
    from dvmvs_core.data.open_sequence import open_sequence
    from dvmvs_core.data.sequence import FrameSequence, SequenceItem
    from dvmvs_core.engine import DepthEngine
    from dvmvs_core.errors import DvmvsError
    from dvmvs_core.types import DepthPrediction, Frame

__version__ = "0.1.0"

_MODULES = {
    "DepthEngine": "engine",
    "DepthPrediction": "types",
    "DvmvsError": "errors",
    "EngineConfig": "config",
    "Frame": "types",
    "KeyframeConfig": "config",
    "FrameSequence": "data.sequence",
    "SequenceItem": "data.sequence",
    "open_sequence": "data.open_sequence",
}

__all__ = [
    "DepthEngine",
    "DepthPrediction",
    "DvmvsError",
    "EngineConfig",
    "Frame",
    "KeyframeConfig",
    "FrameSequence",
    "SequenceItem",
    "open_sequence",
]


def __getattr__(name: str) -> object:
    """Import a public name at its first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names whether they have been imported or not."""
    return sorted({*globals(), *_MODULES})
