# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import pytest

from dvmvs_core import __version__
from dvmvs_core.cli import main as main_module
from dvmvs_core.cli.main import COMMANDS
from dvmvs_core.errors import DataError

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


@pytest.mark.parametrize("command", ("", *COMMANDS, "train all", "train regulariser", "weights info", "import colmap"))
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


def test_a_known_failure_is_one_line_and_code_1(dvmvs, tmp_path):
    code, out, err = dvmvs("keyframes", tmp_path / "nothing")
    assert (code, out) == (1, "")
    assert err.startswith("dvmvs keyframes: ")
    assert err.count("\n") == 1


def test_a_failure_of_the_system_is_one_line_too(dvmvs, make_scene, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = dvmvs("keyframes", make_scene(), "--out", tmp_path / "file" / "index")
    assert code == 1
    assert err.count("\n") == 1
    assert str(tmp_path / "file") in err


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch):
    def break_down(command, arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(main_module, "_run", break_down)
    with pytest.raises(ZeroDivisionError):
        main_module.main(["keyframes"])


def test_ctrl_c_is_no_traceback(monkeypatch, dvmvs):
    def interrupt(command, arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "_run", interrupt)
    assert dvmvs("keyframes") == (130, "", "dvmvs: interrupted\n")


def test_an_error_of_several_lines_is_joined(monkeypatch, dvmvs):
    def fail(command, arguments):
        raise DataError("first\n  second")

    monkeypatch.setattr(main_module, "_run", fail)
    assert dvmvs("bag")[2] == "dvmvs bag: first second\n"


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
