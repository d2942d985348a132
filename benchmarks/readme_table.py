#!/usr/bin/env python3
# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Write the table of recorded benchmarks into README.md, between its two markers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
RESULTS = HERE / "results"
START, END = "<!-- benchmark:start -->", "<!-- benchmark:end -->"

HEADER = (
    "| network | machine | precision | keyframe, ms (95 %) | network alone, ms | reference path, ms | times as fast"
    " | peak memory |\n|---|---|---|---|---|---|---|---|\n"
)


def row(figures: dict) -> str:
    """Return one recorded run as a row of the table."""
    hardware, frame = figures["hardware"], figures["frame_ms"]
    machine = hardware.get("gpu") or f"{figures['threads']} cores, {hardware['processor']}"
    width, height = figures["resolution"]
    shape = f"{width}×{height}, {figures['measurement_frames']} measurement frames"
    alone = figures.get("network_frame_ms", frame)
    matching = ", matched" if alone is not frame else ""
    network = f"`{figures['preset']}` {figures['network']}{matching}, {shape}"
    reference = figures.get("reference_frame_ms")
    cells = (
        network,
        machine,
        figures["precision"],
        f"{frame['median']:.1f} ({frame['p95']:.1f})",
        f"{alone['median']:.1f}",
        f"{reference['median']:.1f}" if reference else "",
        f"{figures['speedup']:.1f}" if reference else "",
        f"{figures['peak_device_memory_mb'] or figures['peak_memory_mb']:.0f} MiB",
    )
    return f"| {' | '.join(cells)} |\n"


def table(results: list[dict]) -> str:
    """Return the whole table in Markdown."""
    return HEADER + "".join(map(row, results))


def with_table(text: str, results: list[dict]) -> str:
    """Return the text with the table between its markers.

    Raises:
        ValueError: if a marker is missing.
    """
    if START not in text or END not in text:
        raise ValueError(f"README.md must hold the lines {START} and {END}, between which the table goes")
    before, rest = text.split(START, 1)
    after = rest.split(END, 1)[1]
    return f"{before}{START}\n{table(results)}{END}{after}"


def main() -> int:
    """Rewrite README.md; with --check only say whether it is up to date."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    text = README.read_text()
    written = with_table(text, results)
    if "--check" in sys.argv[1:]:
        return int(text != written)
    README.write_text(written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
