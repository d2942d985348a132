# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""README and docs/: links lead somewhere, commands are such as the programs take, and all that need no robot run."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dvmvs_core.cli import main as command_line
from dvmvs_core.errors import PackageError
from dvmvs_core.evaluation.reconstruction.open3d_loader import load_open3d

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for folder in (".", "docs", "docs/cameras", "benchmarks", "benchmarks/training", "dvmvs_core/weights", "examples")
    for path in (ROOT / folder).glob("*.md")
)
LINK = re.compile(r"(?<!`)\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
ROOM = ROOT / "examples" / "room"

needs_room = pytest.mark.skipif(not ROOM.is_dir(), reason="examples/room is not there")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    titles = re.findall(r"^#+ (.+)$", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def commands() -> list[tuple[str, str]]:
    """(page, command) of every shell line in the pages, continued lines joined, comments and redirections removed."""
    found = []
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                if command := re.sub(r"(^|\s)#.*|\s>\s*\S+", "", line).strip():
                    found.append((name_of(page), command))
    return found


COMMANDS = commands()
PATTERNS = {"dvmvs import FORMAT IN OUT"}
"""Lines that show a form and are no commands."""


EXTERNAL = re.compile(r"\bhttps?://[^\s<>\"'`\])]*")
HOST = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CITATION.cff", ROOT / "mkdocs.yml"], ids=name_of)
def test_external_links_are_https_and_well_formed(page):
    """Whether they answer takes a network, which tests do without."""
    wrong = []
    for link in EXTERNAL.findall(page.read_text()):
        parts = urlsplit(link.rstrip(".,;:"))
        if parts.scheme != "https" or not HOST.fullmatch(parts.netloc) or "//" in parts.path:
            wrong.append(link)
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    wrong = []
    for link in LINK.findall(without_code(page.read_text())):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if target.name == "notebook.md":  # made of the notebook when the manual is built
            target = target.with_suffix(".ipynb")
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


@pytest.mark.parametrize(("page", "command"), [pair for pair in COMMANDS if pair[1].startswith("dvmvs ")])
def test_every_command_of_dvmvs_has_arguments_that_it_takes(page, command, monkeypatch):
    if command in PATTERNS or command.endswith(" ..."):
        pytest.skip("shows a form")
    arguments = [word.strip("[]") for word in shlex.split(re.split(r" [>|] ", command)[0])[1:]]
    if arguments[0] not in ("--help", "--version"):
        name = command_line.ALIASES.get(arguments[0], arguments[0])
        assert name in command_line.COMMANDS, command
        module = importlib.import_module(command_line.module_of(name))
        monkeypatch.setattr(module, "run", lambda options: 0)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = command_line.main(arguments)
        except SystemExit as refused:
            code = refused.code
    assert code == 0, f"{page}: {command}\n{said.getvalue()}"


@pytest.mark.parametrize(("page", "command"), [pair for pair in COMMANDS if "ros2 launch dvmvs_ros" in pair[1]])
def test_every_launch_argument_exists(page, command):
    file = re.search(r"(\w+\.launch\.py)", command)[1]
    source = (ROOT / "launch" / file).read_text()
    known = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    unknown = [name for name in re.findall(r"(\w+):=", command) if name not in known]
    assert not unknown, f"{page}: {command}"


@pytest.mark.parametrize(("page", "command"), [pair for pair in COMMANDS if re.match(r"make |python ", pair[1])])
def test_every_target_and_script_exists(page, command):
    words = command.split()
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert [word for word in words[1:] if re.fullmatch("[a-z][a-z-]+", word) and word not in targets] == []
    elif words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file()


ROW = re.compile(r"^\| (.+) \| (.+) \| (.+) \| `([\w/]+\.py)::(\w+)` \|$")
LEAST_FAULTS = 60


def faults() -> list[tuple[str, ...]]:
    lines = (ROOT / "docs" / "reliability.md").read_text().splitlines()
    found = [match.groups() for line in lines if (match := ROW.match(line))]
    heads = [line for line in lines if line.startswith("|") and not ROW.match(line)]
    assert set(heads) == {"| injected | answer | recovers | test |", "|---|---|---|---|"}, (
        "every row has its four parts"
    )
    return found


def test_every_fault_has_a_test_that_exists():
    missing = []
    for fault, _, _, file, name in faults():
        path = ROOT / "test" / file
        tests = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        if name not in tests:
            missing.append(f"{fault}: {file}::{name}")
    assert not missing


def test_there_are_faults_enough_and_none_twice():
    injected = [fault for fault, *_ in faults()]
    assert len(injected) >= LEAST_FAULTS
    assert len(set(injected)) == len(injected)


NOT_RUN = {
    r"(ros2|rosdep|colcon|python -m colcon) |cd ~/ros2_ws": "a ROS 2 distribution",
    r"export ROS_|\$\(ros2": "a secured ROS 2 system",
    r"pip install |git clone |python3 -m venv ": "a network, and a machine to change",
    r"trtexec |python -c 'import torch; print\(torch.cuda": "an NVIDIA GPU",
    r"(DVMVS\w+=\S+ )*make |source .venv|\.venv/bin/python -m pytest ": "it is how these tests are run",
    r"dvmvs train |torchrun |dvmvs weights average |OUT=out/gpu ": "hours; test/core/training runs each for seconds",
    r"dvmvs synthesize ": "minutes for 20 scenes; test/core/cli runs it for one",
    r"dvmvs benchmark |python benchmarks/|\.venv/bin/python examples/": "minutes to hours; it writes what is kept",
    r"dvmvs import ": "a data set; test/core/data writes a small one in each format",
    r"dvmvs \S+ .*(paper(-pairnet)?|fusionnet|regulariser)\.safetensors": "released or trained weights",
    r"dvmvs .*\[|dvmvs .* \.\.\.$": "it shows a form",
}
"""Commands of the pages that `test_every_other_command_runs` leaves out: pattern -> what they need."""


def is_run(command: str) -> bool:
    return not any(re.match(pattern, command) for pattern in NOT_RUN)


def test_what_is_not_run_is_named_and_all_else_is_ours():
    assert [pattern for pattern in NOT_RUN if not any(re.match(pattern, command) for _, command in COMMANDS)] == []
    others = [command for _, command in COMMANDS if is_run(command)]
    assert len(set(others)) >= 20
    assert {command.split()[0] for command in others} <= {"dvmvs", ".venv/bin/dvmvs", "mkdir", "source"}


@needs_room
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_other_command_runs(tmp_path):
    """In an empty folder with examples/, where the recordings that pages speak of are the room's first frames."""
    (tmp_path / "examples").symlink_to(ROOM.parent)
    for name in ("SEQUENCE", "SCENE", "SCENES", "THE_BAG"):
        part = tmp_path / name
        shutil.copytree(ROOM, part)
        for kind in ("images", "depth"):
            for file in sorted((part / kind).iterdir())[12:]:
                file.unlink()
        for table in ("poses.txt", "stamps.txt"):
            lines = (ROOM / table).read_text().splitlines(keepends=True)
            (part / table).write_text("".join(lines[:12]))
    try:
        load_open3d()
        pattern = None
    except PackageError:
        pattern = "reconstruct"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    for command in dict.fromkeys(command for _, command in COMMANDS if is_run(command)):
        if pattern and pattern in command:
            continue
        line = command.removeprefix(".venv/bin/")
        run = subprocess.run(["bash", "-ec", line], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, f"{command}\n{run.stdout}{run.stderr}"
    made = ["depth/predictions.npz", "report/index.html", "export/ply", "bag/metadata.yaml"]
    assert [name for name in made if not (tmp_path / "out" / "tutorial" / name).exists()] == []


@needs_room
@pytest.mark.slow
def test_the_notebook_prints_what_it_shows(monkeypatch):
    monkeypatch.chdir(ROOT)
    space: dict[str, object] = {}

    def shape(text: str) -> str:
        return re.sub(r"[\d.\s]+", "7", text)  # figures depend on the processor

    for cell in json.loads((ROOT / "docs" / "notebook.ipynb").read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec("".join(cell["source"]), space)
        shown = "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")
        assert shape(printed.getvalue()) == shape(shown)


@pytest.mark.slow
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path):
    pytest.importorskip("mkdocstrings", reason="`make docs` has not been run, which installs MkDocs")
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    with (tmp_path / "docs" / "index.md").open("a") as page:
        page.write("\n[one](gone.md) [two](robot.md#nowhere)\n")
    recipe = subprocess.check_output(["make", "-n", "docs"], cwd=ROOT, text=True)
    (build,) = re.findall(r"-m mkdocs .*", recipe)
    run = subprocess.run([sys.executable, *build.split()], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    warnings = [line for line in run.stderr.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 2 and "gone.md" in warnings[0] and "#nowhere" in warnings[1], run.stderr
