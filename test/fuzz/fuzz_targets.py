# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What is fuzzed: every reader and decoder, each with its seeds and its mutation.

A target reads bytes, from memory or from a file, as the programs do, and may raise nothing but errors of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import fuzz_corpus as corpus
import fuzz_imports as imports
import fuzz_mutations as mutations
import numpy as np
from format_writers import encode_rvl, encoded

from dvmvs_core.data import scene_folder as scene
from dvmvs_core.data.bags import bag_files
from dvmvs_core.data.encodings import compressed_depth, image_message, rvl
from dvmvs_core.data.keyframe_index import read_index
from dvmvs_core.data.lens.camera_info import read_camera_info
from dvmvs_core.data.lens.rectification import Rectifier
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.point_clouds import cloud_points
from dvmvs_core.data.poses.transforms import TransformTree
from dvmvs_core.errors import DvmvsError
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
from dvmvs_core.evaluation.scoring.figures import read_figures
from dvmvs_core.importers import sens as sens_reader
from dvmvs_core.importers.dataset import SceneInput
from dvmvs_core.importers.formats import ScannetOptions
from dvmvs_core.importers.scannet import Scannet
from dvmvs_core.importers.scene_writer import read_record
from dvmvs_core.importers.timed_poses import read_stamped_lines, read_trajectory
from dvmvs_core.model import checkpoint
from dvmvs_core.training.regulariser.clip_files import read_clip
from dvmvs_core.training.run_folder import LOG_NAME, RunFolder
from dvmvs_core.training.training_scenes import read_training_frame

FORMATS = ("jpeg", "rgb8; png compressed bgr8", "bayer_rggb8; jpeg compressed ", "16UC1; png compressed", "rgb8;x" * 99)
DEPTH_FORMATS = (
    "16UC1; compressedDepth png",
    "32FC1; compressedDepth png",
    "16UC1; compressedDepth rvl",
    "32FC1; compressedDepth rvl",
    "16UC1; png compressed",
)


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        seeds: makes what mutations start from.
        mutate: makes a case of a seed.
        read: reads a case; the folder is there for those that need files.
    """

    seeds: Callable[[], list]
    mutate: Callable[[Random, object], bytes]
    read: Callable[[Random, bytes, Path], object]

    def case(self, rng: Random) -> bytes:
        """Return a mutated seed."""
        return self.mutate(rng, rng.choice(self.seeds()))


def _in_file(name: str, read: Callable[[Path], object]) -> Callable[[Random, bytes, Path], object]:
    def from_file(rng: Random, data: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(data)
        return read(path)

    return from_file


def _message(rng: Random, case: bytes, folder: Path) -> object:
    kind, data = case
    message = bag_files.deserialise(data, kind)
    if kind.endswith("/Image"):
        layout = message.encoding, message.height, message.width, message.step, message.is_bigendian, message.data
        reader = image_message.decode_depth if "UC1" in message.encoding else image_message.decode_image
        return reader(*layout)
    if kind.endswith("CameraInfo"):
        camera = read_camera_info(message)
        return Rectifier(camera, (32, 32)).K if camera.lens else camera.K
    if kind.endswith("CompressedImage"):
        return image_message.decode_compressed(message.format, message.data)
    if kind.endswith("PointCloud2"):
        return cloud_points(message)
    tree = TransformTree(10.0)
    for stamped in message.transforms:
        t, q = stamped.transform.translation, stamped.transform.rotation
        stamp_ns = stamped.header.stamp.sec * 10**9 + stamped.header.stamp.nanosec
        place = (t.x, t.y, t.z), (q.x, q.y, q.z, q.w)
        tree.set_transform(stamped.header.frame_id, stamped.child_frame_id, stamp_ns, *place)
        tree.lookup(stamped.header.frame_id, stamped.child_frame_id, stamp_ns)
    return None


def _sequence(path: Path) -> None:
    sequence = open_sequence(path)
    for item in sequence.items():
        assert item.frame.image.dtype == np.uint8
    for _ in sequence.sensor_depths(range(3)):
        pass
    for _ in sequence.poses():
        pass


def _predictions(path: Path) -> None:
    reader = PredictionReader(path)
    for depth, _ in zip(reader.depths(), reader.confidences(), strict=True):
        assert depth.dtype == np.float32


def _sens(path: Path) -> None:
    for published in (False, True) if path.stat().st_size % 16 == 0 else (False,):  # the published way needs torch
        opened = Scannet(published, ScannetOptions()).open(SceneInput("scene", path))
        for _ in opened.frames(1):
            pass
    header = sens_reader.read_header(path)
    for frame in sens_reader.read_frames(path, header):
        if isinstance(frame, sens_reader.SensFrame):
            sens_reader.decode_depth(header, frame.depth)


def _scene(rng: Random, data: bytes, folder: Path) -> None:
    """A scene folder of which one file is the case."""
    for name, content in corpus.texts().items():
        if name in SCENE_FILES:
            (folder / SCENE_FILES[name]).write_bytes(content[0])
    for kind, images in (("images", corpus.images()[3:4]), ("depth", corpus.images()[6:7])):
        (folder / kind).mkdir(exist_ok=True)
        for i in range(corpus.FRAMES):
            (folder / kind / f"{i:05d}.png").write_bytes(images[0])
    (folder / rng.choice((*SCENE_FILES.values(), "images/00001.png", "depth/00001.png"))).write_bytes(data)
    _sequence(folder)


SCENE_FILES = {"poses": "poses.txt", "intrinsics": "K.txt", "stamps": "stamps.txt"}


def _mounting(rng: Random, data: bytes, folder: Path) -> None:
    from dvmvs_ros.poses.pose_messages import parse_body_T_camera

    parse_body_T_camera(data.decode(errors="replace"))


def _bag_folder(path: Path) -> None:
    """A bag whose metadata are the case."""
    (path.parent / "bag0.mcap").write_bytes(corpus.bags()[".mcap"][0])
    _sequence(path.parent)


def _weights(path: Path) -> None:
    checkpoint.read_info(path)
    with suppress(DvmvsError):  # it is not the network that its header describes
        checkpoint.load_network(path)


def _status(rng: Random, case: tuple[str, bytes], folder: Path) -> object:
    from dvmvs_ros.depth.frame_status import FrameStatus

    kind, data = case
    return FrameStatus.from_message(bag_files.deserialise(data, kind))


def _mutated_message(rng: Random, seed: tuple[str, bytes]) -> tuple[str, bytes]:
    kind, data = seed
    if kind.endswith("CompressedImage") and rng.random() < 0.7:
        image = corpus.images()[0]
        return kind, data.replace(image, mutations.mutated_image(rng, image))
    return kind, mutations.mutated(rng, data)


def _npys(arrays: list[dict]) -> list[dict[str, bytes]]:
    return [{name: corpus.npy(array) for name, array in one.items()} for one in arrays]


def _text(name: str, read: Callable[[Path], object], file: str = "text.txt") -> Target:
    return Target(lambda: corpus.texts()[name], mutations.mutated_words, _in_file(file, read))


TARGETS = {
    "compressed_image": Target(
        corpus.images,
        mutations.mutated_image,
        lambda rng, data, folder: image_message.decode_compressed(rng.choice(FORMATS), data),
    ),
    "compressed_depth": Target(
        lambda: list(zip([DEPTH_FORMATS[i] for i in (0, 2, 4, 2)], corpus.compressed_depths(), strict=True)),
        lambda rng, seed: (
            seed[0] if rng.random() < 0.8 else rng.choice(DEPTH_FORMATS),
            mutations.mutated(rng, seed[1]),
        ),
        lambda rng, case, folder: compressed_depth.decode_compressed_depth(*case),
    ),
    "compressed_depth_png": Target(
        lambda: [encoded(".png", corpus.depth())],
        mutations.mutated_image,
        lambda rng, data, folder: compressed_depth.decode_compressed_depth(
            rng.choice(DEPTH_FORMATS[:2]), compressed_depth.HEADER.pack(0, 100.0, 1.0) + data
        ),
    ),
    "rvl": Target(
        lambda: [encode_rvl(corpus.depth())], mutations.mutated, lambda rng, data, folder: rvl.decode_rvl(data)
    ),
    "message": Target(corpus.messages, _mutated_message, _message),
    "mcap": Target(lambda: corpus.bags()[".mcap"], mutations.mutated_mcap, _in_file("bag.mcap", _sequence)),
    "sqlite3": Target(lambda: corpus.bags()[".db3"], mutations.mutated, _in_file("bag.db3", _sequence)),
    "image_file": Target(corpus.images, mutations.mutated_image, _in_file("image.png", scene.read_image)),
    "depth_file": Target(corpus.images, mutations.mutated_image, _in_file("depth.png", scene.read_depth)),
    "predictions": Target(
        lambda: _npys(corpus.npz_predictions()), mutations.mutated_npz, _in_file("predictions.npz", _predictions)
    ),
    "training_frame": Target(
        lambda: _npys([{"image": corpus.picture(), "depth": corpus.depth()}]),
        mutations.mutated_npz,
        _in_file("000000.npz", read_training_frame),
    ),
    "clip": Target(lambda: _npys(corpus.npz_clips()), mutations.mutated_npz, _in_file("00000.npz", read_clip)),
    "weights": Target(corpus.weights, mutations.mutated_safetensors, _in_file("w.safetensors", _weights)),
    "released_weights": Target(
        corpus.torch_files, mutations.mutated_torch_file, _in_file("2_encoder", checkpoint.read_released)
    ),
    "bag_folder": Target(corpus.bag_metadata, mutations.mutated_words, _in_file("metadata.yaml", _bag_folder)),
    "frame_status": Target(corpus.statuses, _mutated_message, _status),
    "import": Target(imports.data_sets, imports.damaged, imports.read),
    "training_log": _text("log", lambda path: RunFolder(path.parent).forget_after(1), LOG_NAME),
    "sens": Target(corpus.sens, mutations.mutated_sens, _in_file("scene.sens", _sens)),
    "scene": Target(
        lambda: [text for name in SCENE_FILES for text in corpus.texts()[name]], mutations.mutated_words, _scene
    ),
    "poses": _text("poses", scene.read_poses),
    "intrinsics": _text("intrinsics", scene.read_intrinsics),
    "index": _text("index", read_index),
    "stamped_lines": _text("trajectory", lambda path: read_stamped_lines(path, 8)),
    "trajectory": _text("trajectory", read_trajectory),
    "figures": _text("figures", read_figures),
    "record": _text("record", lambda path: read_record(path.parent), "export.json"),
    "mounting": Target(lambda: corpus.texts()["mounting"], mutations.mutated_words, _mounting),
}
"""All targets."""

ALLOWED = DvmvsError
