# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The engine's depth maps equal the published implementation's on a real sequence.

Tolerances are those of the reference notes: threads and convolution kernels move the depth by 2e-5 in the mean,
while the smallest structural mistake moves it by 5e-3.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_core.config import EngineConfig
from dvmvs_core.engine import DepthEngine
from dvmvs_core.model.checkpoint import import_released
from dvmvs_core.types import Frame

MEAN_TOLERANCE, MAX_TOLERANCE = 1e-4, 2e-3
FUSIONNET_FILES = ("0_feature_extractor", "1_feature_pyramid", "2_encoder", "3_lstm_fusion", "4_decoder")


@pytest.fixture(scope="module")
def released_folders(reference, tmp_path_factory):
    """Both released layouts, made of the same stand-in files."""
    root = tmp_path_factory.mktemp("released")
    for network in ("fusionnet", "pairnet"):
        (root / network).mkdir()
    for name in FUSIONNET_FILES:
        (root / "fusionnet" / name).symlink_to(reference / "weights" / name)
    for name in FUSIONNET_FILES[:3]:
        (root / "pairnet" / name).symlink_to(reference / "weights" / name)
    (root / "pairnet" / "3_decoder").symlink_to(reference / "weights" / "4_decoder")
    return root


def read_frames(scene, count):
    K = np.loadtxt(scene / "K.txt")
    poses = np.loadtxt(scene / "poses.txt").reshape(-1, 4, 4)
    for index, path in enumerate(sorted((scene / "images").iterdir())[:count]):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        yield Frame(image, K, poses[index], stamp_ns=index + 1, index=index)


# The reference path extracts every measurement frame again, which takes its time; four keyframes go through all of it.
@pytest.mark.parametrize(("mode", "keyframes"), [("fast", 10), ("reference", 4)])
@pytest.mark.parametrize("network", ["fusionnet", "pairnet"])
def test_depth_of_keyframes(reference, hololens, released_folders, tmp_path, network, mode, keyframes):
    golden = np.load(reference / "goldens" / f"{network}_golden.npz")
    weights = tmp_path / f"{network}.safetensors"
    import_released(released_folders / network, weights)
    engine = DepthEngine.from_weights(weights, config=EngineConfig(device="cpu", mode=mode))
    assert engine.model_config.network == network
    frames = read_frames(hololens, int(golden["frame_index"][keyframes - 1]) + 1)
    predictions = [p for p in map(engine.step, frames) if p is not None]
    assert [p.frame_index for p in predictions] == golden["frame_index"][:keyframes].tolist()
    measurements = [[*p.measurement_index, -1][:2] for p in predictions]
    assert measurements == golden["measurement_index"][:keyframes].tolist()
    for prediction, expected in zip(predictions, golden["depth"][:keyframes], strict=True):
        difference = np.abs(prediction.depth - expected) / expected
        assert difference.mean() <= MEAN_TOLERANCE
        assert difference.max() <= MAX_TOLERANCE
