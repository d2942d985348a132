# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Imports run one way: the table of CONTRIBUTING.md, checked on every module of both packages."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A room may import rooms of its own rank or below, and never in a circle.
RULES = (ROOT / "CONTRIBUTING.md").read_text()


def names(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


RANK = {
    name: int(rank) for rank, row in re.findall(r"^\| (\d) \| (.+) \|$", RULES, re.MULTILINE) for name in names(row)
}
ROS_MAY_IMPORT, SCORING_MAY_IMPORT_TOO = map(
    names, re.search(r"`dvmvs_ros` may import (.+?)\. Only(.+?)\.\n", RULES, re.DOTALL).groups()
)
BESIDE_THE_NODE = re.compile(r"dvmvs_ros\.(demo|evaluation|evaluation_node)(\.\w+)?")
BESIDE_MAY_IMPORT = ROS_MAY_IMPORT | SCORING_MAY_IMPORT_TOO

ROS_LIBRARIES = {"rclpy", "tf2_ros", "tf2_py", "cv_bridge", "launch", "launch_ros", "ament_index_python"}


def imported_modules(source: str, module: str, is_package: bool = False) -> set[str]:
    """Return the absolute names of what a module's source imports, inside functions too."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            # `from dvmvs_core import model` names a room only with its last part.
            found.update({base, *(f"{base}.{alias.name}" for alias in node.names)})
    return found


def modules(package: str) -> dict[str, set[str]]:
    """Return what each module of a package imports."""
    imports = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        imports[name] = imported_modules(path.read_text(), name, is_package)
    return imports


def room(module: str) -> str | None:
    """Return the room of dvmvs_core that a module belongs to; None for anything else."""
    parts = module.split(".")
    return parts[1] if parts[0] == "dvmvs_core" and len(parts) > 1 and parts[1] in RANK else None


CORE = modules("dvmvs_core")
ROS = modules("dvmvs_ros")


def room_graph() -> dict[str, dict[str, str]]:
    """Return room -> imported room -> one module that does it."""
    graph: dict[str, dict[str, str]] = {name: {} for name in RANK}
    for module, imports in CORE.items():
        for imported in filter(None, map(room, imports)):
            if room(module) not in (None, imported):
                graph[room(module)].setdefault(imported, module)
    return graph


def test_every_module_of_the_core_has_a_room():
    strays = [m for m in CORE if m != "dvmvs_core" and room(m) is None]
    assert not strays, f"no room in RANK for {strays}"


def test_the_core_imports_only_downwards():
    wrong = [
        f"{module} ({name}) imports {imported}"
        for name, edges in room_graph().items()
        for imported, module in edges.items()
        if RANK[imported] > RANK[name]
    ]
    assert not wrong


def test_no_two_rooms_import_each_other_in_a_circle():
    graph = room_graph()

    def reachable(start: str) -> set[str]:
        seen, queue = set(), list(graph[start])
        while queue:
            name = queue.pop()
            if name not in seen:
                seen.add(name)
                queue.extend(graph[name])
        return seen

    circles = [name for name in RANK if name in reachable(name)]
    assert not circles, f"these import one another: {circles}"


def test_the_core_knows_no_ros_and_nothing_imports_the_command_line():
    for module, imports in CORE.items():
        roots = {name.split(".")[0] for name in imports}
        ros = {name for name in roots if name in ROS_LIBRARIES or name.endswith(("_msgs", "_interfaces"))}
        assert not ros, f"{module} imports {ros}"
        assert "dvmvs_ros" not in roots, f"{module} imports dvmvs_ros"
    for module, imports in ROS.items():
        assert "cli" not in set(map(room, imports)), f"{module} imports the command line"


@pytest.mark.parametrize("module", sorted(ROS))
def test_the_node_uses_only_the_rooms_that_it_may(module):
    allowed = BESIDE_MAY_IMPORT if BESIDE_THE_NODE.fullmatch(module) else ROS_MAY_IMPORT
    rooms = set(filter(None, map(room, ROS[module])))
    assert rooms <= allowed, f"{module} imports {sorted(rooms - allowed)}; allowed are {sorted(allowed)}"


def test_importing_the_command_line_loads_nothing_heavy():
    module, forbidden = "dvmvs_core.cli.main", {"rclpy", "matplotlib", "torch", "cv2", "scipy"}
    program = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    loaded = set(json.loads(output))
    assert module in loaded
    assert not loaded & forbidden


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import dvmvs_core.engine", "dvmvs_core.engine"),
        ("from dvmvs_core import engine", "dvmvs_core.engine"),
        ("from ..engine import DepthEngine", "dvmvs_core.engine"),
        ("from .. import engine", "dvmvs_core.engine"),
        ("def late():\n    from dvmvs_core.engine import DepthEngine", "dvmvs_core.engine"),
    ],
)
def test_every_way_to_write_an_import_is_seen(source, found):
    assert found in imported_modules(source, "dvmvs_core.model.features")
    package = source.replace("..", ".")  # whose relative imports start from itself
    assert found in imported_modules(package, "dvmvs_core", is_package=True)
