# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Write the tables of parameters and diagnostics of docs/node.md from the node's own.

python scripts/node_reference.py
"""

from __future__ import annotations

import re
from pathlib import Path

from dvmvs_core.atomic import replacing
from dvmvs_ros.depth.settings import SETTINGS, Setting

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "node.md"
BETWEEN = re.compile(r"(<!-- parameters:start -->\n).*?(<!-- parameters:end -->)", re.DOTALL)
HEADING = re.compile(r"^ +# --- (.+)$")
NAME = re.compile(r"^    (\w+):")


def groups() -> dict[str, list[Setting]]:
    """Return the parameters under the headings of config/depth.yaml."""
    by_name = {setting.name: setting for setting in SETTINGS}
    found: dict[str, list[Setting]] = {"Start": []}
    for line in (ROOT / "config" / "depth.yaml").read_text().splitlines():
        if heading := HEADING.match(line):
            found[heading[1]] = []
        elif name := NAME.match(line):
            found[list(found)[-1]].append(by_name[name[1]])
    return {heading: settings for heading, settings in found.items() if settings}


def row(setting: Setting) -> str:
    """Return the table's row of a parameter."""
    if setting.choices:
        values = ", ".join(f"`{choice}`" if choice else "empty" for choice in setting.choices)
    elif isinstance(setting.default, bool):
        values = "`true`, `false`"
    elif setting.low is not None:
        values = f"{setting.low:,.10g} to {setting.high:,.10g}"
    else:
        values = "text"
    changes = "live" if setting.live else "start" if setting.read_only or setting.at_start else "unconfigured"
    default = str(setting.default).lower() if isinstance(setting.default, bool) else str(setting.default) or '""'
    return f"| `{setting.name}` | `{default}` | {values} | {changes} | {setting.description} |"


def tables() -> str:
    """Return all tables of parameters."""
    lines: list[str] = []
    for heading, settings in groups().items():
        lines += [f"### {heading}", "", "| parameter | default | values | changes | |", "|---|---|---|---|---|"]
        lines += [*map(row, settings), ""]
    return "\n".join(lines)


def page(text: str) -> str:
    """Return the page with the tables as they should be."""
    return BETWEEN.sub(lambda match: f"{match[1]}\n{tables()}\n{match[2]}", text)


if __name__ == "__main__":
    with replacing(PAGE) as unfinished:
        unfinished.write_text(page(PAGE.read_text()))
