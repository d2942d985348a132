# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from format_writers import encoded

from dvmvs_core.data.encodings.image_message import decode_compressed
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.scene_folder import SceneSequence, read_poses
from dvmvs_core.errors import DataError
from dvmvs_core.keyframes import KeyframeBuffer, KeyframeConfig, KeyframeDecision


def rewrite_poses(scene, change) -> None:
    poses = np.loadtxt(scene / "poses.txt")
    np.savetxt(scene / "poses.txt", change(poses))


def rename(folder, new_name) -> None:
    for file in sorted(folder.iterdir()):
        file.rename(new_name(file))


def read_all(scene) -> list:
    return list(open_sequence(scene).items())


def test_frames_come_in_order_with_everything(make_scene):
    scene = make_scene(frames=4)
    sequence = open_sequence(scene)
    items = list(sequence.items())
    assert isinstance(sequence, SceneSequence)
    assert (len(sequence), sequence.name, sequence.has_depth) == (4, "scene", True)
    assert sequence.depth_name == "sensor depth"
    assert [item.name for item in items] == ["00003.png", "00004.png", "00005.png", "00006.png"]
    assert [item.frame.index for item in items] == [0, 1, 2, 3]
    bgr = cv2.imread(str(scene / "images" / "00004.png"))
    assert np.array_equal(items[1].frame.image, bgr[..., ::-1])
    millimetres = cv2.imread(str(scene / "depth" / "00004.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(items[1].sensor_depth, (millimetres / 1000.0).astype(np.float32))
    assert items[1].frame.world_T_cam == pytest.approx(np.loadtxt(scene / "poses.txt")[1].reshape(4, 4))


@pytest.mark.parametrize("record", ['{"made by": "dvmvs export"}', "[]", "{", ""])
def test_only_a_renderer_knows_true_depth(make_scene, record):
    scene = make_scene(frames=3)
    (scene / "export.json").write_text(record)
    assert open_sequence(scene).depth_name == "sensor depth"


def test_depth_is_optional_for_the_scene_and_for_a_frame(make_scene):
    assert not open_sequence(make_scene("without", depth=False)).has_depth
    scene = make_scene("holey", frames=3)
    (scene / "depth" / "00004.png").unlink()
    assert [item.sensor_depth is not None for item in read_all(scene)] == [True, False, True]
    assert [item.index for item in open_sequence(scene).sensor_depths({0, 1, 2})] == [0, 2]
    assert all(item.sensor_depth is None for item in open_sequence(scene).items(depth=False))


def test_rotations_of_few_digits_become_exact(make_scene):
    scene = make_scene(frames=3)
    rewrite_poses(scene, lambda poses: np.round(poses, 5))
    for pose in read_poses(scene / "poses.txt"):
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-15)
    assert np.abs(read_poses(scene / "poses.txt").reshape(3, 16) - np.loadtxt(scene / "poses.txt")).max() < 1e-5


def test_lost_tracking_is_no_error(make_scene):
    scene = make_scene(frames=3)

    def lose(poses):
        poses[1] = np.nan
        poses[2, 3] = np.inf
        return poses

    rewrite_poses(scene, lose)
    buffer = KeyframeBuffer(KeyframeConfig())
    decisions = [buffer.add(item.frame.world_T_cam, None) for item in read_all(scene)]
    assert decisions[1:] == [KeyframeDecision.INVALID_POSE] * 2


def edit(path, change) -> None:
    path.write_bytes(change(path.read_bytes()))


SCENE_K = np.array(((40.0, 0.0, 23.5), (0.0, 41.0, 17.5), (0.0, 0.0, 1.0)))
BROKEN = {
    "an image is missing": (lambda s: (s / "images/00004.png").unlink(), "6 lines for 5 images: images are missing"),
    "there is no image": (
        lambda s: [file.unlink() for file in (s / "images").iterdir()],
        "images must hold the images as png or jpg; found none",
    ),
    "images are of another kind of file": (
        lambda s: rename(s / "images", lambda file: file.with_suffix(".heic")),
        "as png or jpg; found none, but 6 .heic",
    ),
    "every image is cut off": (
        lambda s: [edit(file, lambda data: data[:-300]) for file in (s / "images").iterdir()],
        "none of 6 images can be read; the first: .*00003.png.*ends early",
    ),
    "depth has another size": (
        lambda s: [cv2.imwrite(str(file), np.zeros((30, 40), np.uint16)) for file in (s / "depth").iterdir()],
        "depth/00003.png must have the size of its image, 48×36; got 40×30",
    ),
    "poses are too few": (lambda s: rewrite_poses(s, lambda p: p[:4]), "4 lines for 6 images: lines are missing"),
    "poses have a header": (
        lambda s: (s / "poses.txt").write_text("m00 m01 m02\n" + (s / "poses.txt").read_text()),
        "7 lines for 6 images: images are missing; .*line 1: could not convert",
    ),
    "poses are blocks of four lines": (
        lambda s: (s / "poses.txt").write_text("1 0 0 0\n" * 24),
        "got 4, as of a 4×4 matrix over four lines. Write all of it on one line",
    ),
    "images are there in two formats": (
        lambda s: cv2.imwrite(str(s / "images/00004.jpg"), np.zeros((36, 48, 3), np.uint8)),
        "images must hold each image once; it holds 00004 as png and as jpg. Remove one",
    ),
    "every pose has 12 numbers": (
        lambda s: rewrite_poses(s, lambda p: p[:, :12]),
        "line 1 must hold 16 numbers; got 12, as of a 3×4 matrix. Add 0 0 0 1",
    ),
    "poses are a trajectory of TUM": (
        lambda s: rewrite_poses(s, lambda p: p[:, :8]),
        "got 8, as of a TUM trajectory .* Write the 4×4 matrix",
    ),
    "every pose is mirrored": (
        lambda s: rewrite_poses(s, lambda p: p * np.where(np.arange(16) % 4 == 0, -1.0, 1.0)),
        "poses.txt, line 1: world_T_cam must hold a rotation",
    ),
    "poses are written column by column, of which the first is the identity": (
        lambda s: rewrite_poses(s, lambda p: np.eye(4).ravel() + 0.1 * np.arange(6)[:, None] * (np.arange(16) == 12)),
        r"line 2: .* the row 0 0 0 1; .*It is written column by column: transpose it",
    ),
    "the only pose is words": (lambda s: (s / "poses.txt").write_text("one two three\n"), "line 1: could not convert"),
    "there are no poses": (lambda s: (s / "poses.txt").unlink(), "poses.txt"),
    "K has another shape": (lambda s: np.savetxt(s / "K.txt", np.eye(3, 4)), "3 lines of 3 numbers"),
    "K has no focal length": (lambda s: np.savetxt(s / "K.txt", np.diag((0.0, 40, 1))), "K.txt.*positive focal"),
    "K has a negative focal length": (lambda s: np.savetxt(s / "K.txt", np.diag((40, -40.0, 1))), "positive focal"),
    "K is not a number": (lambda s: np.savetxt(s / "K.txt", np.diag((np.nan, 40, 1))), "K must be finite"),
    "stamps are too few": (lambda s: (s / "stamps.txt").write_text("1\n2\n"), "2 lines for 6 images"),
    "a stamp is no time": (lambda s: (s / "stamps.txt").write_text("1\n2\nnan\n4\n5\n6\n"), "line 3 must be a time"),
    "a stamp that ROS cannot hold": (
        lambda s: (s / "stamps.txt").write_text("\n".join(str(3_000_000_000 + i) for i in range(6))),
        "stamps.txt, line 1 must be a time, in s as its other lines; got '3000000000'",
    ),
    "stamps go back": (lambda s: (s / "stamps.txt").write_text("1\n2\n3\n2.5\n4\n5\n"), "line 4: stamps must increase"),
}


for scale in ("", "0", "-1000", "inf", "1000 5000"):
    BROKEN[f"the scale of depth is {scale!r}"] = (
        lambda s, scale=scale: (s / "depth_scale.txt").write_text(scale),
        "must hold one number, the units of depth in a metre",
    )


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_scene_is_one_clear_error(make_scene, case):
    scene = make_scene()
    change, said = BROKEN[case]
    change(scene)
    with pytest.raises(DataError, match=said):
        read_all(scene)


def test_what_cannot_be_read_is_left_out_and_named_and_the_rest_is_used(make_scene):
    scene = make_scene(frames=9)
    edit(scene / "images/00004.png", lambda data: data[:-300])
    edit(scene / "images/00005.png", lambda data: b"")
    edit(scene / "images/00006.png", lambda data: data[:60] + b"damaged" + data[67:])
    edit(scene / "depth/00007.png", lambda data: data[:-300])
    cv2.imwrite(str(scene / "depth/00008.png"), np.zeros((36, 48), np.uint8))
    (scene / "depth/00009.png").unlink()
    lines = (scene / "poses.txt").read_text().splitlines()
    lines[7], lines[8] = "one two three", " ".join(["nan"] * 16)
    (scene / "poses.txt").write_text("\n".join(lines))
    sequence = open_sequence(scene)
    for _ in range(2):  # a second pass counts nothing twice
        items = list(sequence.items())
        assert [item.name for item in items] == [f"{i:05d}.png" for i in (3, 7, 8, 9, 10, 11)]
        assert [item.frame.index for item in items] == [0, 4, 5, 6, 7, 8]
        assert [item.sensor_depth is not None for item in items] == [True, False, False, False, True, True]
        assert [bool(np.isfinite(item.frame.world_T_cam).all()) for item in items] == [True] * 4 + [False] * 2
        assert sequence.dropped == {"cannot be read": 3}
        assert sequence.unreadable == {1, 2, 3}
    said = {
        "images/00004.png": "ends early",
        "images/00005.png": "ends early",
        "images/00006.png": "is damaged",
        "depth/00007.png": "ends early",
        "depth/00008.png": "one-channel uint16 image of millimetres; got uint8",
        "depth/00009.png": "there is no sensor depth of images/00009.png",
        "poses.txt, line 8": "could not convert",
        "poses.txt, line 9": "tracking was lost",
    }
    assert sequence.faults.keys() == said.keys()
    for what, why in said.items():
        assert why in sequence.faults[what]
    assert [item.index for item in sequence.sensor_depths(range(9))] == [0, 1, 2, 3, 7, 8]


def test_depth_alone_is_read_though_the_first_image_cannot_be(make_scene):
    scene = make_scene(frames=3)
    edit(scene / "images/00003.png", lambda data: data[:-300])
    sequence = open_sequence(scene)
    assert [item.index for item in sequence.sensor_depths([1])] == [1]
    assert list(sequence.faults) == ["images/00003.png"]


def test_one_pose_that_is_scaled_is_left_out(make_scene):
    scene = make_scene()
    rewrite_poses(scene, lambda p: p * np.where(np.arange(6)[:, None] == 2, 1.1, 1.0))
    sequence = open_sequence(scene)
    assert [bool(np.isfinite(pose.world_T_cam).all()) for pose in sequence.poses()] == [True, True, False] + [True] * 3
    assert "world_T_cam must hold a rotation" in sequence.faults["poses.txt, line 3"]
    with pytest.raises(DataError, match="line 3: world_T_cam must hold a rotation"):
        read_poses(scene / "poses.txt")


def test_depth_of_another_size_is_refused_without_its_image_too(make_scene):
    scene = make_scene(frames=3)
    for file in (scene / "depth").iterdir():
        cv2.imwrite(str(file), np.zeros((30, 40), np.uint16))
    with pytest.raises(DataError, match="depth/00004.png must have the size of its image, 48×36; got 40×30"):
        next(open_sequence(scene).sensor_depths([1]))


@pytest.mark.parametrize("odd", (3, 5))
def test_one_depth_image_of_another_size_costs_itself_alone(make_scene, odd):
    scene = make_scene(frames=6)
    cv2.imwrite(str(scene / f"depth/{odd:05d}.png"), np.zeros((30, 40), np.uint16))
    sequence = open_sequence(scene)
    assert [item.frame.index for item in sequence.items() if item.sensor_depth is None] == [odd - 3]
    said = f"depth/{odd:05d}.png must have the size of its image, 48×36; got 40×30. Register depth"
    assert said in sequence.faults[f"depth/{odd:05d}.png"]
    assert [depth.index for depth in open_sequence(scene).sensor_depths(range(6))] == [
        *range(odd - 3),
        *range(odd - 2, 6),
    ]


def test_a_cut_off_jpeg_is_left_out_although_opencv_fills_it_with_grey(make_scene):
    scene = make_scene(frames=2)
    image = cv2.imread(str(scene / "images" / "00004.png"))
    (scene / "images" / "00004.png").unlink()
    jpeg = scene / "images" / "00004.jpg"
    cv2.imwrite(str(jpeg), image)
    assert len(read_all(scene)) == 2
    edit(jpeg, lambda data: data[: len(data) // 2])
    assert cv2.imread(str(jpeg)) is not None
    assert [item.name for item in read_all(scene)] == ["00003.png"]


@pytest.mark.parametrize(
    ("name", "said"),
    (
        ("nothing", "does not exist"),
        ("empty", "neither a scene folder"),
        ("old.bag", "cannot be read as a ROS 1 bag"),
        ("none.bag", "cannot be read as a ROS 1 bag"),
        ("/dev/null", "neither a file nor a folder"),
        (
            "another",
            r"nor a rosbag2 \(metadata.yaml, \*.mcap or \*.db3\); it holds 2 .txt, 1 .heic\..*dvmvs import",
        ),
    ),
)
def test_what_is_no_sequence_is_told_what_would_be_one(tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    (tmp_path / "none.bag").write_bytes(b"nothing")
    (tmp_path / "another").mkdir()
    for file in ("rgb.txt", "groundtruth.txt", "a.heic", ".DS_Store", "._x.mcap"):
        (tmp_path / "another" / file).touch()
    with pytest.raises(DataError, match=said):
        open_sequence(tmp_path / name)


STORED = np.random.default_rng(3).integers(0, 256, (36, 48, 3), dtype=np.uint8)
SMOOTH = cv2.resize(STORED[:9, :12], (48, 36), interpolation=cv2.INTER_CUBIC)


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG whose EXIF asks for an orientation (1 to 8)."""
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x0112, 3, 1, orientation, 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_taken_as_they_are_stored_whatever_exif_says(make_scene, orientation, caplog):
    scene = make_scene(frames=2, depth=False)
    jpeg = encoded(".jpg", SMOOTH[..., ::-1])
    for file in sorted((scene / "images").iterdir()):
        file.unlink()
        file.with_suffix(".jpg").write_bytes(with_exif(jpeg, orientation))
    for item in read_all(scene):
        assert np.array_equal(item.frame.image, decode_compressed("jpeg", with_exif(jpeg, orientation)))
        assert np.abs(item.frame.image.astype(int) - SMOOTH).mean() < 8
    assert caplog.text.count("asks in EXIF to be turned or mirrored") == (orientation > 1)


def test_images_of_another_size_are_left_out_and_named_also_where_the_first_is_one(make_scene):
    scene = make_scene(frames=6)
    for i in (3, 6):
        cv2.imwrite(str(scene / f"images/{i:05d}.png"), np.zeros((72, 96, 3), np.uint8))
    sequence = open_sequence(scene)
    assert [item.name for item in sequence.items()] == [f"{i:05d}.png" for i in (4, 5, 7, 8)]
    assert (sequence.dropped, sequence.unreadable) == ({"of another size": 2}, {0, 3})
    assert "the size of the other images, 48×36, whose K is in K.txt; got 96×72" in sequence.faults["images/00003.png"]


@pytest.mark.parametrize("bits", (10, 12, 14))
def test_images_of_sixteen_bits_are_as_bright_as_their_camera_made_them(make_scene, bits):
    scene = make_scene(frames=2, depth=False)
    for file in sorted((scene / "images").iterdir()):
        cv2.imwrite(str(file), (SMOOTH[..., ::-1] / 255 * ((1 << bits) - 1)).round().astype(np.uint16))
    for item in read_all(scene):
        np.testing.assert_allclose(item.frame.image.astype(int), SMOOTH, atol=1)


@pytest.mark.parametrize(("unit", "ns"), (("ns", 1), ("us", 10**3), ("ms", 10**6), ("s", 10**9)))
@pytest.mark.parametrize("start_s", (0, 5, 1_700_000_000))
@pytest.mark.parametrize("step_ms", (5, 40, 1000))
def test_stamps_in_any_unit_are_told_by_their_steps(make_scene, unit, ns, start_s, step_ms):
    scene = make_scene(frames=6, depth=False)
    stamps_ns = [start_s * 10**9 + i * step_ms * 10**6 for i in range(6)]
    lines = [f"{stamp // ns}.{str(stamp % ns).zfill(9)}" if unit == "s" else str(stamp // ns) for stamp in stamps_ns]
    (scene / "stamps.txt").write_text("\n".join(lines))
    sequence = open_sequence(scene)
    assert [pose.stamp_ns for pose in sequence.poses()] == stamps_ns
    assert sequence.notes == (
        [] if unit == "s" else [f"{scene}/stamps.txt is taken as {unit}, by the steps from line to line"]
    )


@pytest.mark.parametrize(
    ("text", "stamps_ns"),
    (
        (None, [1_000_000_000, 1_033_333_333, 1_066_666_667]),
        ("1.5\n1.6\n1700000000.250000001\n", [1_500_000_000, 1_600_000_000, 1_700_000_000_250_000_001]),
        ("1700000000\n1700000060\n1700000120\n", [(1_700_000_000 + 60 * i) * 10**9 for i in range(3)]),
    ),
    ids=("none: 30 Hz from 1 s", "exact nanoseconds", "a slow series by the clock since 1970"),
)
def test_stamps_are_read_where_there_are_any(make_scene, text, stamps_ns):
    scene = make_scene(frames=3, depth=False)
    if text:
        (scene / "stamps.txt").write_text(text)
    assert [pose.stamp_ns for pose in open_sequence(scene).poses()] == stamps_ns


def test_K_of_another_resolution_is_refused_or_named(make_scene):
    scene = make_scene(frames=2)
    np.savetxt(scene / "K.txt", np.diag((4.0, 4.0, 1.0)) @ SCENE_K)
    with pytest.raises(DataError, match=r"K.txt: the principal point \(94, 70\) must be within the image of 48×36; K"):
        open_sequence(scene)
    np.savetxt(scene / "K.txt", np.diag((0.5, 0.5, 1.0)) @ SCENE_K)
    (note,) = open_sequence(scene).notes
    assert "K looks like that of 25×18: divide its first two rows by 0.512" in note
    off_centre = SCENE_K + ((0, 0, 9), (0, 0, -2), (0, 0, 0))
    np.savetxt(scene / "K.txt", off_centre)
    assert open_sequence(scene).notes == []


@pytest.mark.parametrize("suffix", (".npy", ".exr", ".jpg"))
def test_depth_of_another_kind_of_file_is_named(make_scene, suffix):
    scene = make_scene(frames=3)
    rename(scene / "depth", lambda file: file.with_suffix(suffix))
    sequence = open_sequence(scene)
    assert not sequence.has_depth
    (note,) = sequence.notes
    assert f"must hold depth as png of 16 bits, millimetres; none is read of 3 {suffix}" in note


def test_what_text_files_may_hold_beside_numbers_does_not_disturb(make_scene):
    scene = make_scene(frames=3)
    expected = read_all(scene)
    for name in ("poses.txt", "K.txt"):
        lines = (scene / name).read_text().splitlines()
        text = "\r\n".join(("# a heading", "", *(line.replace(" ", ", ") + "  # a remark" for line in lines), "", ""))
        (scene / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    K = " ".join((scene / "K.txt").read_text(encoding="utf-8-sig").replace("# a heading", "").split())
    for ours, theirs in zip(read_all(scene), expected, strict=True):
        assert np.array_equal(ours.frame.K, theirs.frame.K)
        assert np.array_equal(ours.frame.world_T_cam, theirs.frame.world_T_cam)
    (scene / "K.txt").write_text(" ".join(word for word in K.replace("# a remark", "").split()))
    assert np.array_equal(read_all(scene)[0].frame.K, expected[0].frame.K)


@pytest.mark.parametrize("units", (5000, 256.0))
def test_depth_may_have_other_units_than_millimetres(make_scene, units):
    scene = make_scene(frames=3)
    values = cv2.imread(str(scene / "depth" / "00004.png"), cv2.IMREAD_UNCHANGED)
    (scene / "depth_scale.txt").write_text(f"{units}  # units in a metre\n")
    (scene / "groundtruth.txt").write_text("")
    sequence = open_sequence(scene)
    assert sequence.notes == []
    np.testing.assert_allclose(list(sequence.items())[1].sensor_depth, values / units, rtol=1e-6)


def test_depth_beside_files_of_tum_is_said_to_be_read_as_millimetres(make_scene):
    scene = make_scene(frames=3)
    (scene / "groundtruth.txt").write_text("")
    (note,) = open_sequence(scene).notes
    assert "is read as millimetres, though groundtruth.txt" in note and "write 5000 into depth_scale.txt" in note


MASK = np.full((36, 48), 255, np.uint8)
MASK[:5] = 0


def test_a_mask_says_where_images_show_nothing(make_scene):
    folder = make_scene()
    (folder / "mask.png").write_bytes(encoded(".png", MASK))
    for item in SceneSequence(folder).items():
        np.testing.assert_array_equal(item.valid_mask, MASK > 0)


@pytest.mark.parametrize(
    ("content", "said"),
    (
        (encoded(".png", MASK[:-1]), r"mask.png must have the size of the images, .*36.*; got .*35"),
        (encoded(".png", 0 * MASK), "mask.png: it is 0 everywhere, so nothing would have depth"),
        (b"none", "mask.png must be a PNG that is 0 where images show nothing"),
        (encoded(".jpg", MASK), "mask.png: it must be a PNG; got a JPEG, which blurs where the mask ends"),
    ),
    ids=("another size", "0 everywhere", "no image", "a JPEG"),
)
def test_a_mask_that_is_none_is_refused(make_scene, content, said):
    folder = make_scene()
    (folder / "mask.png").write_bytes(content)
    with pytest.raises(DataError, match=said):
        SceneSequence(folder)


@pytest.mark.parametrize("name", ("mask.jpg", "Mask.PNG", "masks", "valid_mask.png"))
def test_a_mask_by_another_name_is_said(make_scene, name):
    folder = make_scene()
    (folder / name).mkdir()
    (note,) = SceneSequence(folder).notes
    assert f"{folder / name} is not read: one mask.png says what images do not show" in note
