# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The figures of an evaluation as tables on the terminal."""

from __future__ import annotations

from dvmvs_core.evaluation.scoring.scene_table import parallax_rows, scene_cells, worst_first

PUBLISHED = {
    "abs_error": "abs m",
    "abs_relative_error": "abs rel",
    "abs_inverse_error": "abs inv 1/m",
    "squared_relative_error": "sq rel m",
    "rmse": "rmse m",
    "ratio_125": "<1.25",
    "ratio_125_2": "<1.25²",
    "ratio_125_3": "<1.25³",
}

LEFT_OUT = ("step size",)
"""Columns that a terminal of 120 columns has no room for."""


def print_figures(figures: dict) -> None:
    """Print what tells most of each sequence, the worst first, and then the details.

    These are errors by parallax, the published metrics with those of baselines below, and errors by distance.
    """
    from dvmvs_core.cli.tables import print_table

    parts = worst_first(figures["sequences"])
    if len(parts) > 1:
        parts.append({"name": "all", **figures["all"]})
    rows = [{name: text for name, text in scene_cells(part).items() if name not in LEFT_OUT} for part in parts]
    latency = figures["latency_ms"]
    what = (figures["network"], figures["preset"], *(("refined",) if figures["refined"] else ()))
    print_table(
        f"{figures['weights']} ({', '.join(what)}) on {figures['device']}:"
        f" {latency['median']:.0f} ms a keyframe (median), {latency['p95']:.0f} ms (p95)",
        ("sequence", *rows[0]),
        [(part["name"], *row.values()) for part, row in zip(parts, rows, strict=True)],
    )
    header, parallax = parallax_rows(parts)
    print_table("abs rel/<1.25/share of the pixels, by parallax", ("sequence", *header), parallax)
    print_table("published metrics", ("sequence", *PUBLISHED.values()), _published_rows(parts))
    bins = figures["all"]["by_distance"]
    print_table(
        "by distance",
        ("", *(_range(part) for part in bins)),
        [
            ("abs rel", *(_figure(part["abs_relative_error"]) for part in bins)),
            ("<1.25", *(_figure(part["ratio_125"]) for part in bins)),
        ],
    )


def _published_rows(parts: list[dict]) -> list[tuple[str, ...]]:
    rows = []
    for part in parts:
        rows.append((part["name"], *(_figure(part["metrics"][name]) for name in PUBLISHED)))
        for name, baseline in part["baselines"].items():
            cells = (_figure(baseline["metrics"][metric]) for metric in PUBLISHED)
            rows.append((f"  {name.replace('_', ' ')}", *cells))
    return rows


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _range(part: dict) -> str:
    return f"> {part['low']:g} m" if part["high"] is None else f"{part['low']:g}-{part['high']:g} m"
