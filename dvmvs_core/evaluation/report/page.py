# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Puts the page together, and writes it next to its figures."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from dvmvs_core.atomic import replacing
from dvmvs_core.evaluation.report import overview, sections
from dvmvs_core.evaluation.report.keyframe_pictures import KeyframePicture
from dvmvs_core.evaluation.scoring.figures import FIGURES, write_figures

PAGE = "index.html"


def write_report(
    folder: Path, figures: dict, pictures: list[list[KeyframePicture]], against: dict | None = None
) -> Path:
    """Write the page and the figures.

    Args:
        folder: where to; made if missing.
        figures: of the run.
        pictures: the best and worst keyframes of each of its sequences.
        against: figures of an earlier run.

    Returns:
        The page.
    """
    page = make_page(figures, pictures, against)
    with replacing(folder / PAGE) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    write_figures(folder / FIGURES, figures)
    return folder / PAGE


def make_page(figures: dict, pictures: list[list[KeyframePicture]], against: dict | None = None) -> str:
    """Return the page as HTML that needs no other file and no network."""
    names = [part["name"] for part in figures["sequences"]]
    subject = names[0] if len(names) == 1 else f"{len(names)} sequences"
    parts = (
        overview.cards(figures, against),
        overview.metrics_table(figures, against),
        sections.over_time(figures, against),
        sections.by_geometry(figures, against),
        sections.keyframes(figures, pictures, against),
        sections.confidence(figures, against),
        sections.latency(figures, against),
        sections.remarks(figures),
        sections.provenance(figures, against),
    )
    return _part("page.html").substitute(
        title=escape(f"Depth of {subject}: {figures['weights']}"),
        style=_part("style.css").template,
        made=escape(figures["made"]),
        heading=f"Depth of {escape(subject)}",
        verdict=overview.verdict(figures),
        legend=overview.legend(figures, against),
        sections="\n".join(parts),
        version=escape(figures["versions"]["dvmvs"]),
        figures=FIGURES,
    )


def _part(name: str) -> Template:
    return Template((files(__package__) / name).read_text(encoding="utf-8"))
