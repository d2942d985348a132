# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""An engine that needs no network, and its predictions on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dvmvs_core.config import EngineConfig, KeyframeConfig, ModelConfig
from dvmvs_core.data.keyframe_index import IndexEntry
from dvmvs_core.data.sequence import FrameSequence
from dvmvs_core.evaluation.prediction.predict_sequence import (
    PREDICTIONS,
    predict_indexed,
    predict_online,
    write_predictions,
)
from dvmvs_core.keyframes import KeyframeBuffer, KeyframeDecision
from dvmvs_core.preprocess import Preprocessor
from dvmvs_core.types import DepthPrediction, Frame

SIZE = (32, 64)


class PlaneEngine:
    """Sees a plane at 2 m in every keyframe; records what it was asked. Sure of itself as far as `confidence` says."""

    def __init__(self) -> None:
        self.model_config = ModelConfig(network="pairnet", height=SIZE[0], width=SIZE[1])
        self.config = EngineConfig()
        self.calls: list[tuple] = []
        self.confidence: float | None = None
        self._buffer = KeyframeBuffer(KeyframeConfig())

    def reset(self) -> None:
        self.calls.append(("reset",))
        self._buffer.clear()

    def step(self, frame: Frame) -> DepthPrediction | None:
        self.last_decision = self._buffer.add(frame.world_T_cam, frame)
        if self.last_decision is not KeyframeDecision.KEYFRAME:
            return None
        return self.predict(frame, self._buffer.measurement_frames())

    def predict_without_update(self, frame: Frame) -> DepthPrediction | None:
        measurement_frames = self._buffer.measurement_frames_of(frame.world_T_cam)
        return self.predict(frame, measurement_frames) if measurement_frames else None

    def predict(self, reference: Frame, measurement_frames: list[Frame]) -> DepthPrediction:
        measurements = tuple(frame.index for frame in measurement_frames)
        self.calls.append((reference.index, measurements))
        preprocessor = Preprocessor(reference.K, reference.image.shape[:2], SIZE)
        return DepthPrediction(
            depth=np.full(SIZE, 2.0, np.float32),
            K=preprocessor.K.astype(np.float64),
            image=preprocessor.image(reference.image).astype(np.uint8),
            world_T_cam=reference.world_T_cam,
            stamp_ns=reference.stamp_ns,
            frame_index=reference.index,
            measurement_index=measurements,
            measurement_stamps_ns=tuple(frame.stamp_ns for frame in measurement_frames),
            latency_ms=10.0 + reference.index,
            confidence=None if self.confidence is None else np.full(SIZE, self.confidence, np.float32),
        )


@pytest.fixture
def engine() -> PlaneEngine:
    return PlaneEngine()


@pytest.fixture
def predict(engine, tmp_path) -> Callable[..., Path]:
    """A function that predicts a sequence into a folder, and returns the npz.

    By the keyframe rule, or pairs of a reference and a measurement frame.
    """

    def write(sequence: FrameSequence, folder: str = "out", pairs: tuple[tuple[int, int], ...] = ()) -> Path:
        names = [pose.name for pose in sequence.poses()]
        entries = [IndexEntry(names[reference], (names[measured],)) for reference, measured in pairs]
        predictions = predict_indexed(engine, sequence, entries) if pairs else predict_online(engine, sequence)
        write_predictions(predictions, tmp_path / folder)
        return tmp_path / folder / PREDICTIONS

    return write
