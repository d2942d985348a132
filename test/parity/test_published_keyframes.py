# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Keyframes and measurement frames equal the published implementation's, pose by pose."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dvmvs_core.config import KeyframeConfig
from dvmvs_core.geometry import pose_distance
from dvmvs_core.keyframes import KeyframeBuffer, KeyframeDecision


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


def test_pose_distances(reference, poses):
    units = np.load(reference / "goldens" / "units.npz")
    for (a, b), expected in zip(units["pd_pairs"].astype(int), units["pd"], strict=True):
        distance = pose_distance(poses[a], poses[b])
        got = (distance.combined, distance.rotation, distance.translation)
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-14)
