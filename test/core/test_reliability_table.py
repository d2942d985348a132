# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""docs/reliability.md names a test for every fault, and each of these exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (.+) \| (.+) \| (.+) \| `([\w/]+\.py)::(\w+)` \|$")
LEAST_FAULTS = 60


def rows() -> list[tuple[str, ...]]:
    lines = (ROOT / "docs" / "reliability.md").read_text().splitlines()
    found = [match.groups() for line in lines if (match := ROW.match(line))]
    heads = [line for line in lines if line.startswith("|") and not ROW.match(line)]
    assert set(heads) == {"| injected | answer | recovers | test |", "|---|---|---|---|"}, (
        "every row has its four parts"
    )
    return found


def test_every_fault_has_a_test_that_exists():
    missing = []
    for fault, _, _, file, name in rows():
        path = ROOT / "test" / file
        tests = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        if name not in tests:
            missing.append(f"{fault}: {file}::{name}")
    assert not missing


def test_there_are_faults_enough_and_none_twice():
    faults = [fault for fault, *_ in rows()]
    assert len(faults) >= LEAST_FAULTS
    assert len(set(faults)) == len(faults)
