# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

from dvmvs_core.cli.tables import print_table


def test_a_table_wider_than_the_terminal_loses_nothing(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    header = ("name", *(f"column {i}" for i in range(12)))
    print_table("title", header, [("row", *(f"value-{i}" for i in range(12)))])
    out = capsys.readouterr().out
    (row,) = (line for line in out.splitlines() if "row" in line)
    assert [f"value-{i}" for i in range(12)] == row.split()[1:]
    assert "column 11" in out
