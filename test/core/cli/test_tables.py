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
