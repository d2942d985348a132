# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What is recorded of a walk is what the engine asked its regulariser, and the truth belongs to it."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

pytest.importorskip("numba")

from dvmvs_core.config import EngineConfig
from dvmvs_core.engine import DepthEngine
from dvmvs_core.errors import DataError
from dvmvs_core.model.regulariser import Regulariser, prepared
from dvmvs_core.synthetic.trajectories import MISALIGNMENTS_DEG
from dvmvs_core.training.regulariser.clip_files import Keyframes, joined, read_clip, write_clip
from dvmvs_core.training.regulariser.recording import Disturbance, RecordingMatcher, Walks, recorded
from dvmvs_core.training.setup import initial_network

SIZE = (64, 96)
WALKS = Walks(*SIZE, seed=3, textures=8, kinds=((6, 0.5),))


@pytest.fixture(scope="module")
def walk():
    """A walk with a network that makes use of everything: what was kept, and what the engine returned and matched."""
    torch.manual_seed(1)
    network = Regulariser().eval().requires_grad_(False)
    for layer in (network.cells, network.upsampling[-1]):
        torch.nn.init.normal_(layer.weight, std=0.05)
    matcher = RecordingMatcher(*SIZE, regularise=lambda inputs: network(prepared(inputs)))
    engine = DepthEngine(
        initial_network("fusionnet", "small", "small", *SIZE)[0], EngineConfig(device="cpu"), matcher=matcher
    )
    matched, depths = [], []

    def note(found, _preset):
        if found.log_odds is not None:  # no past keyframe sees what an unmatched one does
            matched.append(found)
            depths.append(found.depth.copy())
        return np.zeros_like(found.depth)

    engine.estimate_matched_confidence = note
    clip, _ = WALKS.clip(0)
    keyframes = recorded(engine, matcher, clip)
    return network, keyframes, matched, depths, clip


def depth_of(network: Regulariser, keyframes: Keyframes) -> torch.Tensor:
    with torch.no_grad():
        return (network(prepared(keyframes.inputs)).log_depth + keyframes.offset).exp().clamp(0.25, 20)[:, 0]


def test_recorded_inputs_reproduce_the_engines_depth(walk):
    network, keyframes, _, depths, _ = walk
    assert len(depths) == len(keyframes.truth) > 1
    for index, depth in enumerate(depths):
        one = slice(index, index + 1)
        one = Keyframes(type(keyframes.inputs)(*(part[one] for part in keyframes.inputs)), keyframes.offset[one], None)
        np.testing.assert_allclose(depth_of(network, one)[0], depth, rtol=1e-6)


def test_offset_inputs_and_truth_belong_together(walk):
    _, keyframes, matched, _, clip = walk
    for index, found in enumerate(matched):
        measured = (keyframes.inputs.matched[index] + keyframes.offset[index]).exp()[0]
        np.testing.assert_allclose(measured, found.measured_depth, rtol=1e-5)
    for image, truth in zip(keyframes.inputs.image, keyframes.truth, strict=True):
        ((frame,),) = (clip.image[0] == image).flatten(1).all(dim=1).nonzero(as_tuple=True)
        assert torch.equal(truth[0], clip.depth[0, frame])
    restored = torch.where(keyframes.valid, (keyframes.log_truth + keyframes.offset).exp(), 0.0)
    torch.testing.assert_close(restored, torch.where(keyframes.truth < 20, keyframes.truth, 0.0))
    # Walks of a trained matcher are mostly right; a truth of another keyframe, or an offset left out, would not be.
    error = (keyframes.inputs.matched - keyframes.log_truth[..., ::2, ::2]).abs()[keyframes.valid[..., ::2, ::2]]
    assert error.median() < 0.1


def test_a_clip_survives_its_file(walk, tmp_path):
    network, keyframes, *_ = walk
    path = tmp_path / "clips" / "00000.npz"
    write_clip(path, keyframes)
    loaded = read_clip(path)
    torch.testing.assert_close(loaded.offset, keyframes.offset, atol=0, rtol=0)
    torch.testing.assert_close(loaded.inputs.image, keyframes.inputs.image)
    torch.testing.assert_close(loaded.truth, keyframes.truth, rtol=1e-3, atol=0)
    difference = (depth_of(network, loaded).log() - depth_of(network, keyframes).log()).abs()
    assert difference.mean() < 0.002
    assert [path.name for path in path.parent.iterdir()] == ["00000.npz"]


def test_chosen_keyframes_keep_their_truth(walk, tmp_path):
    _, keyframes, *_ = walk
    path = tmp_path / "00000.npz"
    write_clip(path, keyframes)
    whole = read_clip(path)
    part = read_clip(path, np.random.default_rng(5), 2)
    assert len(part.truth) == 2
    for image, truth, offset in zip(part.inputs.image, part.truth, part.offset, strict=True):
        at = next(i for i, one in enumerate(whole.inputs.image) if torch.equal(one, image))
        assert torch.equal(truth, whole.truth[at]) and torch.equal(offset, whole.offset[at])
    assert len(joined([part, whole]).truth) == 2 + len(whole.truth)


def test_poses_of_some_walks_are_turned():
    angles = set()
    for number in range(8):
        given = WALKS.sources[0].batch(1, number).world_T_cam[0, :, :3, :3].double().numpy()
        recorded_as = WALKS.clip(number)[0].world_T_cam[0, :, :3, :3].double().numpy()
        turns = Rotation.from_matrix(given).inv() * Rotation.from_matrix(recorded_as)
        (angle,) = set(np.rad2deg(turns.magnitude()).round(2))
        angles.add(angle)
    assert {0.0} < angles <= set(MISALIGNMENTS_DEG)


def test_half_a_file_is_named(walk, tmp_path):
    path = tmp_path / "00000.npz"
    write_clip(path, walk[1])
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"00000\.npz holds no keyframes that can be read.*delete it"):
        read_clip(path)


def test_a_clip_that_claims_more_than_it_holds_is_refused(walk, tmp_path):
    path = tmp_path / "00000.npz"
    write_clip(path, walk[1])
    with np.load(path) as arrays:
        whole = dict(arrays)
    shape = (100_000_000,)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": shape})
    np.savez(path, **{name: array for name, array in whole.items() if name != "truth"})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("truth.npy", "w") as entry:
        entry.write(header.getvalue())
        for _ in range(20):
            entry.write(bytes(10_000_000))
    with pytest.raises(DataError, match=r"holds no keyframes that can be read.*inflate.*delete it"):
        read_clip(path)
    np.savez(path, **{**whole, "truth": whole["truth"][:1]})
    with pytest.raises(DataError, match="as many keyframes each"):
        read_clip(path)
    np.savez(path, **{**whole, "offset": whole["offset"].ravel()})
    with pytest.raises(DataError, match="offsets are those of an earlier version.*delete it"):
        read_clip(path)


def test_disturbed_depth_reaches_matching(walk):
    _, keyframes, _, _, clip = walk
    matcher = RecordingMatcher(*SIZE)
    engine = DepthEngine(
        initial_network("fusionnet", "small", "small", *SIZE)[0], EngineConfig(device="cpu"), matcher=matcher
    )
    matcher.disturb = lambda depth: np.minimum(1.5 * depth, 20)
    disturbed = recorded(engine, matcher, clip)
    change = disturbed.inputs.network + disturbed.offset - keyframes.inputs.network - keyframes.offset
    assert change.median() == pytest.approx(np.log(1.5), abs=0.01)


def test_a_disturbance_is_smooth_and_stays_for_a_while():
    depth = np.full((64, 96), 2.0, np.float32)
    np.testing.assert_allclose(Disturbance(np.random.default_rng(0), 0.0)(depth), depth)
    changes = []
    for seed in range(60):
        disturbance = Disturbance(np.random.default_rng(seed), 0.1)
        changes.append([np.log(disturbance(depth) / depth) for _ in range(3)])
    changes = np.array(changes)
    assert changes.std() == pytest.approx(0.1 * np.sqrt(1 + 0.6), rel=0.25)  # cubic interpolation takes some away
    assert 0.6 < np.corrcoef(changes[:, 0].ravel(), changes[:, 1].ravel())[0, 1] < 0.95
    assert np.abs(np.diff(changes, axis=3)).max() < 0.06  # of pixels drawn one by one 0.5


def test_clips_of_a_number_are_the_same_and_others_differ():
    first, again, other = (WALKS.clip(number)[0].image for number in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_walks_of_every_kind_share_their_textures():
    sources = Walks(*SIZE, seed=3, textures=8).sources
    assert len({source.seed for source in sources}) == len(sources) > 1
    assert len({source.texture_seed for source in sources}) == 1
