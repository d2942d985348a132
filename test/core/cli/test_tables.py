# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import pytest

from dvmvs_core.cli.tables import print_table


def columns_of(out: str) -> list[str]:
    """The cells of the rows, in order, the first cell once."""
    cells = [cell for line in out.splitlines() if line.lstrip().startswith("row") for cell in line.split()]
    return ["row", *(cell for cell in cells if cell != "row")]


WIDE = ("title", ("name", *(f"column {i}" for i in range(12))), [("row", *(f"value-{i}" for i in range(12)))])


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_wider_than_the_terminal_goes_on_below_and_loses_nothing(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(*WIDE)
    out = capsys.readouterr().out
    assert columns_of(out) == ["row", *(f"value-{i}" for i in range(12))]
    assert all(f"column {i}" in out for i in range(12))
    assert max(map(len, out.splitlines())) <= width
    assert out.count("title") == 1


def test_into_a_file_a_row_stays_whole(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(*WIDE)
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "row" in line)
    assert row.split() == ["row", *(f"value-{i}" for i in range(12))]


def test_one_wide_column_is_not_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    print_table("", ("name", "long"), [("row", "x" * 50)])
    assert "x" * 50 in capsys.readouterr().out
