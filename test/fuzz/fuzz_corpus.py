# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Whole recordings, messages and files of every kind that is read, and small: what mutations start from."""

from __future__ import annotations

import io
import json
import tempfile
import zlib
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import safetensors.torch
import torch
from bag_recordings import Recording, storage_file
from format_writers import encode_rvl, encoded, pack_frame, pack_sens
from rosbags.rosbag2 import CompressionMode

from dvmvs_core.config import preset
from dvmvs_core.data.bags import bag_messages
from dvmvs_core.data.bags.bag_files import typestore
from dvmvs_core.data.encodings.compressed_depth import HEADER
from dvmvs_core.model.checkpoint import FORMAT
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.model.regulariser import example_inputs
from dvmvs_core.training.regulariser.clip_files import Keyframes, write_clip

SIZE = (12, 16)
K = np.array(((20.0, 0.0, 7.5), (0.0, 20.0, 5.5), (0.0, 0.0, 1.0)))
FRAMES = 3
SECOND = 10**9


def picture(seed: int = 0) -> np.ndarray:
    """A colour image (12, 16, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def depth(seed: int = 0) -> np.ndarray:
    """Millimetres (12, 16), some of them missing."""
    values = np.random.default_rng(seed).integers(500, 4000, SIZE).astype(np.uint16)
    values[:3, :4] = 0
    return values


@cache
def images() -> list[bytes]:
    """JPEGs and PNGs of every kind that cameras send."""
    return [
        encoded(".jpg", picture()),
        encoded(".jpg", picture(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encoded(".jpg", picture()[..., 0]),
        encoded(".png", picture()),
        encoded(".png", picture()[..., 0]),
        encoded(".png", np.dstack((picture(), picture(1)[..., :1]))),
        encoded(".png", depth()),
    ]


@cache
def compressed_depths() -> list[bytes]:
    """What follows a format in compressedDepth: PNG of millimetres, of quantised inverse depth, and RVL."""
    header, png, rvl = HEADER.pack(0, 100.0, 1.0), encoded(".png", depth()), encode_rvl(depth())
    return [header + png, header + rvl, png, rvl]


@cache
def messages() -> list[tuple[str, bytes]]:
    """Serialised messages of every type that is read, with their types."""
    new, header = bag_messages.new, bag_messages.header(SECOND, "camera")
    compressed = new(
        "sensor_msgs/msg/CompressedImage", header=header, format="jpeg", data=np.frombuffer(images()[0], np.uint8)
    )
    points = np.random.default_rng(0).random((5, 5)).astype(np.float32)
    made = [
        ("sensor_msgs/msg/Image", bag_messages.image(SECOND, "camera", picture(), "rgb8")),
        ("sensor_msgs/msg/Image", bag_messages.image(SECOND, "camera", depth(), "16UC1")),
        ("sensor_msgs/msg/Image", bag_messages.image(SECOND, "camera", picture()[..., 0], "bayer_rggb8")),
        ("sensor_msgs/msg/CameraInfo", bag_messages.camera_info(SECOND, "camera", K, SIZE)),
        ("sensor_msgs/msg/CompressedImage", compressed),
        ("sensor_msgs/msg/PointCloud2", bag_messages.cloud(SECOND, "lidar", points)),
        ("tf2_msgs/msg/TFMessage", bag_messages.transform(SECOND, "odom", "camera", (0, 0, 0), (0, 0, 0, 1))),
    ]
    return [(kind, bytes(typestore().serialize_cdr(message, kind))) for kind, message in made]


def _write_bag(path: Path, storage: str, mode: CompressionMode, images_too: bool = False) -> Path:
    bag = Recording(path, storage, mode).transform(0, parent="base", child="camera", static=True)
    for i in range(FRAMES):
        stamp_ns = SECOND + i * SECOND // 10
        bag.transform(stamp_ns, x=0.1 * i, child="base").info(stamp_ns, width=SIZE[1], height=SIZE[0], k=K.ravel())
        if images_too:
            bag.compressed(stamp_ns, images()[i], "jpeg")
        else:
            bag.image(stamp_ns, picture(i))
        bag.image(stamp_ns, depth(i), "/camera/depth", "16UC1")
    bag.close()
    return path


@cache
def bags() -> dict[str, list[bytes]]:
    """Bag files, by their suffix: mcap plain and in chunks of zstd, and sqlite3."""
    plain, chunks = CompressionMode.NONE, CompressionMode.STORAGE
    ways = (("mcap", plain), ("mcap", chunks), ("mcap", chunks, True), ("sqlite3", plain))
    made: dict[str, list[bytes]] = {".mcap": [], ".db3": []}
    with tempfile.TemporaryDirectory() as folder:
        for i, way in enumerate(ways):
            file = storage_file(_write_bag(Path(folder) / f"bag{i}", *way))
            made[file.suffix].append(file.read_bytes())
    return made


@cache
def npz_predictions() -> list[dict[str, np.ndarray]]:
    """The arrays of a file of predictions."""
    return [
        {
            "depth": np.ones((2, *SIZE), np.float32),
            "confidence": np.ones((2, *SIZE), np.float32),
            "frame_index": np.array([1, 2]),
            "measurement_index": np.array([[0, -1], [1, 0]]),
            "stamp_ns": np.array([SECOND, 2 * SECOND]),
            "K": K,
            "world_T_cam": np.stack([np.eye(4)] * 2),
            "latency_ms": np.array([1.0, 2.0]),
            "refined": np.array([False, True]),
        }
    ]


@cache
def npz_clips() -> list[dict[str, np.ndarray]]:
    """The arrays of a clip that the regulariser is trained on."""
    inputs = example_inputs(64, 64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.npz"
        write_clip(path, Keyframes(inputs, torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 64, 64)))
        with np.load(path) as arrays:
            return [dict(arrays)]


@cache
def torch_files() -> list[bytes]:
    """Tensors as torch saves them now, and as it did before."""
    made = []
    for archive in (True, False):
        buffer = io.BytesIO()
        tensors = {"conv.weight": torch.ones(2, 3), "conv.bias": torch.zeros(3, dtype=torch.float16)}
        torch.save(tensors, buffer, _use_new_zipfile_serialization=archive)
        made.append(buffer.getvalue())
    return made


@cache
def weights() -> list[bytes]:
    """The head of a checkpoint, with a tensor that stands for its network."""
    header = {"format": FORMAT, "networks": json.dumps({"pairnet": preset("small").to_dict()}), "metadata": "{}"}
    with torch.device("meta"):  # the first network of a process takes seconds of imports, which belong to no case
        build_network(preset("small").replace(network="pairnet"))
    return [safetensors.torch.save({"pairnet/x": torch.ones(2, 3)}, header)]


@cache
def bag_metadata() -> list[bytes]:
    """The metadata of a bag whose file is the first of `bags`."""
    with tempfile.TemporaryDirectory() as folder:
        path = _write_bag(Path(folder) / "bag", "mcap", CompressionMode.NONE)
        return [(path / "metadata.yaml").read_bytes()]


@cache
def statuses() -> list[tuple[str, bytes]]:
    """What the depth node says of an image, as a message with its type."""
    new, kind = bag_messages.new, "diagnostic_msgs/msg/DiagnosticArray"
    values = {
        **{"index": "3", "latency_ms": "1.5", "inference_ms": "1.0"},
        **{"measurement_stamps_ns": "1 2", "has_depth": "true", "detail": ""},
    }
    pairs = [new("diagnostic_msgs/msg/KeyValue", key=key, value=value) for key, value in values.items()]
    status = new(
        "diagnostic_msgs/msg/DiagnosticStatus", level=0, name="frame", message="keyframe", hardware_id="", values=pairs
    )
    message = new(kind, header=bag_messages.header(SECOND, "camera"), status=[status])
    return [(kind, bytes(typestore().serialize_cdr(message, kind)))]


def npy(array: np.ndarray) -> bytes:
    """An array as an npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@cache
def sens() -> list[bytes]:
    """ScanNet recordings: colour as JPEG and raw, depth as zlib and raw."""
    made = []
    for compression in ((2, 1), (0, 0), (1, 1)):
        frames = []
        for i in range(FRAMES):
            colour = (picture(i).tobytes(), encoded(".png", picture(i)), encoded(".jpg", picture(i)))[compression[0]]
            values = depth(i).tobytes()
            frames.append(pack_frame(np.eye(4), colour, zlib.compress(values) if compression[1] else values, i * 1000))
        sizes = {"colour_size": SIZE, "depth_size": SIZE}
        colour, values = compression
        made.append(pack_sens(frames, K, K, **sizes, colour_compression=colour, depth_compression=values))
    return made


@cache
def texts() -> dict[str, list[bytes]]:
    """Text files, by what reads them."""
    poses = "".join(" ".join(map(str, np.eye(4).ravel())) + "\n" for _ in range(FRAMES))
    return {
        "poses": [poses.encode()],
        "intrinsics": [b"20 0 7.5\n0 20 5.5\n0 0 1\n"],
        "stamps": [b"1.0\n1.1\n1.2\n"],
        "index": [b"00003.png 00000.png 00001.png\nTRACKING LOST\n00009.png 00007.png\n"],
        "trajectory": [b"# time tx ty tz qx qy qz qw\n1.0 0 0 0 0 0 0 1\n1.1 0.1 0 0 0 0 0 1\n"],
        "figures": [json.dumps({"sequences": [], "all": {}, "weights": "", "latency_ms": {}}).encode()],
        "record": [json.dumps({"frames": 3, "lost_poses": 0, "stamps": True, "skipped": []}).encode()],
        "log": [b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}\n'],
        "mounting": [b"0.1 0 0.2 0 0 0", b"0.1 0 0.2 0 0 0 1"],
    }
