# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""MkDocs hooks: files outside docs/ that pages link to become part of the manual, and the notebook becomes a page."""

from __future__ import annotations

import json
import logging
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")
OUTSIDE = "repository"
"""Where in the manual the files from outside docs/ are."""

log = logging.getLogger("mkdocs.hooks.manual")


def on_files(files: Files, config) -> Files:
    """Add the notebook, and whatever outside docs/ pages link to, links of those files included."""
    notebook = ROOT / "docs" / "notebook.ipynb"
    files.remove(files.get_file_from_path("notebook.ipynb"))
    files.append(File.generated(config, "notebook.md", content=notebook_page(json.loads(notebook.read_text()))))
    waiting = [("docs/" + file.src_uri, file.content_string) for file in files.documentation_pages()]
    while waiting:
        place, text = waiting.pop()
        for target in outside_targets(place, text):
            uri = f"{OUTSIDE}/{target}"
            if files.get_file_from_path(uri):
                continue
            if not (ROOT / target).is_file():
                log.warning("%s links to %s, which is no file", place, target)
                continue
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / target)))
            if target.endswith(".md"):
                waiting.append((target, (ROOT / target).read_text()))
    return files


def on_page_markdown(markdown: str, page, config, files: Files) -> str:
    """Point links to files outside docs/ to where they are in the manual."""
    place = page.file.src_uri.removeprefix(OUTSIDE + "/")
    place = place if place != page.file.src_uri else "docs/" + place

    def moved(match: re.Match) -> str:
        target = resolved(place, match[2])
        uri = target.removeprefix("docs/") if target.startswith("docs/") else f"{OUTSIDE}/{target}"
        uri = "notebook.md" if uri == "notebook.ipynb" else uri
        return match[1] + posixpath.relpath(uri, posixpath.dirname(page.file.src_uri)) + match[3]

    return LINK.sub(moved, markdown)


def resolved(place: str, link: str) -> str:
    """Return a relative link of a file as a path from the repository's root."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(place), link))


def outside_targets(place: str, text: str) -> set[str]:
    """Return the paths outside docs/ that a file links to."""
    targets = {resolved(place, match[2]) for match in LINK.finditer(text)}
    return {target for target in targets if not target.startswith("docs/")}


def notebook_page(notebook: dict) -> str:
    """Return a notebook as Markdown: text, code, what it printed and what it showed."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
                continue
            for kind, data in output["data"].items():
                if kind.startswith("image/"):
                    encoded = "".join(data).replace("\n", "")
                    parts.append(f'<img alt="output of the cell above" src="data:{kind};base64,{encoded}">')
    return "\n\n".join(parts) + "\n"
