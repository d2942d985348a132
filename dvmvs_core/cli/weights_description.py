# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What `dvmvs weights list` and `info` say of a checkpoint: to people in words, to programs as JSON."""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvmvs_core.model.checkpoint import CheckpointInfo

UNKNOWN = "not stated"
WIDEST = 100


def as_dict(info: CheckpointInfo) -> dict[str, Any]:
    """Return all that is known of a checkpoint, as JSON holds it."""
    card = _card(info)
    return {
        "name": info.path.stem,
        "path": str(info.path),
        "size_bytes": info.size_bytes,
        "licence": _licence(card),
        "card": str(card) if card else None,
        "networks": {
            network: {"parameters": info.parameters[network], **asdict(config)}
            for network, config in info.networks.items()
        },
        "metadata": info.metadata,
    }


def list_row(info: CheckpointInfo) -> tuple[str, ...]:
    """Return name, networks, size of images, megabytes, licence and error on held-out clips."""
    config = next(iter(info.networks.values()))
    return (
        info.path.stem,
        ", ".join(info.networks),
        f"{config.width}×{config.height}",
        f"{info.size_bytes / 1e6:.1f}",
        _licence(_card(info)) or UNKNOWN,
        _validation(info).get("l1-rel", "-"),
    )


LIST_HEADER = ("name", "networks", "images", "MB", "licence", "abs rel, held out")


def description(info: CheckpointInfo) -> str:
    """Return what a person wants to know: licence, networks, figures, and what the weights were made from."""
    card, said = _card(info), info.metadata
    rows = {"licence": _licence(card) or UNKNOWN}
    for network, config in info.networks.items():
        size = (
            f"{info.parameters[network]:,} parameters, preset {config.preset}, images of {config.width}×{config.height}"
        )
        depth = f"{config.depth_hypotheses} planes from {config.min_depth_m:g} to {config.max_depth_m:g} m"
        rows[network] = f"{size}, {depth}"
    if figures := _validation(info):
        names = {"l1-rel": "absolute relative error {}", "l1": "absolute error {} m", "l1-inv": "inverse {} 1/m"}
        told = ", ".join(text.format(figures[name]) for name, text in names.items() if name in figures)
        rows["validation"] = f"{told}, on clips held out from training"
    rows |= _lineage(said)
    if card:
        rows["card"] = f"{card} (commands, figures on real recordings, limits)"
    width = min(shutil.get_terminal_size().columns, WIDEST)
    widest = max(map(len, rows)) + 4
    lines = [f"{info.path.stem}: {info.path}, {info.size_bytes / 1e6:.1f} MB"]
    for name, text in rows.items():
        lines += textwrap.wrap(
            text,
            width,
            initial_indent=f"  {name:<{widest - 2}}",
            subsequent_indent=" " * widest,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _lineage(said: dict[str, Any]) -> dict[str, str]:
    """What the trainer wrote into the file of how it was made; other writers' words as they are."""
    rows = {}
    if data := said.get("data"):
        rows["trained on"] = ", ".join(map(str, data)) if isinstance(data, list) else str(data)
    if "init" in said:
        rows["started from"] = str(said["init"] or "random weights")
    if "step" in said:
        length = f"{said['step']:,} steps" if isinstance(said["step"], int) else f"{said['step']} steps"
        batch = f" of {said['batch_size']}×{said.get('frames', '?')} frames" if "batch_size" in said else ""
        last = "" if said.get("finished", True) else "; the run was not finished"
        rows["last run"] = f"{length}{batch}, loss {said.get('loss', UNKNOWN)}, seed {said.get('seed', UNKNOWN)}{last}"
    if "step" not in said:
        rows |= {name: str(value) for name, value in said.items() if name not in ("data", "init")}
    return rows


def _validation(info: CheckpointInfo) -> dict[str, str]:
    figures = info.metadata.get("validation")
    if not isinstance(figures, dict):
        return {}
    return {name: f"{value:.3f}" for name, value in figures.items() if isinstance(value, float)}


def _card(info: CheckpointInfo) -> Path | None:
    card = info.path.with_suffix(".md")
    return card if card.is_file() else None


def _licence(card: Path | None) -> str | None:
    """The first sentence below a card's heading "Licence"."""
    if card is None:
        return None
    _, found, text = card.read_text(errors="replace").partition("\n## Licence\n")
    lines = text.strip().splitlines()
    return lines[0].removeprefix("Of the weights: ").rstrip(".") if found and lines else None
