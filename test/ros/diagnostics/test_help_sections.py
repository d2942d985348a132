# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""docs/troubleshooting.md has a section for whatever /diagnostics can say, and names every reason for a drop."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from dvmvs_ros.depth.frame_timeline import DropReason
from dvmvs_ros.diagnostics.health_report import PAGE, section_of

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / PAGE).read_text()
NOTHING_IS_WRONG = {
    "images and camera_info come",
    "every image gets its pose",
    "no pose was needed yet",
    "no pose is needed while images are dropped for other reasons",
    "7 depth images a second",
    "7 of 7 on 7",
}
PARTS = {
    *("7 7", "7. 7", "; 7", " and 7 more", "on 7 for 7 s", "no 7 7. 7"),
    *(". Poses have stopped coming 7 s ago", ". Poses do come, but not for this time"),
}
"""What a message with a section is put together from."""


def rendered(node: ast.expr) -> str | None:
    """A text as it may read, with 7 for each value in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "7" for part in node.values)
    return None


def whole_texts(expression: ast.expr) -> list[str]:
    """The texts of an expression, without the parts of f-strings."""
    if (text := rendered(expression)) is not None:
        return [text]
    return [text for child in ast.iter_child_nodes(expression) for text in whole_texts(child)]


def messages() -> set[str]:
    """Every text that a diagnostic's message is made of, from the sources."""
    found: set[str] = set()
    for file, functions in (
        ("diagnostics/health_report.py", {"_input", "_poses", "_depth", "_network"}),
        ("diagnostics/stale_transforms.py", {"stale_transforms", "_since_when"}),
        ("depth/motion_watch.py", {"complaint", "remark"}),
    ):
        tree = ast.parse((ROOT / "dvmvs_ros" / file).read_text())
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef) or function.name not in functions:
                continue
            for node in ast.walk(function):
                targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                to_text = any(
                    isinstance(name, ast.Name) and name.id == "text" for t in targets if t for name in ast.walk(t)
                )
                returned = isinstance(node, ast.Return) and function.returns and ast.unparse(function.returns) == "str"
                if to_text or returned:
                    found.update(whole_texts(node.value))
    return {text for text in found if " " in text.strip()}


def test_the_texts_are_found():
    assert len(messages()) > 25
    assert NOTHING_IS_WRONG <= messages()


@pytest.mark.parametrize("message", sorted(messages() - NOTHING_IS_WRONG - PARTS))
def test_every_message_leads_to_a_section_that_exists(message):
    section = section_of(message)
    assert section, f"no section for {message!r}"
    page, anchor = section.split("#")
    assert page == PAGE
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")
        for line in TEXT.splitlines()
        if line.startswith("#")
    }
    assert anchor in headings


def test_where_nothing_is_wrong_there_is_no_help():
    assert [message for message in NOTHING_IS_WRONG if section_of(message)] == []


@pytest.mark.parametrize("reason", DropReason)
def test_every_reason_for_a_drop_is_explained(reason):
    assert f"| `{reason.value}` |" in TEXT
