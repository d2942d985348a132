# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Recordings that are incomplete or damaged: what is left out is named with its reason, and nothing is half-written."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
import zlib

import cv2
import lzfse
import numpy as np
import pytest
import small_inputs as small
from written_recordings import WRITERS, edit_json, edit_metadata, pose

from dvmvs_core.cli.main import main
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DamagedError, DataError
from dvmvs_core.importers.formats import TransformsOptions
from dvmvs_core.importers.record3d import _blocks, inflate_lzfse
from dvmvs_core.importers.transforms_json import TransformsJson

IMAGE = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8), (80, 60))


def reasons(entries) -> dict[str, str]:
    return {entry["name"]: entry["reason"] for entry in entries}


@pytest.fixture
def import_walk(tmp_path, import_by_command):
    """Import images of these names, with poses at 1 and 2 s."""

    def run(*images: str, options=()) -> tuple[int, dict | None]:
        for name in images:
            small.write(tmp_path / f"walk/{name}", IMAGE)
        (tmp_path / "poses.txt").write_text("1.0 0 0 0 0 0 0 1\n2.0 0 0 0 0 0 0 1\n")
        arguments = ("--poses", tmp_path / "poses.txt", "--intrinsics", 70, 70, 40, 30, *options)
        return import_by_command("trajectory", tmp_path / "walk", *arguments)

    return run


@pytest.mark.parametrize(
    ("image", "said"),
    (
        ("1700000000.0.png", r"from 1700000000.000 to 1700000000.000 s.* from 1.000 to 2.000 s"),
        ("IMG_0007.png", "images must be named by increasing times"),
    ),
)
def test_images_without_times_or_with_those_of_another_clock_are_refused(import_walk, capsys, image, said):
    assert import_walk(image) == (1, None)
    assert re.search(said, capsys.readouterr().err)


def test_images_outside_of_the_trajectory_say_so(import_walk):
    code, record = import_walk("1.5.png", "2.5.png", options=("--max-gap-ms", 600))
    assert (code, reasons(record["skipped"])) == (0, {"2.5.png": "no pose within 600 ms before and after it"})


def test_colmap_asks_for_the_scale(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["import", "colmap", str(tmp_path), str(tmp_path / "out")])
    assert "--scale" in capsys.readouterr().err


@pytest.mark.parametrize("cut", (4, 30, 70, 90, 120))
def test_a_binary_model_that_was_cut_off_says_so(import_by_command, tmp_path, capsys, cut):
    (tmp_path / "images").mkdir()
    image = struct.pack("<QI7dI", 2, 1, 1, 0, 0, 0, 0, 0, 0, 1) + b"0.png\0" + struct.pack("<Qddq", 1, 0, 0, -1)
    (tmp_path / "images.bin").write_bytes(image[:cut])
    (tmp_path / "cameras.bin").write_bytes(struct.pack("<QIiQQ3d", 1, 1, 0, 80, 60, 70, 40, 30))
    assert import_by_command("colmap", tmp_path, "--scale", 1) == (1, None)
    assert "cut off" in capsys.readouterr().err


def test_a_colmap_camera_that_is_unknown_names_the_way_out(import_by_command, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "images.txt").write_text("1 1 0 0 0 0 0 0 1 0.png\n\n")
    (tmp_path / "cameras.txt").write_text("1 FOV 80 60 70 70 40 30 0.9\n")
    assert import_by_command("colmap", tmp_path, "--scale", 1) == (1, None)
    assert "image_undistorter" in capsys.readouterr().err


@pytest.mark.parametrize(
    "stream",
    (
        b"",
        b"bvx-",
        b"bvx-\x40\x00\x00\x00short",
        b"bvx-\x04\x00\x00\x00fourbvx$",
        b"bvx2\xff\xff\xff\x7f" + bytes(40),
        b"bvx2\x40\x00\x00\x00",
        b"bvx1\x40\x00\x00\x00" + bytes(800),
        zlib.compress(bytes(64)),
    ),
)
def test_damaged_lzfse_is_refused_before_anything_is_made(stream):
    with pytest.raises((DamagedError, DataError)):
        inflate_lzfse(stream, 64)


def stored(data: bytes) -> bytes:
    return b"bvx-" + struct.pack("<I", len(data)) + data


RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("data", "kinds"),
    (
        (RANDOM.normal(2.0, 0.01, 40_000).astype("<f4").tobytes(), {b"bvx2"}),
        (bytes(49152), {b"bvx2"}),
        (b"depth " * 40, {b"bvxn"}),
        (RANDOM.bytes(9000), {b"bvx-"}),
    ),
    ids=("blocks", "one value", "little", "noise"),
)
def test_lzfse_is_read_as_it_is_compressed(data, kinds):
    stream = lzfse.compress(data)
    assert {kind for kind, _, _ in _blocks(stream)} == kinds
    assert inflate_lzfse(stream, len(data)) == data
    assert inflate_lzfse(stored(data) + stream, 2 * len(data)) == 2 * data
    for broken in (stream[:-9], stream[: len(stream) // 2], stream[:5]):
        with pytest.raises(DataError):
            inflate_lzfse(broken, len(data))
    for size in (len(data) - 1, len(data) + 1):
        with pytest.raises(DamagedError, match=f"must hold {size} bytes; it holds {len(data)}"):
            inflate_lzfse(stream, size)


def test_what_lzfse_claims_is_asked_before_it_is_inflated(monkeypatch):
    stream = lzfse.compress(bytes(2_000_000))
    monkeypatch.setattr(lzfse, "decompress", lambda data: pytest.fail("it was inflated"))
    with pytest.raises(DamagedError, match="must hold 64 bytes; it holds 2000000"):
        inflate_lzfse(stream, 64)


def test_without_lzfse_its_package_is_named(monkeypatch):
    stream = lzfse.compress(b"depth " * 40)
    monkeypatch.setitem(sys.modules, "lzfse", None)
    with pytest.raises(DataError, match="pip install lzfse"):
        inflate_lzfse(stream, 240)


def test_a_video_that_is_none_and_poses_that_are_none_say_so(import_by_command, tmp_path, capsys):
    (tmp_path / "rgb.mp4").write_bytes(b"nothing")
    (tmp_path / "odometry.csv").write_text("time, x\n")
    assert import_by_command("stray", tmp_path) == (1, None)
    assert "cannot be opened as a video" in capsys.readouterr().err


def test_of_the_models_of_a_workspace_the_one_with_images_is_taken(import_by_command, tmp_path):
    """COLMAP keeps the images of its own model elsewhere, and the undistorted ones in dense/0."""
    for place, camera in (
        ("sparse/0", "1 SIMPLE_RADIAL 80 60 70 40 30 0.1"),
        ("dense/0/sparse", "1 PINHOLE 80 60 64 64 40 30"),
    ):
        (tmp_path / "work" / place).mkdir(parents=True)
        (tmp_path / "work" / place / "images.txt").write_text("1 1 0 0 0 0 0 0 1 a (1).png\n\n")
        (tmp_path / "work" / place / "cameras.txt").write_text(f"{camera}\n")
    small.write(tmp_path / "work/dense/0/images/a (1).png", IMAGE)
    assert import_by_command("colmap", tmp_path / "work", "--scale", 2)[0] == 0
    assert open_sequence(tmp_path / "out/work").K[0, 0] == 64


def edit(place: str, change):
    """Change the lines of a file."""

    def edited(folder) -> None:
        lines = (folder / place).read_text().splitlines()
        (folder / place).write_text("\n".join(change(lines)) + "\n")

    return edited


def content_of(place: str, change):
    """Change what a JSON file holds."""
    return lambda folder: edit_json(folder / place, change)


def metadata(change):
    """Change the metadata of Record3D."""
    return lambda folder: edit_metadata(folder / "room.r3d", change)


SCALED = np.diag((2.0, 2, 2, 1)).tolist()


def again(lines: list[str]) -> list[str]:
    return [*lines, lines[-1]]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    (
        ("euroc", edit("V1/mav0/cam0/data.csv", again), "it is named twice"),
        ("stray", edit("odometry.csv", again), "it is named twice"),
        ("kitti", edit("sequences/00/times.txt", lambda lines: [*lines[:2], lines[1], lines[3]]), "is not after"),
        ("kitti", edit("sequences/00/times.txt", lambda lines: lines[:3]), "line 4 of times.txt is no time, or"),
        ("kitti", edit("sequences/00/times.txt", lambda lines: [*lines[:3], "nan"]), "line 4 of times.txt is no"),
        ("kitti", edit("poses/00.txt", lambda lines: [*lines[:3], "nan " * 12]), "must be 4×4 finite numbers"),
        ("seven_scenes", edit("room/seq-01/frame-000001.pose.txt", lambda lines: lines[::-1]), "a rotation and a"),
        ("seven_scenes", edit("room/seq-01/frame-000001.pose.txt", lambda lines: lines[:2]), "4 lines of 4 numbers"),
    ),
)  # fmt: skip
def test_one_bad_line_costs_its_frame_and_no_stamps(import_recording, name, change, said):
    code, record = import_recording(name, change)
    assert code == 0 and record["frames"] == (4 if name in ("euroc", "stray") else 3)
    assert len(record["skipped"]) == 1 and said in record["skipped"][0]["reason"]
    assert record["stamps"] == (name != "seven_scenes")


def test_an_image_that_is_missing_moves_no_other_image_to_its_pose(tmp_path, import_recording):
    _, record = import_recording("kitti", lambda folder: (folder / "sequences/00/image_2/000001.png").unlink())
    assert record["frames"] == 3
    places = [item.frame.world_T_cam[:3, 3] for item in open_sequence(tmp_path / "out/kitti-00").items()]
    np.testing.assert_allclose(places, [pose(i)[:3, 3] for i in (0, 2, 3)], atol=1e-6)


def test_a_log_takes_the_numbers_of_images_where_some_are_missing(tmp_path, import_recording, capsys):
    def from_zero(folder) -> None:
        for kind in ("color", "depth"):
            for path in sorted((folder / kind).iterdir(), key=lambda path: int(path.stem)):
                path.rename(path.with_name(f"{int(path.stem) - 8:05d}{path.suffix}"))
        (folder / "color/00001.jpg").unlink()

    _, record = import_recording("open3d", from_zero)
    assert (record["frames"], record["without_depth"]) == (3, [])
    items = list(open_sequence(tmp_path / "out/in").items())
    np.testing.assert_allclose(
        [item.frame.world_T_cam[:3, 3] for item in items], [pose(i)[:3, 3] for i in (0, 2, 3)], atol=1e-6
    )
    assert all(item.sensor_depth is not None for item in items)


def test_a_depth_image_that_is_missing_costs_its_frame_no_more_than_that(import_recording):
    _, record = import_recording("open3d", lambda folder: (folder / "depth/9.png").unlink())
    assert (record["frames"], reasons(record["without_depth"])) == (4, {"9.jpg": "there is no depth image 9"})


def test_a_video_whose_poses_begin_at_0_keeps_its_times(tmp_path, import_by_command):
    (tmp_path / "in").mkdir()
    *arguments, _ = WRITERS["trajectory_video"].write(tmp_path / "in")
    at = [line.partition(" ") for line in (tmp_path / "in/poses.txt").read_text().splitlines()[1:]]
    (tmp_path / "in/poses.txt").write_text("".join(f"{float(time) - 1000:.6f} {pose}\n" for time, _, pose in at))
    assert import_by_command(*arguments, 0)[0] == 0
    stamps = [item.stamp_ns for item in open_sequence(tmp_path / "out/walk").poses()]
    np.testing.assert_allclose(stamps, 10**9 + 50_000_000 * np.arange(4), atol=1000)
    assert (tmp_path / "out/walk/stamps.txt").exists()


def test_each_frame_that_is_left_out_says_why(import_recording, capsys):
    def change(folder) -> None:
        images = folder / "room/images"
        (images / "frame_8.png").unlink()
        (images / "frame_9.png").write_bytes((images / "frame_10.png").read_bytes()[:-40])
        edit_json(folder / "room/transforms.json", lambda c: c["frames"][0].update(transform_matrix=SCALED))

    code, record = import_recording("transforms", change)
    assert code == 0 and record["frames"] == 1
    said = reasons(record["skipped"])
    assert "there is no" in said["images/frame_8.png"] and "ends early" in said["images/frame_9.png"]
    assert "rigid transform" in said["images/frame_10.png"]
    assert "left out images/frame_8.png: there is no" in capsys.readouterr().out


def test_a_broken_depth_image_leaves_the_frame_for_prediction(import_recording, tmp_path):
    _, record = import_recording("transforms_each", lambda folder: (folder / "depth/0.png").write_bytes(b"no image"))
    assert record["skipped"] == [] and record["frames"] == 4
    assert "must be a depth image" in reasons(record["without_depth"])["images/0.png"]
    sequence = open_sequence(tmp_path / "out/in")
    assert [item.sensor_depth is not None for item in sequence.items()] == [False, True, False, False]


def test_frames_are_read_one_by_one_when_they_are_wanted(tmp_path):
    WRITERS["transforms_each"].write(tmp_path)
    dataset = TransformsJson(False, TransformsOptions())
    frames = dataset.open(dataset.find(tmp_path)[0]).frames(1)
    assert next(frames).image.shape == (240, 320, 3)
    (tmp_path / "images/1.png").unlink()
    assert "cannot be read" in next(frames).reason


def row_by_row(content: dict) -> None:
    name = "K" if "K" in content else "intrinsic_matrix"
    content[name] = np.reshape(content[name], (3, 3)).T.ravel().tolist()


def to_leica(folder) -> None:
    (folder / "V1/mav0/state_groundtruth_estimate0").rename(folder / "V1/mav0/leica0")


def pairs(lines: list[str]) -> list[str]:
    return ["0 1 60" if not i % 5 else line for i, line in enumerate(lines)]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    (
        (
            "euroc",
            edit("V1/mav0/state_groundtruth_estimate0/data.csv", lambda lines: lines[::-1]),
            "data.csv, line 2: times must not go back; got .* Sort it",
        ),
        ("euroc", to_leica, "Those of leica0 are positions alone"),
        ("euroc", lambda folder: (folder / "V1/mav0/cam0/sensor.yaml").write_text(""), "must hold names and values"),
        ("tum_vi", lambda folder: (folder / "V1/dso/camchain.yaml").write_text("[1]"), "must hold names and values"),
        ("open3d", lambda folder: (folder / "camera_intrinsic.json").write_text(""), "JSON, and is empty.* Copy it"),
        ("open3d", content_of("camera_intrinsic.json", row_by_row), "column by column.*: transpose it"),
        ("open3d", content_of("camera_intrinsic.json", lambda c: c.update(width=752)), "must be of 752×240, as its"),
        ("open3d", edit("scene/trajectory.log", pairs), "must hold one pose a frame; got several of frame 0"),
        (
            "open3d",
            lambda folder: (folder / "color/9.jpg").unlink(),
            "must hold an image a pose; got 3 for 4 poses, and names that do not count from 0",
        ),
        ("record3d", metadata(row_by_row), "column by column.*: transpose it"),
        ("record3d", metadata(lambda content: content.pop("dw")), "must hold poses, K, dw and dh of Record3D"),
        ("record3d", metadata(lambda content: content.update(frameTimestamps=[1])), "room.r3d: .* 4 poses, .* and 1 t"),
        ("stray", edit("camera_matrix.csv", lambda _: ["260,0,0", "0,255,0", "163,118,1"]), "csv: .*: transpose it"),
        ("transforms", lambda folder: (folder / "room/transforms.json").write_text("[]"), "must hold names and values"),
        ("transforms", content_of("room/transforms.json", lambda c: c.update(h=99)), "must be of 320×99, as its"),
        ("transforms", content_of("room/transforms.json", lambda c: c.update(frames=[])), "must hold a list of frames"),
        ("transforms", content_of("room/transforms.json", lambda c: c.pop("fl_x")), "neither fl_x nor camera_angle_x"),
        ("transforms", content_of("room/transforms.json", lambda c: c.update(fl_x="wide")), "fl_x, cx, cy"),
        ("transforms", content_of("room/transforms.json", lambda c: c.update(fl_x=-5)), "intrinsics"),
        ("transforms", content_of("room/transforms.json", lambda c: c.update(k4=0.01)), "k4 is of a fisheye alone"),
        (
            "transforms",
            content_of("room/transforms.json", lambda c: c.update(camera_model="EQUIRECTANGULAR")),
            "camera_model must be OPENCV",
        ),
    ),
)  # fmt: skip
def test_what_ends_an_import_is_one_line_of_its_cause(tmp_path, import_recording, capsys, name, change, said):
    code, record = import_recording(name, change)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("dvmvs import: "))
    assert (code, record) == (1, None) and "1 of 1 scenes" not in line
    assert re.search(said, line), line
    assert not list((tmp_path / "out").glob("*"))


def test_text_of_windows_is_read(import_recording):
    def windows(folder) -> None:
        for path in (folder / "sparse/0").iterdir():
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))

    assert import_recording("colmap_text", windows)[1]["frames"] == 4


@pytest.mark.parametrize("odd", (0, 1))
def test_an_image_of_another_size_is_not_taken_with_the_k_of_the_others(import_recording, odd):
    def smaller(folder) -> None:
        path = sorted((folder / "walk").iterdir())[odd]
        small.write(path, small.read(path)[:200, :300])

    _, record = import_recording("trajectory_folder", smaller)
    assert record["frames"] == 3
    assert "must have the size of the others, 320×240, whose K is given; got 300×200" in record["skipped"][0]["reason"]


def halved(folder) -> None:
    for path in folder.rglob("*.png" if (folder / "room").exists() else "images/*.jpg"):
        small.write(path, cv2.resize(small.read(path), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("name", ("transforms", "colmap_text"))
def test_smaller_copies_of_images_get_a_smaller_k(tmp_path, import_recording, name):
    assert import_recording(name, halved)[1]["frames"] == 4
    (scene,) = (tmp_path / "out").iterdir()
    np.testing.assert_allclose(open_sequence(scene).K, ((130, 0, 81.375), (0, 127.5, 59), (0, 0, 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "change", "left_out"),
    (
        ("record3d", metadata(lambda c: c["poses"][1].__setitem__(0, 5.0)), {"rgbd/1.jpg": "quaternions of length 1"}),
        ("record3d", metadata(lambda c: c["poses"][1].__setitem__(4, float("nan"))), {"rgbd/1.jpg": "finite numbers"}),
        (
            "record3d",
            metadata(lambda c: c.update(poses=c["poses"][:3], frameTimestamps=c["frameTimestamps"][:3])),
            {"rgbd/3.jpg": "the metadata has no pose of it"},
        ),
        ("transforms", content_of("room/transforms.json", lambda c: c["frames"][0].pop("file_path")), {"a frame": ""}),
        (
            "transforms",
            content_of("room/transforms.json", lambda c: c["frames"].append(c["frames"][0])),
            {"images/frame_10.png": "named twice"},
        ),
    ),
)  # fmt: skip
def test_one_bad_frame_is_left_out_and_named(import_recording, name, change, left_out):
    record = import_recording(name, change)[1]
    said = reasons(record["skipped"])
    assert said.keys() == left_out.keys() and all(left_out[key] in said[key] for key in said)


@pytest.mark.parametrize("scale", ("0", "-1000", "inf"))
def test_a_depth_scale_of_an_import_must_be_one(tmp_path, import_by_command, capsys, scale):
    assert import_by_command("open3d", tmp_path, f"--depth-scale={scale}") == (1, None)
    assert "depth_scale must be units in a metre" in capsys.readouterr().err


def test_an_array_that_claims_more_than_its_file_costs_its_depth_alone(import_recording):
    def claim(folder) -> None:
        path = folder / "depth/000001.npy"
        said, claimed = b"(120, 160), }       ", b"(99999999, 99999), }"
        assert len(said) == len(claimed) and said in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(said, claimed))

    code, record = import_recording("stray_arrays", claim)
    assert code == 0 and record["frames"] == 4
    (reason,) = reasons(record["without_depth"]).values()
    assert "000001.npy cannot be read" in reason


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="root may look everywhere unless setpriv takes that away")
def test_a_folder_that_may_not_be_read_is_not_said_to_be_empty(tmp_path):
    (tmp_path / "walk").mkdir(mode=0o000)
    rights = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    command = [*rights, sys.executable, "-m", "dvmvs_core", "import", "stray", tmp_path / "walk", tmp_path / "out"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f"dvmvs import: {tmp_path / 'walk'} cannot be read: Permission denied"


def test_of_several_models_of_colmap_one_must_be_named(tmp_path, import_recording, import_by_command, capsys):
    def twice(folder) -> None:
        shutil.copytree(folder / "sparse/0", folder / "sparse/1")

    assert import_recording("colmap_text", twice) == (1, None)
    assert "holds 2 models (0, 1), each with axes and a scale of its own" in capsys.readouterr().err
    for model in ("0", "1"):
        assert import_by_command("colmap", tmp_path / "in/sparse" / model, "--scale", 3)[0] == 0
