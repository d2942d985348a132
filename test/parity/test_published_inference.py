# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Keyframes, measurement frames, resized images, and the engine's depth equal the published implementation's.

Tolerances are those of the reference notes: threads and convolution kernels move the depth by 2e-5 in the mean,
while the smallest structural mistake moves it by 5e-3.
"""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from dvmvs_core.config import EngineConfig, KeyframeConfig
from dvmvs_core.engine import DepthEngine
from dvmvs_core.geometry import pose_distance
from dvmvs_core.keyframes import KeyframeBuffer, KeyframeDecision
from dvmvs_core.model.checkpoint import import_released
from dvmvs_core.preprocess import Preprocessor, normalise
from dvmvs_core.types import Frame


@pytest.fixture(scope="module")
def units(reference):
    return np.load(reference / "goldens" / "units.npz")


@pytest.fixture(scope="module")
def poses(reference):
    return np.loadtxt(reference / "goldens" / "hololens-000-poses-all-373.txt").reshape(-1, 4, 4)


def run_buffer(poses, measurement_frames):
    buffer = KeyframeBuffer(KeyframeConfig(measurement_frames=measurement_frames))
    responses, chosen = [], []
    for index, pose in enumerate(poses):
        decision = buffer.add(pose, index)
        responses.append(decision.value)
        if decision is KeyframeDecision.KEYFRAME:
            chosen.append([index, *buffer.measurement_frames()])
    return responses, chosen


@pytest.mark.parametrize("measurement_frames", [1, 2, 3])
def test_all_373_poses(reference, poses, measurement_frames):
    golden = json.loads((reference / "goldens" / f"keyframes_online_nmeas{measurement_frames}.json").read_text())
    responses, chosen = run_buffer(poses, measurement_frames)
    assert len(responses) == 373
    assert responses == golden["responses"]
    assert chosen == golden["sequence"]


@pytest.mark.parametrize("case", ["nan_50_70", "nan_50_90", "inf_0_5", "nan_0_40"])
def test_tracking_loss(reference, poses, case):
    golden = json.loads((reference / "goldens" / "keyframes_tracking_lost.json").read_text())[case]
    kind, first, stop = case.split("_")
    injected = poses[: len(golden["responses"])].copy()
    injected[int(first) : int(stop)] = float(kind)
    responses, chosen = run_buffer(injected, 2)
    assert responses == golden["responses"]
    assert chosen == golden["sequence"]
    assert [i for i, code in enumerate(responses) if code == 3] == golden["lost_at"]


def test_pose_distances(units, poses):
    for (a, b), expected in zip(units["pd_pairs"].astype(int), units["pd"], strict=True):
        distance = pose_distance(poses[a], poses[b])
        got = (distance.combined, distance.rotation, distance.translation)
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-14)


@pytest.fixture(scope="module")
def K(hololens):
    return np.loadtxt(hololens / "K.txt").astype(np.float32)


def test_crops_and_intrinsics(units, K):
    for case, expected in zip(units["pp_cases"].tolist(), units["pp_out"], strict=True):
        old_width, old_height, new_width, new_height, border, crop = case
        preprocessor = Preprocessor(K, (old_height, old_width), (new_height, new_width), bool(crop), border)
        got = preprocessor.K
        np.testing.assert_array_equal((preprocessor.crop_x, preprocessor.crop_y), expected[:2])
        np.testing.assert_allclose((got[0, 0], got[1, 1], got[0, 2], got[1, 2]), expected[2:], rtol=1e-7)


def test_cropped_and_resized_image_and_depth(units, K):
    preprocessor = Preprocessor(K, (45, 70), (24, 32), crop=True, distortion_crop=2)
    np.testing.assert_allclose(preprocessor.K, units["pp_K_out"], rtol=1e-7)
    image = preprocessor.image(units["pp_img_in"].astype(np.uint8))
    np.testing.assert_allclose(normalise(image).transpose(1, 2, 0), units["pp_img_out"], atol=2e-6)
    np.testing.assert_array_equal(preprocessor.depth(units["pp_depth_in"]), units["pp_depth_out"])


def test_real_image(units, K, hololens):
    image = cv2.cvtColor(cv2.imread(str(sorted((hololens / "images").iterdir())[6])), cv2.COLOR_BGR2RGB)
    preprocessor = Preprocessor(K, image.shape[:2], (256, 320))
    np.testing.assert_allclose(preprocessor.K, units["pp_real6_K"], rtol=1e-7)
    normalised = normalise(preprocessor.image(image)).transpose(1, 2, 0)
    np.testing.assert_allclose(normalised[::8, ::8], units["pp_real6_stride8"], atol=2e-6)


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
