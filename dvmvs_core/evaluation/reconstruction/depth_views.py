# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth images with colour and pose, ready to be fused: predicted now, predicted before, or measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dvmvs_core.config import KeyframeConfig
from dvmvs_core.data.keyframe_index import simulate_keyframes
from dvmvs_core.data.sequence import FrameSequence, SequenceItem
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.evaluation.prediction.predict_sequence import Advance
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
from dvmvs_core.evaluation.prediction.prediction_pixels import sensor_depth_of, stored_keyframe
from dvmvs_core.geometry import is_finite_pose
from dvmvs_core.types import DepthPrediction

USUAL_MIN_CONFIDENCE = 0.3
"""Of depth that is fused as it was predicted: what is less confident is mostly wrong, and tears the surface."""


@dataclass(frozen=True, eq=False)
class DepthView:
    """A depth image and what it was seen with.

    Attributes:
        frame_index: position of the frame in its sequence.
        depth: (h, w) float32 metres; 0 = none.
        image: (h, w, 3) uint8 RGB.
        K: (3, 3) intrinsics of both.
        world_T_cam: (4, 4) finite pose.
        sensor_depth: (h, w) float32 metres of the same frame, 0 = none, where `depth` was predicted and there is any.
        is_keyframe: whether the camera had moved since the view before.
    """

    frame_index: int
    depth: np.ndarray
    image: np.ndarray
    K: np.ndarray
    world_T_cam: np.ndarray
    sensor_depth: np.ndarray | None = None
    is_keyframe: bool = True


def predicted_views(
    predictions: Iterable[tuple[DepthPrediction, SequenceItem, bool]], min_confidence: float = 0.0
) -> Iterator[DepthView]:
    """Yield what the engine predicts, as it comes.

    Args:
        predictions: each with its item, which holds sensor depth if it shall be in the views, and whether it is of a
            keyframe.
        min_confidence: depth that is less confident is left out.

    Raises:
        ConfigError: if confidence is asked for and there is none.
    """
    for prediction, item, is_keyframe in predictions:
        yield DepthView(
            frame_index=prediction.frame_index,
            depth=_confident(prediction.depth, prediction.confidence, min_confidence),
            image=prediction.image,
            K=prediction.K,
            world_T_cam=prediction.world_T_cam,
            sensor_depth=sensor_depth_of(prediction, item),
            is_keyframe=is_keyframe,
        )


def stored_views(
    path: Path, sequence: FrameSequence, min_confidence: float = 0.0, advance: Advance | None = None
) -> Iterator[DepthView]:
    """Yield predictions on disk, with the images and sensor depth of their sequence.

    Args:
        path: the npz that `dvmvs predict` wrote.
        sequence: what it was predicted from.
        min_confidence: depth that is less confident is left out.
        advance: called with 1 after each frame of the sequence.

    Raises:
        ConfigError: if confidence is asked for and there is none.
        DataError: if the predictions are damaged, or of another sequence.
    """
    reader = PredictionReader(path)
    uses = Counter(reader.frame_index.tolist())
    held: dict[int, SequenceItem] = {}
    items = sequence.items()
    for index, stamp_ns, world_T_cam, depth, confidence in zip(
        reader.frame_index.tolist(),
        reader.stamp_ns.tolist(),
        reader.world_T_cam,
        reader.depths(),
        reader.confidences(),
        strict=True,
    ):
        # An index file may name frames in any order: an item is held from where it comes to its last use.
        while index not in held and (item := next(items, None)) is not None:
            if item.frame.index in uses:
                held[item.frame.index] = item
            if advance:
                advance(1)
        if index not in held or held[index].frame.stamp_ns != stamp_ns:
            raise DataError(
                f"{path} holds a prediction of frame {index} at {stamp_ns / 1e9:.3f} s, which {sequence.path} lacks:"
                " it belongs to another sequence"
            )
        item = held[index]
        uses[index] -= 1
        if not uses[index]:
            del held[index]
        keyframe = stored_keyframe(item, depth, confidence, reader.K)
        depth = _confident(depth, confidence, min_confidence)
        yield DepthView(index, depth, keyframe.image, reader.K, world_T_cam, keyframe.truth)


def sensor_views(
    sequence: FrameSequence, every_frame: bool = False, advance: Advance | None = None
) -> Iterator[DepthView]:
    """Yield the sensor depth of the keyframes, or of every frame whose pose is known.

    Raises:
        DataError: if the sequence has no sensor depth.
    """
    if not sequence.has_depth:
        raise DataError(f"{sequence.path} has no sensor depth to fuse; leave out --sensor to fuse predicted depth")
    keyframes = {entry.reference for entry in simulate_keyframes(sequence.poses(), KeyframeConfig())}
    for item in sequence.items():
        frame = item.frame
        wanted = is_finite_pose(frame.world_T_cam) if every_frame else item.name in keyframes
        if wanted and item.sensor_depth is not None:
            yield DepthView(frame.index, item.sensor_depth, frame.image, frame.K, frame.world_T_cam)
        if advance:
            advance(1)


def _confident(depth: np.ndarray, confidence: np.ndarray | None, min_confidence: float) -> np.ndarray:
    if min_confidence <= 0:
        return depth
    if confidence is None:
        raise ConfigError("--min-confidence needs confidence, which these predictions lack; predict them again")
    return np.where(confidence >= min_confidence, depth, np.float32(0))
