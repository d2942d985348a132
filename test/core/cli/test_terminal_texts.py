# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


from __future__ import annotations

import dataclasses
import importlib
import re
import shutil
import subprocess
import sys
from typing import get_args

import docstring_parser
import pytest

from dvmvs_core.cli.help_texts import flowing
from dvmvs_core.cli.main import COMMANDS, module_of
from dvmvs_core.cli.tables import print_table
from dvmvs_core.importers.formats import FORMATS


def members(options: object) -> list[type]:
    """The dataclasses of a command's options, and of its own commands."""
    if isinstance(options, type):
        return [options]
    return [found for member in get_args(options) for found in members(member) if dataclasses.is_dataclass(found)]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_of_help_ends_where_only_the_source_did(dvmvs, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "400")
    for options in members(importlib.import_module(module_of(command)).Options):
        own = len(get_args(importlib.import_module(module_of(command)).Options)) > 0
        words = [command, *([_subcommand(options)] if own else [])]
        code, out, _ = dvmvs(*words, "--help")
        assert code == 0
        printed = " ".join(re.sub("[│╭╰─]", " ", out).split())
        lines = [" ".join(line.strip("│ ").split()) for line in out.splitlines()]
        for param in docstring_parser.parse_from_object(options).params:
            text = flowing(param.description)
            assert text in printed
            assert len(text) > 300 or any(text in line for line in lines), text


def _subcommand(options: type) -> str:
    recordings = {known.options: name for name, known in FORMATS.items()}
    name = options.__name__.removesuffix("Options")
    return recordings.get(options) or {"Everything": "all", "ImportReleased": "import"}.get(name, name.lower())


def test_defaults_are_told_once(dvmvs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for command in ("predict", "evaluate", "benchmark"):
        out = dvmvs(command, "--help")[1]
        assert "(default: None)" not in out and "(default: False)" not in out and "(default: )" not in out
    assert "(default: 10)" in dvmvs("predict", "--help")[1]


def test_paragraphs_stay_apart():
    assert flowing("one\n    two\n\nthree\n`four`") == "one two\n\nthree `four`"


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


COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
$(complete -p dvmvs | grep -o '[^ ]*_dvmvs')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "dvmvs.bash"
    with path.open("w") as out:
        subprocess.run([sys.executable, "-m", "dvmvs_core", "completion", "bash"], stdout=out, check=True)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("ev",), {"evaluate"}),
        (("evaluate", "--ba"), {"--baselines"}),
        (("evaluate", "--matching", ""), {"auto", "off", "fast", "full"}),
        (("weights", "li"), {"list"}),
        (("weights", "export", "--fo"), {"--format"}),
        (("train", "pairnet", "--pre"), {"--preset", "--precision"}),
    ],
)
def test_bash_completes_commands_options_and_choices(script, words, completed):
    command = ["bash", "-c", COMPLETE, "bash", str(script), "dvmvs", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == completed, done.stderr


def test_zsh_gets_a_script(dvmvs):
    code, out, _ = dvmvs("completion", "zsh")
    assert code == 0 and "reconstruct" in out and "--baselines" in out
