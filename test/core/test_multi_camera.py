# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Several cameras through one network: each gets what it would get alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvmvs_core.config import EngineConfig, preset
from dvmvs_core.engine import DepthEngine
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.multi_camera import MultiCameraEngine
from dvmvs_core.types import Frame

CONFIG = EngineConfig(device="cpu")


def make_network(network):
    torch.manual_seed(0)
    sizes = {"height": 64, "width": 96, "depth_hypotheses": 8, "pyramid_channels": 4, "hyper_channels": 4}
    return build_network(
        preset("small", network=network, extractor_stem=4, extractor_channels=(4, 4, 4, 8, 8), **sizes)
    )


def frame_of(camera, index):
    """Cameras differ in image, size, intrinsics and the way they move."""
    size = (80 + 16 * camera, 120)
    image = np.random.default_rng((camera, index)).integers(0, 256, (*size, 3), dtype=np.uint8)
    K = np.array(((80.0 + camera, 0, 60), (0, 80.0, 40), (0, 0, 1)))
    world_T_cam = np.eye(4)
    world_T_cam[camera, 3] = 0.15 * index
    return Frame(image, K, world_T_cam, stamp_ns=1000 + index, index=index)


@pytest.mark.parametrize("network", ["fusionnet", "pairnet"])
def test_cameras_together_are_as_each_alone(network):
    built = make_network(network)
    engine = MultiCameraEngine(built, 3, CONFIG)
    engine.warm_up()
    alone = [DepthEngine(built, CONFIG) for _ in range(3)]
    predicted = 0
    for index in range(5):
        # The second camera starts late, so that at first it has fewer measurement frames than the others.
        frames = [None if camera == 1 and index == 0 else frame_of(camera, index) for camera in range(3)]
        for one, frame, prediction in zip(alone, frames, engine.step(frames), strict=True):
            expected = None if frame is None else one.step(frame)
            assert (prediction is None) == (expected is None)
            if expected is None:
                continue
            predicted += 1
            np.testing.assert_allclose(prediction.depth, expected.depth, rtol=1e-4)
            np.testing.assert_allclose(prediction.confidence, expected.confidence, atol=1e-3)
            np.testing.assert_array_equal(prediction.image, expected.image)
            assert prediction.measurement_index == expected.measurement_index
    assert predicted == 4 + 3 + 4


def test_keyframes_that_fall_together_take_one_pass(monkeypatch):
    engine = MultiCameraEngine(make_network("fusionnet"), 2, CONFIG)
    runner, batches = engine.engines[0]._runner, []
    depth = runner.depth
    monkeypatch.setattr(runner, "depth", lambda image, *rest: batches.append(len(image)) or depth(image, *rest))
    for index in range(3):
        engine.step([frame_of(0, index), frame_of(1, index)])
    assert batches == [2, 2]
