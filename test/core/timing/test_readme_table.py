# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The README's table is made of the recorded results."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "readme_table.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("readme_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def result(**changes):
    return {
        "preset": "small",
        "network": "fusionnet",
        "resolution": [320, 256],
        "measurement_frames": 2,
        "precision": "float32",
        "threads": 2,
        "hardware": {"processor": "Any CPU"},
        "frame_ms": {"median": 71.26, "p95": 80.0},
        "reference_frame_ms": {"median": 300.0},
        "speedup": 4.21,
        "peak_memory_mb": 512.4,
        "peak_device_memory_mb": None,
        **changes,
    }


def test_table_replaces_what_was_between_the_markers(script):
    text = f"before\n{script.START}\nold\n{script.END}\nafter\n"
    once = script.with_table(text, [result()])
    assert once.startswith("before\n") and once.endswith("\nafter\n") and "old" not in once
    assert (
        "| `small` fusionnet, 320×256, 2 measurement frames | 2 cores, Any CPU | float32 | 71.3 (80.0) | 71.3 | 300.0 |"
        " 4.2 | 512 MiB |" in once
    )
    assert script.with_table(once, [result()]) == once


def test_a_run_on_a_gpu_shows_its_memory_and_needs_no_reference(script):
    figures = result(hardware={"processor": "Any CPU", "gpu": "Some GPU"}, peak_device_memory_mb=321.0)
    del figures["reference_frame_ms"], figures["speedup"]
    assert "| Some GPU | float32 | 71.3 (80.0) | 71.3 |  |  | 321 MiB |" in script.row(figures)


def test_a_matched_keyframe_stands_next_to_the_network_alone(script):
    row = script.row(result(network_frame_ms={"median": 50.0}))
    assert row.startswith("| `small` fusionnet, matched, 320×256") and "| 71.3 (80.0) | 50.0 | 300.0 |" in row


def test_a_readme_without_markers_is_refused(script):
    with pytest.raises(ValueError, match="benchmark:start"):
        script.with_table("nothing", [])
