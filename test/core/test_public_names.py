# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""`from dvmvs_core import DepthEngine, open_sequence, Frame`: what is public, and that it costs nothing until used."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dvmvs_core

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "cv2", "scipy", "numba", "openvino", "rosbags", "matplotlib", "rclpy"}
NAMES = dvmvs_core.__all__


def loaded_by(program: str) -> set[str]:
    """Names of the modules that a Python program loads."""
    program += "; import json, sys; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("program", "loads", "leaves"),
    [
        ("import dvmvs_core", {"dvmvs_core"}, HEAVY | {"numpy"}),
        ("import dvmvs_core; dir(dvmvs_core)", {"dvmvs_core"}, HEAVY | {"numpy"}),
        ("from dvmvs_core import Frame", {"dvmvs_core.types"}, HEAVY),
        ("from dvmvs_core import open_sequence", {"dvmvs_core.data.open_sequence"}, {"torch", "openvino"}),
        (
            "from dvmvs_core import DepthEngine",
            {"dvmvs_core.engine", "torch"},
            {"rosbags", "matplotlib", "rclpy", "tyro"},
        ),
    ],
)
def test_a_name_loads_its_own_module_and_no_more(program, loads, leaves):
    loaded = loaded_by(program)
    assert loads <= loaded
    assert not loaded & leaves


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_explained(name):
    value = getattr(dvmvs_core, name)
    assert value.__name__ == name
    assert inspect.getdoc(value)


def test_type_checkers_see_the_same_names():
    # They read the source and do not run `__getattr__`.
    tree = ast.parse(Path(dvmvs_core.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    checked = {alias.name: node.module for node in block.body for alias in node.names}
    assert checked == {name: getattr(dvmvs_core, name).__module__ for name in NAMES}


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'DepthEngin'"):
        _ = dvmvs_core.DepthEngin
    assert set(NAMES) <= set(dir(dvmvs_core))


def test_the_example_of_the_readme_runs(make_scene):
    section = (ROOT / "README.md").read_text().split("## From Python", 1)[1]
    example = section.split("```python\n", 1)[1].split("```", 1)[0]
    assert example.count("\n") <= 12
    scene = make_scene(frames=6, size=(60, 80))
    assert "path/to/sequence" in example
    space: dict[str, object] = {}
    exec(compile(example.replace("path/to/sequence", str(scene)), "README.md", "exec"), space)
    points = space["points"]
    assert points.ndim == 2 and points.shape[1] == 3 and np.isfinite(points).all()
