# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What the camera of a bag shows, by the mask next to its images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from bag_recordings import SECOND, SUFFIX
from format_writers import encoded

from dvmvs_core.data.bags.bag_sequence import BagTopics
from dvmvs_core.data.bags.bag_writer import write_bag
from dvmvs_core.data.lens.camera_info import camera_model
from dvmvs_core.data.lens.rectification import Rectifier
from dvmvs_core.data.open_sequence import open_sequence

TENTH = SECOND // 10
MASK = np.full((4, 6), 255, np.uint8)
MASK[2:] = 0
OTHER = np.ascontiguousarray(MASK[::-1])
TOPIC = "/camera/valid_mask"


def mask(bag, stamp_ns, pixels=MASK, topic=TOPIC, encoding="mono8", log_ns=None):
    bag.image(stamp_ns, pixels, topic, encoding, log_ns=log_ns)


def images(bag, tenths=range(1, 5), **named):
    for tenth in tenths:
        bag.image(SECOND + tenth * TENTH, **named)


def seen(bag) -> list:
    return [item.valid_mask for item in bag.items()]


def all_are(bag, pixels) -> bool:
    return all(np.array_equal(one, pixels > 0) for one in seen(bag))


@pytest.mark.parametrize("stamp_ns", (0, SECOND, 100 * SECOND), ids=("none", "before", "after"))
def test_one_mask_hides_in_every_image_whatever_its_stamp(posed, stamp_ns):
    mask(posed, stamp_ns, log_ns=SECOND)
    images(posed)
    bag = posed.open()
    assert all_are(bag, MASK) and len(seen(bag)) == 4
    assert not bag.notes and not bag.faults


def test_a_grey_camera_and_its_mask_are_no_two_cameras(posed):
    mask(posed, SECOND)
    images(posed, pixels=np.full((4, 6), 90, np.uint8), encoding="mono8", topic="/camera/image")
    bag = posed.open()
    assert bag.image_topic == "/camera/image" and all_are(bag, MASK)


def test_a_mask_that_a_recorder_heard_late_holds_from_the_beginning(posed):
    images(posed, (1, 2))
    mask(posed, SECOND, log_ns=SECOND + 3 * TENTH)
    images(posed, (4,))
    bag = posed.open()
    assert all_are(bag, MASK) and not bag.notes


def test_a_first_mask_in_the_middle_of_a_bag_is_said_to_hold_from_the_beginning(posed):
    images(posed)
    mask(posed, 3 * SECOND + 6 * TENTH)
    bag = posed.open()
    assert all_are(bag, MASK)
    (note,) = bag.notes
    assert f"the first mask on {TOPIC} was recorded 2.5 s after the first image" in note


def test_a_mask_holds_until_the_next(posed):
    mask(posed, SECOND)
    images(posed, (1, 2))
    mask(posed, SECOND + 2 * TENTH + 1, OTHER)
    images(posed, (3, 4))
    found = seen(posed.open())
    assert [bool(one[0, 0]) for one in found] == [True, True, False, False]
    assert found[0] is found[1] and found[2] is found[3]


BAD = {
    "all 0": ({"pixels": np.zeros((4, 6), np.uint8)}, "it is 0 everywhere"),
    "encoding": (
        {"pixels": np.ones((4, 6), np.uint16), "encoding": "16UC1"},
        "its encoding must be mono8; got '16UC1'",
    ),
    "size": (
        {"pixels": np.zeros((8, 12), np.uint8) + np.eye(8, 12, dtype=np.uint8)},
        "size of the images, 6×4; got 12×8",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_mask_hides_nothing_and_is_said_once(posed, caplog, kind):
    bad, said = BAD[kind]
    mask(posed, SECOND, **bad)
    images(posed)
    bag = posed.open()
    assert seen(bag) == [None] * 4 == seen(bag)
    assert said in bag.faults[TOPIC]
    assert sum(said in record.message and "is not used" in record.message for record in caplog.records) == 1
    assert kind == "size" or any(said in note for note in bag.notes), "known before the first image"


@pytest.mark.parametrize("kind", ("all 0", "encoding"))
def test_a_bad_mask_among_good_ones_is_passed_over(posed, kind):
    bad, said = BAD[kind]
    mask(posed, SECOND)
    images(posed, (1, 2))
    mask(posed, SECOND + 2 * TENTH + 1, **bad)
    images(posed, (3, 4))
    bag = posed.open()
    assert all_are(bag, MASK), "the one before it stays"
    assert said in bag.faults[TOPIC] and "message 1" in bag.faults[TOPIC]


def test_each_camera_has_its_own_mask(posed):
    for side, pixels in (("left", MASK), ("right", OTHER)):
        posed.info(0, f"/{side}/camera_info")
        mask(posed, SECOND, pixels, f"/{side}/valid_mask")
        images(posed, topic=f"/{side}/image_rect")
    images(posed)  # a third camera, that shows everything
    for side, pixels in (("left", MASK), ("right", OTHER)):
        bag = posed.open(BagTopics(image_topic=f"/{side}/image_rect"))
        assert all_are(bag, pixels) and not bag.notes
    third = posed.open(BagTopics(image_topic="/camera/image_rect"))
    assert seen(third) == [None] * 4 and not third.notes


def test_a_mask_elsewhere_is_not_used_and_said(posed):
    mask(posed, SECOND, topic="/valid_mask")
    images(posed)
    bag = posed.open()
    assert seen(bag) == [None] * 4
    assert f"the mask on /valid_mask is not used: that of /camera/image_rect would be on {TOPIC}" in bag.notes[0]


def test_a_mask_of_another_type_is_said(posed):
    posed.info(SECOND, TOPIC)
    images(posed)
    bag = posed.open(BagTopics(camera_info_topic="/camera/camera_info"))
    assert "must be of type sensor_msgs/msg/Image to hide depth; got sensor_msgs/msg/CameraInfo" in bag.notes[0]


def test_compressed_masks_of_compressed_images(posed):
    posed.compressed(SECOND, encoded(".png", MASK), "mono8; png compressed ", f"{TOPIC}/compressed")
    jpeg = encoded(".jpg", np.zeros((4, 6, 3), np.uint8))
    for tenth in range(1, 5):
        posed.compressed(SECOND + tenth * TENTH, jpeg, "jpeg")
    bag = posed.open()
    assert bag.image_topic == "/camera/image_rect/compressed" and all_are(bag, MASK)


BLACK, SHOWN = np.zeros_like(MASK), (MASK > 0).astype(np.uint8)
PNGS = {
    "1 of 255": SHOWN,
    "16 bits, 1 of 65535": SHOWN.astype(np.uint16),
    "blue": np.dstack((SHOWN, BLACK, BLACK)),
    "opaque": np.dstack((MASK, MASK, MASK, BLACK + 255)),
    "transparent": np.dstack((BLACK + 90, BLACK + 90, BLACK + 90, MASK)),
}


@pytest.mark.parametrize("kind", PNGS)
def test_a_png_says_the_same_in_a_folder_and_in_a_bag(posed, make_scene, kind):
    png = encoded(".png", PNGS[kind])
    posed.compressed(SECOND, png, "png", f"{TOPIC}/compressed")
    images(posed)
    folder = make_scene(size=(4, 6), depth=False)
    np.savetxt(folder / "K.txt", ((5.0, 0.0, 3.0), (0.0, 5.0, 2.0), (0.0, 0.0, 1.0)))
    (folder / "mask.png").write_bytes(png)
    for sequence in (posed.open(), open_sequence(folder)):
        assert all_are(sequence, MASK) and not sequence.faults


def test_a_mask_of_raw_images_is_rectified_as_they_are(recording):
    recording.transform(SECOND).transform(2 * SECOND)
    lens = (0.3, 0.1, 0.0, 0.0, 0.0)
    k = np.array((20.0, 0, 11.5, 0, 20, 8, 0, 0, 1))
    recording.info(0, width=24, height=18, k=k, d=lens)
    pixels = np.full((18, 24), 255, np.uint8)
    pixels[12:, 6:15] = 0
    mask(recording, SECOND, pixels)
    images(recording, pixels=np.full((18, 24, 3), 200, np.uint8), topic="/camera/image_raw")
    rectifier = Rectifier(camera_model(18, 24, k, np.zeros(12), lens), (18, 24))
    expected = rectifier.valid_mask(pixels > 0)
    assert not expected.all() and expected.sum() < rectifier.in_view.sum()
    bag = recording.open()
    assert all_are(bag, expected)
    assert all_are(bag.fitted((18, 24), False), expected)
    assert all_are(recording.open(BagTopics(rectify="never")), pixels), "as it was recorded, for who rectifies himself"


@pytest.mark.parametrize("storage", SUFFIX)
def test_a_folders_mask_travels_in_a_bag_and_on(make_scene, tmp_path, storage):
    folder = make_scene()
    pixels = np.full((36, 48), 255, np.uint8)
    pixels[:5] = 0
    cv2.imwrite(str(folder / "mask.png"), pixels)
    write_bag(open_sequence(folder), tmp_path / "bag", storage)
    bag = open_sequence(tmp_path / "bag")
    assert all_are(bag, pixels) and not bag.notes and not bag.faults
    assert bag._files.topics[TOPIC].count == 1, "once, and not with every image"
    write_bag(bag, tmp_path / "again", storage)
    assert all_are(open_sequence(tmp_path / "again"), pixels)


def test_who_has_no_mask_gets_no_topic_of_masks(make_scene, tmp_path):
    write_bag(open_sequence(make_scene()), tmp_path / "bag")
    assert TOPIC not in open_sequence(tmp_path / "bag")._files.topics
