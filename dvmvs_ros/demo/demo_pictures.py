# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Pictures of a demo: a strip of keyframes next to their depth, and the clouds that were published, from two sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dvmvs_core.atomic import replacing
from dvmvs_core.data.bags.bag_files import BagFiles, deserialise
from dvmvs_core.data.encodings.pictures import encode_png
from dvmvs_core.data.sequence import FrameSequence
from dvmvs_core.evaluation.prediction.depth_pictures import depth_strip
from dvmvs_core.evaluation.prediction.prediction_pixels import resize_truth
from dvmvs_core.evaluation.report.cloud_picture import Cloud, draw_sides
from dvmvs_core.geometry import is_finite_pose
from dvmvs_core.preprocess import Preprocessor
from dvmvs_ros import recorder_node
from dvmvs_ros.demo.demo_report import Recording
from dvmvs_ros.messages.conversions import confidence_from_message, points_from_message, stamp_to_ns

ROWS = 4
CLOUD_SIZE = (540, 1280)
CLOUDS = 60
"""Clouds that are drawn at most, evenly from the first to the last."""

MIN_CONFIDENCE = 0.5
"""Points whose depth is more likely right than not."""


def write_pictures(recording: Recording, mcap: Path, sequence: FrameSequence, strip: Path, cloud: Path) -> None:
    """Write the strip, and the published clouds in the world.

    Args:
        recording: what the recorder received.
        mcap: the file that it was read from.
        sequence: what was played; images, poses and the recording's own depth are taken from it.
        strip: png to write.
        cloud: png to write.
    """
    _write(strip, _draw_strip(recording, sequence))
    _write(cloud, _draw_clouds(recording, mcap, sequence))


def _draw_strip(recording: Recording, sequence: FrameSequence) -> np.ndarray:
    stamps = sorted(recording.depths)
    chosen = {stamps[i] for i in np.linspace(0, len(stamps) - 1, 2 * ROWS + 1).astype(int)[1::2]}
    rows = []
    for item in sequence.items():
        stamp_ns = item.frame.stamp_ns
        if stamp_ns not in chosen:
            continue
        depth, K = recording.depths[stamp_ns], recording.intrinsics[stamp_ns]
        image = _resized(item.frame.image, item.frame.K, depth.shape)
        truth = item.sensor_depth
        if truth is not None:
            truth = resize_truth(truth, item.frame.K, depth.shape, K)
        rows.append(depth_strip(image, depth, truth, legend=True, truth_name=sequence.depth_name))
    return np.vstack(rows)


def _draw_clouds(recording: Recording, mcap: Path, sequence: FrameSequence) -> np.ndarray:
    poses = {pose.stamp_ns: pose.world_T_cam for pose in sequence.poses() if is_finite_pose(pose.world_T_cam)}
    stamps = [stamp_ns for stamp_ns in sorted(recording.depths) if stamp_ns in poses]
    drawn = {stamps[i] for i in np.linspace(0, len(stamps) - 1, min(len(stamps), CLOUDS)).astype(int)}
    cloud = Cloud()
    files = BagFiles(mcap)
    for raw in files.messages({f"/{recorder_node.POINTS}"}):
        message = deserialise(raw.data, files.topics[raw.topic].message_type)
        stamp_ns = stamp_to_ns(message.header.stamp)
        if stamp_ns in drawn:
            points, colours = points_from_message(message)
            confidence = confidence_from_message(message)
            keep = slice(None) if confidence is None else confidence >= MIN_CONFIDENCE
            cloud.add(points[keep], colours[keep], poses[stamp_ns])
    return draw_sides(cloud, [poses[stamp_ns] for stamp_ns in stamps], CLOUD_SIZE)


def _resized(image: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resized = Preprocessor(K, image.shape[:2], size).image(image)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)


def _write(path: Path, picture: np.ndarray) -> None:
    with replacing(path) as unfinished:
        unfinished.write_bytes(encode_png(picture))
