# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a start compiles in the background is what a keyframe needs, and nothing is compiled twice."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("numba")

LOOPS = """
import sys
from dvmvs_core.runtime.compiled import CompiledLoop

def signatures():
    found = {}
    for name, module in list(sys.modules.items()):
        if name.startswith("dvmvs_core"):
            loops = [value for value in vars(module).values() if isinstance(value, CompiledLoop)]
            found.update({loop.function.__name__: len(loop.signatures) for loop in loops})
    return found
"""

KEYFRAMES = (
    LOOPS
    + """
from dvmvs_core.timing.wall_frames import wall_frames
from dvmvs_core.config import EngineConfig
from dvmvs_core.engine import DepthEngine
from dvmvs_core.matching.warm_up import start_compiling
from dvmvs_core.matching.choose_matcher import MATCHING_PRESETS

engine = DepthEngine.from_weights("small", config=EngineConfig(confidence=False, device="cpu"))
start_compiling(MATCHING_PRESETS[engine.matching]).join()
compiled = signatures()
for _, frame in zip(range(4), wall_frames((256, 320))):
    engine.step(frame)
assert sum(n for n in compiled.values()) >= 12, compiled
assert signatures() == compiled and set(compiled.values()) <= {0, 1}, (compiled, signatures())
"""
)


def test_keyframes_find_every_loop_compiled_once(tmp_path):
    done = subprocess.run([sys.executable, "-c", KEYFRAMES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
