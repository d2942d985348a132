# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What every command has in common: help, tables, completion, and one line where it fails."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from typing import get_args
from unittest import mock

import docstring_parser
import pytest

from dvmvs_core import __version__
from dvmvs_core.cli import main as main_module
from dvmvs_core.cli.help_texts import flowing
from dvmvs_core.cli.main import COMMANDS, module_of
from dvmvs_core.cli.tables import print_table
from dvmvs_core.errors import DataError
from dvmvs_core.importers.formats import FORMATS

HEAVY = ("torch", "cv2", "open3d", "matplotlib", "rosbags", "scipy", "safetensors", "kornia", "rclpy")


def test_help_names_every_command(dvmvs):
    code, out, _ = dvmvs("--help")
    assert code == 0
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert dvmvs()[0] == 2


def test_every_command_describes_itself_without_loading_anything_heavy():
    script = (
        "import contextlib, io, json, sys\n"
        "from dvmvs_core.cli.main import COMMANDS, main\n"
        "helps = {}\n"
        "for command in COMMANDS:\n"
        "    text = io.StringIO()\n"
        "    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):\n"
        "        main([command, '--help'])\n"
        "    helps[command] = text.getvalue()\n"
        f"print(json.dumps([helps, [m for m in {HEAVY!r} if m in sys.modules]]))\n"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    helps, loaded = json.loads(answer.stdout)
    assert loaded == []
    assert [command for command, text in helps.items() if f"usage: dvmvs {command}" not in text] == []


@pytest.mark.parametrize("arguments", (["--help"], ["evaluate", "--help"]))
def test_help_answers_at_once(arguments):
    """Compared with loading the parser of the command line alone; importing torch takes 20 times as long as that.

    In processor time, which does not depend on what else the machine does.
    """

    def seconds(*command: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    runs = [(seconds("-m", "dvmvs_core", *arguments), seconds("-c", "import tyro")) for _ in range(3)]
    help_s, parser_s = map(min, zip(*runs, strict=True))
    assert help_s < 3 * parser_s


def test_the_version_is_printed(dvmvs):
    assert dvmvs("--version") == dvmvs("-V") == (0, f"dvmvs {__version__}\n", "")


@pytest.mark.parametrize(
    "command",
    (
        "",
        *COMMANDS,
        *(f"train {network}" for network in ("all", "regulariser", "monocular")),
        "weights info",
        "import colmap",
    ),
)
def test_help_fits_the_terminal(dvmvs, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    lines = dvmvs(*command.split(), "--help")[1].splitlines()
    assert [line for line in lines if len(line) > 80 and not line.startswith("usage: ")] == []


@pytest.mark.parametrize("arguments", (["--help"], ["evaluate", "--help"], ["weights", "info", "small"], ["-V"]))
def test_a_closed_pipe_leaves_no_traceback(arguments):
    command = subprocess.Popen(
        [sys.executable, "-m", "dvmvs_core", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    command.stdout.close()
    assert command.stderr.read() == b""
    command.wait()


def test_a_misspelt_command_gets_a_hint(dvmvs):
    code, out, err = dvmvs("evalute")
    assert (code, out) == (2, "")
    assert err == "dvmvs: there is no command 'evalute'; did you mean evaluate?\n"
    assert "commands are predict, " in dvmvs("frobnicate")[2]


def test_a_missing_option_is_named_with_code_2(dvmvs, tmp_path):
    code, _, err = dvmvs("predict", tmp_path)
    assert code == 2
    assert "--out" in err


@pytest.fixture
def failing(monkeypatch):
    """A function that lets every command fail with an exception."""
    return lambda error: monkeypatch.setattr(main_module, "_run", mock.Mock(side_effect=error))


@pytest.mark.parametrize(
    ("error", "answer"),
    (
        (DataError("first\n  second"), (1, "", "dvmvs bag: first second\n")),
        (
            PermissionError(13, "Permission denied", "/closed"),
            (1, "", "dvmvs bag: [Errno 13] Permission denied: '/closed'\n"),
        ),
        (KeyboardInterrupt(), (130, "", "dvmvs: interrupted\n")),
    ),
    ids=("known, of several lines", "of the system", "Ctrl-C"),
)
def test_a_failure_is_one_line(failing, dvmvs, error, answer):
    failing(error)
    assert dvmvs("bag") == answer


def test_a_defect_of_ours_keeps_its_traceback(failing, dvmvs):
    failing(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        dvmvs("keyframes")


def test_a_reader_that_stops_early_is_no_failure_to_complain_about(make_scene):
    """What `dvmvs keyframes SCENE | head -1` does once its pipe is full."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = subprocess.run(
        [sys.executable, "-m", "dvmvs_core", "keyframes", str(make_scene())],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write_end)
    assert process.stderr == ""


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
