# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""One recording in all its forms: folder, bag and node agree on pixels, poses and depths."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message
from rosbags.convert import convert
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from dvmvs_core.config import EngineConfig
from dvmvs_core.data.bags import bag_messages
from dvmvs_core.data.bags.bag_files import BagFiles, typestore
from dvmvs_core.data.bags.bag_writer import new_bag
from dvmvs_core.data.encodings.bit_depth import BitDepth
from dvmvs_core.data.encodings.inflate import zstd
from dvmvs_core.data.lens.camera_view import AUTO, Rectification
from dvmvs_core.data.lens.raw_depth import rectify_depth
from dvmvs_core.data.lens.valid_mask import apply_valid_mask, decode_mask
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.poses.quaternion import pose_matrix
from dvmvs_core.data.poses.transforms import TransformTree
from dvmvs_core.types import Frame
from dvmvs_ros.depth.frame_sync import FrameSync
from dvmvs_ros.depth.frame_timeline import FrameTimeline
from dvmvs_ros.messages.conversions import camera_from_message, depth_from_message, image_from_message, stamp_to_ns

FRAMES, SIZE = 12, (36, 48)
MASKS = "/camera/valid_mask"
IMAGES, DEPTHS, INFO = "/camera/image", "/camera/depth", "/camera/camera_info"
K = np.array(((40.0, 0.0, 23.5), (0.0, 41.0, 17.5), (0.0, 0.0, 1.0)))
FISHEYE = np.array((-0.05, 0.01, -0.004, 0.001))
STAMPS_NS = [1_700_000_000_000_000_000 + i * 33_333_333 for i in range(FRAMES)]
RANDOM = np.random.default_rng(0)
PICTURES = [cv2.resize(RANDOM.integers(0, 256, (9, 12, 3), dtype=np.uint8), SIZE[::-1]) for _ in range(FRAMES)]
MILLIMETRES = [RANDOM.integers(500, 4000, SIZE).astype(np.uint16) for _ in range(FRAMES)]
QUATERNIONS = RANDOM.normal(size=(FRAMES, 4))
QUATERNIONS /= np.linalg.norm(QUATERNIONS, axis=1, keepdims=True)
PLACES = RANDOM.normal(size=(FRAMES, 3))
ARM = np.full(SIZE, 255, np.uint8)
ARM[22:, 12:30] = 0


def twelve_bits(picture: np.ndarray) -> np.ndarray:
    return (picture.astype(np.float64) / 255 * 4095).round().astype(np.uint16)


def mosaic(picture: np.ndarray) -> np.ndarray:
    """What a sensor sees whose first four pixels are red, green, green and blue."""
    seen = picture[..., 1].copy()
    seen[::2, ::2], seen[1::2, 1::2] = picture[::2, ::2, 0], picture[1::2, 1::2, 2]
    return seen


def turned(jpeg: bytes) -> bytes:
    """A JPEG whose EXIF asks viewers to turn it upside down."""
    segment = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x0112, 3, 1, 3, 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def jpeg(picture: np.ndarray) -> bytes:
    return turned(cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes())


def raw(encoding: str, pixels: Callable[[np.ndarray], np.ndarray] = np.array) -> Callable[[int, np.ndarray], object]:
    return lambda stamp_ns, picture: bag_messages.image(stamp_ns, "camera", pixels(picture), encoding)


def compressed(image_format: str, encode: Callable[[np.ndarray], bytes]) -> Callable[[int, np.ndarray], object]:
    def make(stamp_ns: int, picture: np.ndarray) -> object:
        data = np.frombuffer(encode(picture), np.uint8)
        header = bag_messages.header(stamp_ns, "camera")
        return bag_messages.new("sensor_msgs/msg/CompressedImage", header=header, format=image_format, data=data)

    return make


def unbent(pixels: np.ndarray, interpolation: int) -> np.ndarray:
    """An image of the fisheye as OpenCV rectifies it."""
    maps = cv2.fisheye.initUndistortRectifyMap(K, FISHEYE, np.eye(3), K, SIZE[::-1], cv2.CV_32FC1)
    return cv2.remap(pixels, *maps, interpolation=interpolation)


def stored(picture: np.ndarray) -> bytes:
    return png(picture[..., ::-1])


def stored_twelve_bits(picture: np.ndarray) -> bytes:
    return stored(twelve_bits(picture))


def stored_mosaic(picture: np.ndarray) -> bytes:
    return png(cv2.cvtColor(mosaic(picture), cv2.COLOR_BayerBG2BGR))


def stored_unbent(picture: np.ndarray) -> bytes:
    return stored(unbent(picture, cv2.INTER_LINEAR))


class Form(NamedTuple):
    """What a camera records as a message, and what a folder holds of it.

    Attributes:
        message: makes it of a stamp and a picture.
        file: makes an image file of a picture.
        suffix: that file's.
        topic: where the messages are.
        lens: coefficients of an equidistant lens, or none.
        storage: of the bag.
        mask: what its images show, or none.
    """

    message: Callable[[int, np.ndarray], object] = raw("rgb8")
    file: Callable[[np.ndarray], bytes] = stored
    suffix: str = ".png"
    topic: str = IMAGES
    lens: np.ndarray | None = None
    storage: str = "mcap"
    mask: np.ndarray | None = None


FORMS = {
    "rgb8": Form(),
    "EXIF": Form(compressed("jpeg", jpeg), jpeg, ".jpg", f"{IMAGES}/compressed"),
    "16 bits": Form(raw("rgb16", twelve_bits), stored_twelve_bits),
    "16 bits, compressed": Form(
        compressed("rgb16; png compressed bgr16", stored_twelve_bits),
        stored_twelve_bits,
        topic=f"{IMAGES}/compressed",
    ),
    "Bayer": Form(
        raw("bayer_rggb8", mosaic),
        stored_mosaic,
    ),
    "compressed": Form(compressed("rgb8; png compressed bgr8", stored), topic=f"{IMAGES}/compressed"),
    "fisheye": Form(file=stored_unbent, lens=FISHEYE),
    "zstd": Form(),
    "write-ahead log": Form(storage="sqlite3"),
    "split": Form(),
    "masked": Form(mask=ARM),
    "masked fisheye": Form(file=stored_unbent, lens=FISHEYE, mask=ARM),
    "masked, split": Form(mask=ARM),
    "masked, zstd": Form(mask=ARM),
    "masked, zstd of messages": Form(storage="sqlite3", mask=ARM),
    "masked, write-ahead log": Form(storage="sqlite3", mask=ARM),
    "masked, ROS 1": Form(mask=ARM),
    "masked, 16 bits": Form(raw("rgb16", twelve_bits), stored_twelve_bits, mask=ARM),
    "masked, Bayer": Form(raw("bayer_rggb8", mosaic), stored_mosaic, mask=ARM),
    "masked, EXIF": Form(compressed("jpeg", jpeg), jpeg, ".jpg", f"{IMAGES}/compressed", mask=ARM),
}


def record(out: Path, form: Form, frames: range) -> None:
    """Write some frames as a bag."""
    image_type = "sensor_msgs/msg/CompressedImage" if form.topic != IMAGES else bag_messages.IMAGE
    with new_bag(out, form.storage) as bag:
        for topic, message_type in (
            ("/tf", bag_messages.TRANSFORMS),
            (INFO, bag_messages.CAMERA_INFO),
            (form.topic, image_type),
            (DEPTHS, bag_messages.IMAGE),
        ):
            bag.open(topic, message_type)
        if form.mask is not None and not frames.start:  # latched, so it is in the first part of a split bag only
            bag.open(MASKS, bag_messages.IMAGE)
            # Before the rest: of messages of one time, converters make any order.
            bag.write(MASKS, STAMPS_NS[0] - 1, bag_messages.image(STAMPS_NS[0], "camera", form.mask, "mono8"))
        for i in frames:
            stamp_ns = STAMPS_NS[i]
            info = bag_messages.camera_info(stamp_ns, "camera", K, SIZE)
            if form.lens is not None:
                info.d, info.distortion_model = form.lens, "equidistant"
            bag.write("/tf", stamp_ns, bag_messages.transform(stamp_ns, "odom", "camera", PLACES[i], QUATERNIONS[i]))
            bag.write(INFO, stamp_ns, info)
            bag.write(form.topic, stamp_ns, form.message(stamp_ns, PICTURES[i]))
            bag.write(DEPTHS, stamp_ns, bag_messages.image(stamp_ns, "camera", MILLIMETRES[i], "16UC1"))


def store(name: str, form: Form, folder: Path, into_the_log) -> Path:
    """Write the recording as a bag in the way of its form."""
    parts = [range(FRAMES)] if "split" not in name else [range(5), range(5, FRAMES)]
    out = folder / "bag"
    out.mkdir()
    for part, number in zip(parts, (2, 10), strict=False):
        record(folder / f"part_{number}", form, part)
        if name.endswith(CONVERTED):
            return converted(folder / f"part_{number}", folder / "walk.bag", name)
        (file,) = (f for f in (folder / f"part_{number}").iterdir() if f.suffix != ".yaml")
        stored_file = out / file.name
        file.rename(stored_file)
        if name.endswith("zstd"):
            stored_file.with_name(f"{file.name}.zstd").write_bytes(zstd.compress(stored_file.read_bytes()))
            stored_file.unlink()
        if name.endswith("write-ahead log"):
            into_the_log(stored_file, 20 if form.mask is None else 0)
    return out


CONVERTED = ("zstd of messages", "ROS 1")


def converted(bag: Path, out: Path, name: str) -> Path:
    """Write a bag as rosbags' converter does."""
    if name.endswith("ROS 1"):
        form = "mcap", 8, None, "file", typestore(), get_typestore(Stores.ROS1_NOETIC)
    else:
        out = out.with_suffix("")
        form = "sqlite3", 8, "zstd", "message", typestore(), typestore()
    convert([bag], out, *form, (), (), (), ())
    return out


def valid_mask(form: Form) -> np.ndarray | None:
    """Which pixels of a folder's images show the scene."""
    if form.mask is None or form.lens is None:
        return form.mask
    hidden = unbent(255 - form.mask, cv2.INTER_LINEAR) > 0
    beyond = unbent(np.full(SIZE, 255, np.uint8), cv2.INTER_LINEAR) < 255
    return ~(hidden | beyond)


def write_folder(form: Form, folder: Path) -> Path:
    for part in ("images", "depth"):
        (folder / part).mkdir(parents=True)
    for i in range(FRAMES):
        (folder / "images" / f"{i}{form.suffix}").write_bytes(form.file(PICTURES[i]))
        depth = MILLIMETRES[i] if form.lens is None else unbent(MILLIMETRES[i], cv2.INTER_NEAREST)
        (folder / "depth" / f"{i}.png").write_bytes(png(depth))
    if form.mask is not None:
        cv2.imwrite(str(folder / "mask.png"), np.where(valid_mask(form), np.uint8(255), np.uint8(0)))
    poses = [pose_matrix(PLACES[i], QUATERNIONS[i]).reshape(-1) for i in range(FRAMES)]
    np.savetxt(folder / "poses.txt", poses)
    np.savetxt(folder / "K.txt", K)
    (folder / "stamps.txt").write_text("\n".join(map(str, STAMPS_NS)))
    return folder


def frames_of_the_node(bag: Path, form: Form) -> tuple[list[Frame], list[np.ndarray], list[np.ndarray | None]]:
    """What the node makes of the messages, as its callbacks do, with the tree that stands in for tf2."""
    frames, depths, seen, tree, bits = [], [], [], TransformTree(), BitDepth()
    view = Rectification(AUTO, IMAGES, None, False, lambda line: None)
    sync = FrameSync(
        tree.lookup,
        "odom",
        view=view,
        on_frame=lambda frame, arrival: (frames.append(frame), seen.append(view.valid_mask)),
        on_drop=lambda arrival, reason, detail: pytest.fail(f"{reason}: {detail}"),
        on_jump=lambda: pytest.fail("a jump"),
        now_ns=lambda: 0,
        queue_size=FRAMES,
        max_wait_ns=10**18,
    )
    for message in BagFiles(bag).messages({"/tf", INFO, MASKS, form.topic, DEPTHS}):
        if message.topic == "/tf":
            for stamped in deserialize_message(message.data, TFMessage).transforms:
                t, q = stamped.transform.translation, stamped.transform.rotation
                place = (t.x, t.y, t.z), (q.x, q.y, q.z, q.w)
                tree.set_transform("odom", "camera", stamp_to_ns(stamped.header.stamp), *place)
        elif message.topic == INFO:
            info = deserialize_message(message.data, CameraInfo)
            camera = camera_from_message(info)
            sync.add_camera_info(stamp_to_ns(info.header.stamp), camera)
        elif message.topic == MASKS:
            mask = deserialize_message(message.data, Image)
            view.raw_mask = decode_mask(mask.encoding, mask.height, mask.width, mask.step, False, mask.data)
        elif message.topic == DEPTHS:
            depth = depth_from_message(deserialize_message(message.data, Image))
            depths.append(depth if form.lens is None else rectify_depth(depth, camera))
        else:
            image = deserialize_message(message.data, Image if form.topic == IMAGES else CompressedImage)
            stamp_ns = stamp_to_ns(image.header.stamp)
            sync.add_image(image_from_message(image, bits=bits), FrameTimeline(stamp_ns, "camera", len(frames), 0))
    return frames, depths, seen


@pytest.mark.parametrize("name", FORMS)
def test_folder_bag_and_node_agree(name, tmp_path, into_the_log):
    form = FORMS[name]
    bag = store(name, form, tmp_path, into_the_log)
    of_folder = list(open_sequence(write_folder(form, tmp_path / "folder")).items())
    of_bag = list(open_sequence(bag).items())
    frames, depths, seen = frames_of_the_node(bag, form)
    assert len(of_folder) == len(of_bag) == len(frames) == len(depths) == len(seen) == FRAMES
    for i, (folder_item, bag_item, frame, depth) in enumerate(zip(of_folder, of_bag, frames, depths, strict=True)):
        for other in (bag_item.frame, frame):
            np.testing.assert_array_equal(other.image, folder_item.frame.image)
            np.testing.assert_allclose(other.K, folder_item.frame.K)
            np.testing.assert_allclose(other.world_T_cam, folder_item.frame.world_T_cam, atol=1e-12)
            assert other.stamp_ns == folder_item.frame.stamp_ns == STAMPS_NS[i]
        for other in (bag_item.sensor_depth, depth):
            np.testing.assert_allclose(other, folder_item.sensor_depth, rtol=1e-6)
        if form.mask is not None:
            assert 0.05 < (~folder_item.valid_mask).mean() < 0.6
            for other in (bag_item.valid_mask, seen[i]):
                np.testing.assert_array_equal(other, folder_item.valid_mask)
        difference = np.abs(bag_item.frame.image.astype(int) - PICTURES[i])
        assert difference.mean() < 15 or form.lens is not None, "and all are what the camera saw, the right way up"


OVER_DDS = ("EXIF", "16 bits, compressed", "compressed", "masked, EXIF")
"""Forms that one node takes: those of one topic and type."""


@pytest.fixture(scope="module")
def node(start_depth_node, tiny_weights):
    node = start_depth_node(
        f"{IMAGES[1:]}/compressed",
        INFO[1:],
        image_transport="compressed",
        how={"remap": (f"image:={IMAGES}", f"camera_info:={INFO}", f"valid_mask:={MASKS}")},
    )
    yield node
    node.end_well()


LATCHED = DurabilityPolicy.TRANSIENT_LOCAL


@pytest.fixture(scope="module")
def players(client, node):
    """Publishers of the recording's topics, connected to the node."""
    qos = QoSProfile(depth=50)
    players = {
        "/tf": client.tf,
        INFO: client.node.create_publisher(CameraInfo, INFO, qos),
        MASKS: client.node.create_publisher(Image, MASKS, QoSProfile(depth=1, durability=LATCHED)),
        f"{IMAGES}/compressed": client.node.create_publisher(CompressedImage, f"{IMAGES}/compressed", qos),
    }
    client.wait(lambda: all(player.get_subscription_count() for player in players.values()))
    client.wait_until_known("depth_node")
    return players


@pytest.mark.parametrize("name", OVER_DDS)
def test_over_dds_the_node_predicts_what_folder_and_bag_say(
    name, tmp_path, into_the_log, node, client, players, make_manager, tiny_weights
):
    """Pixels and poses as they come out of a real node: the depth that it sends is that of folder and bag."""
    from dvmvs_core.engine import DepthEngine

    form = FORMS[name]
    bag = store(name, form, tmp_path, into_the_log)
    assert make_manager("depth_node").trigger("reset").success
    client.depths.clear()
    client.statuses.clear()
    outcomes = []
    everything = bag_messages.image(0, "camera", np.full(SIZE, 255, np.uint8), "mono8")
    players[MASKS].publish(bytes(typestore().serialize_cdr(everything, bag_messages.IMAGE)))  # takes the last one back
    for message in BagFiles(bag).messages(set(players)):
        players[message.topic].publish(bytes(message.data))
        players[MASKS].wait_for_all_acked(Duration(seconds=10))
        if message.topic == form.topic:
            outcomes.append(client.answer(STAMPS_NS[len(outcomes)]).outcome)
    for sequence in (write_folder(form, tmp_path / "folder"), bag):
        engine = DepthEngine.from_weights(tiny_weights, config=EngineConfig(device="cpu"))
        expected, decisions = {}, []
        for item in open_sequence(sequence).items(depth=False):
            prediction = engine.step(item.frame)
            decisions.append(engine.last_decision)
            if prediction is not None:
                expected[item.frame.stamp_ns] = apply_valid_mask(prediction, item.valid_mask).depth
        assert outcomes == decisions
        client.wait(lambda: len(client.depths) >= len(expected))  # noqa: B023
        depths = {stamp_to_ns(depth.header.stamp): depth_from_message(depth) for depth in client.depths}
        assert depths.keys() == expected.keys() and len(expected) > FRAMES // 2
        for stamp_ns, depth in depths.items():
            np.testing.assert_allclose(depth, expected[stamp_ns], rtol=1e-5)
            assert (depth == 0).any() == (form.mask is not None)
