# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Run docs/notebook.ipynb in Jupyter and keep what its cells show: `python scripts/run_notebook.py`.

It needs the extra [docs].
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

from dvmvs_core.atomic import replacing

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"


def main() -> None:
    """Run the notebook from the repository's root, where its paths begin."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, resources={"metadata": {"path": str(NOTEBOOK.parents[1])}}, record_timing=False).execute()
    for cell in notebook.cells:
        cell.metadata.clear()
        # Warnings of libraries about this machine.
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {"language_info": {"name": "python"}}
    with replacing(NOTEBOOK) as unfinished:
        unfinished.write_text(nbformat.writes(notebook) + "\n")


if __name__ == "__main__":
    main()
