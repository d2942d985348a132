# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Ctrl-C, SIGTERM, little memory, full disks, second writers: one line, the right code, nothing half-written."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dvmvs_core.data.bags.bag_writer import check_new, new_bag
from dvmvs_core.errors import DataError
from dvmvs_core.importers.scene_writer import OutputError, SceneFolder

MOMENTS = {
    "at once": ("import", ""),
    "numpy": ("import", "numpy"),
    "in the middle of torch": ("import", "torch.nn.functional"),
    "the first image": ("open", "images/00003"),
    "a later image": ("open", "images/00015"),
    "the result": ("open", ".predictions.npz.unfinished"),
}
"""What Python is about to import or open when the signal comes, by the name of its audit event."""


def ended(*arguments: object, signal_at: tuple[int, str, str] = (0, "", ""), **options) -> tuple[int, str]:
    """Exit code and stderr of `dvmvs ARGUMENTS` as a program, which gets a signal at a moment after its first lines."""
    number, event, part = signal_at
    code = (
        "import os, sys, signal\n"
        "from dvmvs_core.cli import main as program\n"
        "take, waits = signal.signal, [True]\n"
        "def watch(event, arguments):\n"
        f"    if waits and event == {event!r} and {part!r} in str(arguments[0]):\n"
        f"        waits.clear(), os.kill(os.getpid(), {number})\n"
        "def told(which, handler):\n"
        f"    if {event!r} == 'leave' and handler is signal.SIG_IGN and waits:\n"
        f"        waits.clear(), os.kill(os.getpid(), {number})\n"
        f"    if {event!r} == 'take' and which == signal.SIGTERM and waits:\n"
        f"        waits.clear(), take(which, handler), os.kill(os.getpid(), {number})\n"
        f"    if {number} and which == signal.SIGTERM and handler is not signal.SIG_IGN:\n"
        "        sys.addaudithook(watch)\n"
        "    return take(which, handler)\n"
        "program.signal.signal = told\n"
        "sys.argv[0] = 'dvmvs'\n"
        "sys.exit(program.main())\n"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, **options)
    return process.returncode, process.stderr


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("at once", signal.SIGINT),
        ("at once", signal.SIGTERM),
        ("numpy", signal.SIGTERM),
        ("in the middle of torch", signal.SIGINT),
        ("in the middle of torch", signal.SIGTERM),
        ("the first image", signal.SIGINT),
        ("a later image", signal.SIGTERM),
        ("the result", signal.SIGINT),
    ],
)
def test_a_signal_at_any_moment_is_one_line(make_scene, weights, tmp_path, number, moment):
    scene, out = make_scene(frames=30), tmp_path / "out"
    signal_at = (int(number), *MOMENTS[moment])
    code, err = ended("predict", scene, "--weights", weights, "--out", out, signal_at=signal_at)
    assert code == 128 + number, err
    assert "Traceback" not in err and "Error" not in err, err
    assert err.splitlines()[-1] == ("dvmvs: interrupted" if number == signal.SIGINT else "dvmvs: ended by SIGTERM")
    assert not (out / "predictions.npz").exists()
    assert not out.exists() or [path.name for path in out.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM))
@pytest.mark.parametrize("moment", ("take", "leave"))
def test_a_signal_as_signals_are_taken_or_left_is_one_line(number, moment):
    said = "dvmvs: interrupted\n" if number == signal.SIGINT else "dvmvs: ended by SIGTERM\n"
    assert ended("--version", signal_at=(int(number), moment, "")) == (128 + number, said)


def test_too_little_memory_is_one_line(make_scene, weights, tmp_path):
    def little():
        resource.setrlimit(resource.RLIMIT_AS, (600_000_000, 600_000_000))

    command = ("predict", make_scene(frames=4), "--weights", weights, "--out", tmp_path / "out")
    code, err = ended(*command, preexec_fn=little)
    assert code == 1 and "Traceback" not in err
    assert err.splitlines()[-1].startswith("dvmvs predict: there is too little memory, or a library cannot be loaded")


@pytest.mark.parametrize("storage", ("mcap", "sqlite3"))
def test_a_bag_on_a_full_disk_is_one_line(make_scene, tmp_path, storage):
    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    code, err = ended("bag", make_scene(frames=15), tmp_path / "bag", "--storage", storage, preexec_fn=full)
    assert code == 1 and "Traceback" not in err
    assert err.splitlines()[-1].startswith("dvmvs bag: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scene"]


def test_a_bag_is_not_written_to_where_something_lies_be_it_a_link_to_nothing(refused, make_scene, tmp_path):
    out = tmp_path / "bag"
    out.symlink_to(tmp_path / "nowhere")
    scene = make_scene(frames=4)
    for image in (scene / "images").iterdir():
        image.write_bytes(b"")
    assert "exists already" in refused("bag", scene, out)[-1], "it is refused before the first frame is read"
    with pytest.raises(DataError, match="exists already"):
        check_new(out)


def test_of_two_writers_of_a_bag_the_second_is_told(tmp_path):
    out = tmp_path / "bag"
    with pytest.raises(DataError, match="exists already"), new_bag(out, "mcap"):
        with new_bag(out, "mcap"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["bag"]


def test_of_two_exports_of_a_scene_the_second_is_told_and_the_first_goes_on(tmp_path):
    import numpy as np

    from dvmvs_core.importers.dataset import ImportedFrame

    frame = ImportedFrame(np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), np.uint16), np.eye(4))
    first = SceneFolder(tmp_path / "scene", False, "%g")
    first.add(frame)
    with pytest.raises(OutputError, match="is being written by another export"):
        SceneFolder(tmp_path / "scene", False, "%g")
    first.add(frame)
    first.finish(np.eye(3), {})
    assert len(list((tmp_path / "scene" / "images").iterdir())) == 2
    third = SceneFolder(tmp_path / "scene", False, "%g")
    third.add(frame)
    with pytest.raises(OutputError, match="was finished by another export"):
        third.finish(np.eye(3), {})
    third.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]


PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
OUTPUTS = (
    ("predict SCENE --out", "predict SCENE --out FREE --result-bag", "evaluate SCENE --json", "evaluate SCENE --report")
    + ("evaluate SCENE --out", "check SCENE --json", "keyframes SCENE --out", "keyframes SCENE --published")
    + ("reconstruct SCENE --sensor --out", "reconstruct SCENE --sensor --out FREE --json", "bag SCENE")
    + ("reconstruct SCENE --sensor --out FREE --picture", "reconstruct SCENE --sensor --out FREE --progressive")
    + ("import kitti SCENE", "import kitti SCENE FREE --json", "synthesize --frames 2", "weights import SCENE")
    + ("weights export small", "weights average small small --out", "weights calibrate --out", "benchmark --json")
    + ("train pairnet --steps 1 --out", "train all --minutes 1 --out", "train regulariser --steps 1 --out")
    + ("train monocular --data SCENE --steps 1 --out",)
)
"""Every option that names what is written, as the last."""


def as_anybody() -> None:
    """Root may write everywhere; this process, and what it becomes, may not."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)


def in_places(command: str, scene: Path, free: Path) -> list[str]:
    return [{"SCENE": str(scene), "FREE": str(free)}.get(word, word) for word in command.split()]


def test_a_read_only_folder_is_one_line_before_anything_is_done(make_scene, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    arguments = in_places("keyframes SCENE --published", make_scene(frames=4), tmp_path / "free")
    said = f"dvmvs keyframes: {closed}/below/out cannot be written: {closed}: Permission denied. Name another place\n"
    assert ended(*arguments, closed / "below" / "out", preexec_fn=as_anybody) == (1, said)


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(refused, tmp_path, command):
    """The scene is not there, and yet it is the place that is named."""
    (tmp_path / "file").write_text("x")
    arguments = in_places(command, tmp_path / "nothing", tmp_path / "free")
    (line,) = refused(*arguments, tmp_path / "file" / "out")
    place = f"{tmp_path}/file/out cannot be written: {tmp_path}/file: Not a directory. Name another place"
    assert line == f"dvmvs {arguments[0]}: {place}"


@pytest.mark.parametrize("command", OUTPUTS)
def test_what_is_no_file_or_no_folder_is_not_written_over(refused, tmp_path, command):
    os.mkfifo(tmp_path / "pipe")
    arguments = in_places(command, tmp_path / "nothing", tmp_path / "free")
    (line,) = refused(*arguments, tmp_path / "pipe")
    assert "exists already as something else" in line
    assert (tmp_path / "pipe").is_fifo()
