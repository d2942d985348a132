# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Recordings that are incomplete or damaged: what is left out is named with its reason, and nothing is half-written."""

from __future__ import annotations

import json
import struct
import sys
import zlib

import cv2
import lzfse
import numpy as np
import pytest

from dvmvs_core.cli.main import main
from dvmvs_core.data.importers.lzfse import _blocks, inflate_lzfse
from dvmvs_core.data.importers.options import TransformsOptions
from dvmvs_core.data.importers.transforms_json import TransformsJson
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import DamagedError, DataError

IMAGE = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8), (80, 60))
EYE = np.eye(4).tolist()


def png(path, image=IMAGE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


@pytest.fixture
def room(tmp_path):
    """A transforms.json of four frames, two with depth."""
    frames = []
    for i in range(4):
        png(tmp_path / f"room/images/{i}.png")
        frames.append({"file_path": f"images/{i}.png", "transform_matrix": EYE})
    for i in range(2):
        png(tmp_path / f"room/depth/{i}.png", np.full((60, 80), 1500, np.uint16))
        frames[i]["depth_file_path"] = f"depth/{i}.png"
    content = {"fl_x": 70, "cx": 40, "cy": 30, "frames": frames}
    return tmp_path / "room", content


def run(folder, content, tmp_path, *options) -> tuple[int, dict | None]:
    """The exit code, and what the finished scene's record says."""
    (folder / "transforms.json").write_text(json.dumps(content))
    code = main(["import", "transforms", str(folder), str(tmp_path / "out"), *options])
    record = tmp_path / "out/room/export.json"
    return code, json.loads(record.read_text()) if record.exists() else None


def reasons(entries) -> dict[str, str]:
    return {entry["name"]: entry["reason"] for entry in entries}


def test_each_frame_that_is_left_out_says_why(room, tmp_path, capsys):
    folder, content = room
    (folder / "images/1.png").unlink()
    (folder / "images/2.png").write_bytes((folder / "images/3.png").read_bytes()[:-40])
    content["frames"][3]["transform_matrix"] = (np.diag((2.0, 2, 2, 1))).tolist()
    code, record = run(folder, content, tmp_path)
    assert code == 0 and record["frames"] == 1
    said = reasons(record["skipped"])
    assert "there is no" in said["images/1.png"] and "ends early" in said["images/2.png"]
    assert "rigid transform" in said["images/3.png"]
    assert "left out images/1.png: there is no" in capsys.readouterr().out


def test_a_broken_depth_image_leaves_the_frame_for_prediction(room, tmp_path):
    folder, content = room
    (folder / "depth/0.png").write_bytes(b"no image")
    _, record = run(folder, content, tmp_path)
    assert record["skipped"] == [] and record["frames"] == 4
    assert "must be a depth image" in reasons(record["without_depth"])["images/0.png"]
    sequence = open_sequence(tmp_path / "out/room")
    assert [item.sensor_depth is not None for item in sequence.items()] == [False, True, False, False]


def test_frames_are_read_one_by_one_when_they_are_wanted(room):
    folder, content = room
    (folder / "transforms.json").write_text(json.dumps(content))
    dataset = TransformsJson(False, TransformsOptions())
    frames = dataset.open(dataset.find(folder)[0]).frames(1)
    assert next(frames).image.shape == (60, 80, 3)
    (folder / "images/1.png").unlink()
    assert "cannot be read" in next(frames).reason


@pytest.mark.parametrize(
    ("change", "said"),
    (
        (lambda content: content.update(frames=[]), "must hold a list of frames"),
        (lambda content: content.pop("fl_x"), "neither fl_x nor camera_angle_x"),
        (lambda content: content.update(fl_x="wide"), "fl_x, cx, cy"),
        (lambda content: content.update(camera_model="EQUIRECTANGULAR"), "camera_model must be OPENCV"),
        (lambda content: content.update(fl_x=-5), "intrinsics"),
    ),
)
def test_what_is_wrong_with_all_frames_ends_the_import_with_its_cause(room, tmp_path, capsys, change, said):
    folder, content = room
    change(content)
    code, record = run(folder, content, tmp_path)
    assert code == 1 and record is None
    assert said in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == []


def test_clocks_that_do_not_meet_are_named_with_their_times(tmp_path, capsys):
    png(tmp_path / "walk/1700000000.0.png")
    (tmp_path / "poses.txt").write_text("1.0 0 0 0 0 0 0 1\n2.0 0 0 0 0 0 0 1\n")
    arguments = ["--poses", str(tmp_path / "poses.txt"), "--intrinsics", "70", "70", "40", "30"]
    assert main(["import", "trajectory", str(tmp_path / "walk"), str(tmp_path / "out"), *arguments]) == 1
    error = capsys.readouterr().err
    assert "from 1700000000.000 to 1700000000.000 s" in error and "from 1.000 to 2.000 s" in error


def test_images_outside_of_the_trajectory_say_so(tmp_path):
    for second in ("1.5", "2.5"):
        png(tmp_path / f"walk/{second}.png")
    (tmp_path / "poses.txt").write_text("1.0 0 0 0 0 0 0 1\n2.0 0 0 0 0 0 0 1\n")
    arguments = ["--poses", str(tmp_path / "poses.txt"), "--intrinsics", "70", "70", "40", "30", "--max-gap-ms", "600"]
    assert main(["import", "trajectory", str(tmp_path / "walk"), str(tmp_path / "out"), *arguments]) == 0
    record = json.loads((tmp_path / "out/walk/export.json").read_text())
    assert reasons(record["skipped"]) == {"2.5.png": "no pose within 600 ms before and after it"}


def test_images_without_times_are_refused_by_name(tmp_path, capsys):
    png(tmp_path / "walk/IMG_0007.png")
    (tmp_path / "poses.txt").write_text("1.0 0 0 0 0 0 0 1\n")
    arguments = ["--poses", str(tmp_path / "poses.txt"), "--intrinsics", "70", "70", "40", "30"]
    assert main(["import", "trajectory", str(tmp_path / "walk"), str(tmp_path / "out"), *arguments]) == 1
    assert "images must be named by increasing times" in capsys.readouterr().err


def test_colmap_asks_for_the_scale(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["import", "colmap", str(tmp_path), str(tmp_path / "out")])
    assert "--scale" in capsys.readouterr().err


@pytest.mark.parametrize("cut", (4, 30, 70, 90, 120))
def test_a_binary_model_that_was_cut_off_says_so(tmp_path, capsys, cut):
    (tmp_path / "images").mkdir()
    image = struct.pack("<QI7dI", 2, 1, 1, 0, 0, 0, 0, 0, 0, 1) + b"0.png\0" + struct.pack("<Qddq", 1, 0, 0, -1)
    (tmp_path / "images.bin").write_bytes(image[:cut])
    (tmp_path / "cameras.bin").write_bytes(struct.pack("<QIiQQ3d", 1, 1, 0, 80, 60, 70, 40, 30))
    assert main(["import", "colmap", str(tmp_path), str(tmp_path / "out"), "--scale", "1"]) == 1
    assert "cut off" in capsys.readouterr().err


def test_a_colmap_camera_that_is_unknown_names_the_way_out(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "images.txt").write_text("1 1 0 0 0 0 0 0 1 0.png\n\n")
    (tmp_path / "cameras.txt").write_text("1 FOV 80 60 70 70 40 30 0.9\n")
    assert main(["import", "colmap", str(tmp_path), str(tmp_path / "out"), "--scale", "1"]) == 1
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
    stream = lzfse.compress(bytes(20_000_000))
    monkeypatch.setattr(lzfse, "decompress", lambda data: pytest.fail("it was inflated"))
    with pytest.raises(DamagedError, match="must hold 64 bytes; it holds 20000000"):
        inflate_lzfse(stream, 64)


def test_without_lzfse_its_package_is_named(monkeypatch):
    stream = lzfse.compress(b"depth " * 40)
    monkeypatch.setitem(sys.modules, "lzfse", None)
    with pytest.raises(DataError, match="pip install lzfse"):
        inflate_lzfse(stream, 240)


def test_a_video_that_is_none_and_poses_that_are_none_say_so(tmp_path, capsys):
    (tmp_path / "rgb.mp4").write_bytes(b"nothing")
    (tmp_path / "odometry.csv").write_text("time, x\n")
    assert main(["import", "stray", str(tmp_path), str(tmp_path / "out")]) == 1
    assert "cannot be opened as a video" in capsys.readouterr().err


def test_of_the_models_of_a_workspace_the_one_with_images_is_taken(tmp_path):
    """COLMAP keeps the images of its own model elsewhere, and the undistorted ones in dense/0."""
    for place, camera in (
        ("sparse/0", "1 SIMPLE_RADIAL 80 60 70 40 30 0.1"),
        ("dense/0/sparse", "1 PINHOLE 80 60 64 64 40 30"),
    ):
        (tmp_path / "work" / place).mkdir(parents=True)
        (tmp_path / "work" / place / "images.txt").write_text("1 1 0 0 0 0 0 0 1 a (1).png\n\n")
        (tmp_path / "work" / place / "cameras.txt").write_text(f"{camera}\n")
    png(tmp_path / "work/dense/0/images/a (1).png")
    assert main(["import", "colmap", str(tmp_path / "work"), str(tmp_path / "out"), "--scale", "2"]) == 0
    assert open_sequence(tmp_path / "out/work").K[0, 0] == 64
