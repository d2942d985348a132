# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What tells most of each scene as cells of a table, for the terminal and for Markdown; `figures` explains the keys."""

from __future__ import annotations

from dvmvs_core.evaluation.scoring.bins import PARALLAX_EDGES_PX
from dvmvs_core.evaluation.scoring.figures import CONSTANT_MEDIAN

UNKNOWN = "-"


def worst_first(parts: list[dict]) -> list[dict]:
    """Return parts of the figures by their ratio to the constant median, largest first; those without one come last."""
    return sorted(parts, key=lambda part: (part["ratio_to_constant"] is None, -(part["ratio_to_constant"] or 0.0)))


def scene_cells(part: dict) -> dict[str, str]:
    """Return the cells of a part of the figures by the headings of their columns.

    "constant" is the abs rel of each keyframe's own median, "edge F1" the boundary F1, "step size" predicted over true
    step, "shown" the share of windows with a step that show one, "sure" the share of pixels with confidence from 0.7,
    and "wrong" the share of those that is off by more than 10 %.
    """
    metrics, steps, sure = part["metrics"], part["steps"], part["sure_and_wrong"] or {}
    return {
        "keyfr.": str(part["keyframes"]),
        "abs rel": cell(metrics["abs_relative_error"]),
        "constant": cell(part["baselines"][CONSTANT_MEDIAN]["metrics"]["abs_relative_error"]),
        "ratio": cell(part["ratio_to_constant"], 2),
        "<1.25": cell(metrics["ratio_125"]),
        "<1.05": cell(metrics["ratio_105"]),
        "edge F1": cell(part["boundary_f1"]),
        "step size": cell(steps["size_ratio"]),
        "shown": cell(steps["shown"]),
        "sure": cell(sure.get("coverage")),
        "wrong": cell(sure.get("wrong")),
        "flicker": cell(part["temporal_disagreement"]),
    }


def parallax_rows(parts: list[dict]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the cells of errors by parallax: abs rel / share within 1.25 / share of the pixels.

    The first cell of each row is the name of the part.
    """
    lows = PARALLAX_EDGES_PX[:-1]
    header = (*(f"{a:g}-{b:g} px" for a, b in zip(lows, lows[1:], strict=False)), f"> {lows[-1]:g} px")
    rows = []
    for part in parts:
        found = {one["low"]: one for one in part["by_parallax"]}
        rows.append((part["name"], *(_bin(found.get(low)) for low in lows)))
    return header, rows


def cell(value: float | None, digits: int = 3) -> str:
    """Return a figure, or a dash where there is none."""
    # Adding 0 takes the sign off a negative zero.
    return UNKNOWN if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def _bin(one: dict | None) -> str:
    if one is None:
        return UNKNOWN
    return f"{cell(one['abs_relative_error'])}/{cell(one['ratio_125'])}/{one['share']:.0%}"
