# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from camera_poses import pose_at
from tiny_networks import tiny_config, tiny_network

from dvmvs_core.config import EngineConfig
from dvmvs_core.edge_sharpening import compiled_edges
from dvmvs_core.engine import DepthEngine
from dvmvs_core.errors import ConfigError, DeviceError
from dvmvs_core.matching import pose_correction
from dvmvs_core.matching.blindness import LOG_DEPTH_DEVIATION, least_relative_error
from dvmvs_core.matching.choose_matcher import choose_matcher, choose_monocular
from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.matching.matched_confidence import matched_confidence
from dvmvs_core.matching.self_calibration import SelfCalibration, known_from
from dvmvs_core.model.dvmvs import ending_at_quarter
from dvmvs_core.plane_propagation import compiled_planes
from dvmvs_core.preprocess import Preprocessor
from dvmvs_core.temporal_fusion import compiled_fusion
from dvmvs_core.types import Frame

SIZE = (96, 128)
K = np.array(((110.0, 0, 63.5), (0, 110.0, 47.5), (0, 0, 1)))
WALL_M = 1.5


def wall_frame(index, size=SIZE):
    """A textured wall 1.5 m away, seen by a camera that moves sideways by 12 cm a frame."""
    shift = 0.12 * index
    noise = np.random.default_rng(7).integers(0, 256, (300, 600, 3), dtype=np.uint8)
    texture = cv2.GaussianBlur(noise, (0, 0), 1.5).astype(np.float32)
    texture = np.clip((texture - 128) * 4 + 128, 0, 255)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    at_x = x + np.float32(100 + K[0, 0] * shift / WALL_M)
    image = cv2.remap(texture, at_x, y + 100, cv2.INTER_LINEAR)
    return Frame(
        image.round().astype(np.uint8), K, pose_at(shift), stamp_ns=round(10 * (100 + index)), index=int(index)
    )


@pytest.fixture(scope="module")
def make_engine():
    """Return engines that share one set of random weights, by their kind of matching."""

    def make(matching, timer=None, ends_at_quarter=False):
        config = EngineConfig(device="cpu", precision="float32", matching=matching)
        network = tiny_network(height=SIZE[0], width=SIZE[1])
        return DepthEngine(ending_at_quarter(network) if ends_at_quarter else network, config, timer)

    return make


def step(*engines, frames):
    """What engines make of the last of some frames."""
    for index in frames:
        predictions = [engine.step(wall_frame(index)) for engine in engines]
    return predictions


@pytest.mark.parametrize("matching", ["fast", "full"])
def test_a_wall_is_found_whatever_the_network_says(make_engine, matching):
    matched, network = step(make_engine(matching), make_engine("off"), frames=range(6))
    inner = (slice(16, -16), slice(16, -40))
    error = np.abs(matched.depth[inner] / WALL_M - 1)
    assert np.median(error) < 0.03
    assert np.median(np.abs(network.depth[inner] / WALL_M - 1)) > 5 * np.median(error), "random weights know nothing"


@pytest.fixture
def trusts_intrinsics(monkeypatch):
    """So that the network sees the same focal length with matching and without."""
    monkeypatch.setattr(pose_correction, "with_measured_intrinsics", lambda tracks, calibration, *lens: calibration)


def test_the_engine_matches_as_the_matcher_alone_does_then_propagates_and_fuses(make_engine, trusts_intrinsics):
    engine, alone = make_engine("full"), make_engine("off", ends_at_quarter=True)
    matcher = choose_matcher("full", alone.model_config, "float32")
    monocular = choose_monocular(alone.model_config, torch.device("cpu"), "float32")
    views, means = [], []
    for index in range(5):
        frame = wall_frame(index)
        matched, network = engine.step(frame), alone.step(frame)
        K_here = Preprocessor(frame.K, SIZE, SIZE).K
        view = MatchingView(matcher.describe(frame.image), K_here, frame.world_T_cam.astype(np.float32))
        if network is not None:
            seen = [views[index] for index in network.measurement_index]
            informed = monocular.informed(torch.from_numpy(network.depth)[None], view, seen, known_from(views))
            found = matcher.match(view, views, informed[0])
            confidence = matched_confidence(found, "full")
            camera = torch.from_numpy(K_here)[None], torch.from_numpy(view.world_T_cam)[None]
            image = torch.from_numpy(frame.image).float()
            depth, confidence = (torch.from_numpy(part)[None] for part in (found.depth, confidence))
            planes = compiled_planes(depth, confidence, image)
            fused, confidence, mean = compiled_fusion(planes, confidence, *camera, means[-2:])
            sharp = compiled_edges(fused, image)
            published = least_relative_error(sharp, torch.from_numpy(found.blindness))
            np.testing.assert_array_equal(matched.depth, published[0].numpy())
            np.testing.assert_array_equal(matched.confidence, confidence[0].numpy())
            assert torch.equal(fused, planes) != bool(means) and not torch.equal(planes, depth)
            means.append(mean)
            settled = replace(found, measured_depth=mean.depth[0].numpy())
            view = MatchingView(view.descriptors, view.K, view.world_T_cam, settled)
        views.append(view)


def test_blind_depth_is_nearer_once_and_not_once_more_with_each_keyframe(make_engine, monkeypatch):
    def blank(index):
        frame = wall_frame(index)
        return replace(frame, image=np.full_like(frame.image, 128))

    def walk(deviation):
        monkeypatch.setattr("dvmvs_core.matching.blindness.LOG_DEPTH_DEVIATION", deviation)
        engine = make_engine("fast")
        return [prediction.depth for index in range(6) if (prediction := engine.step(blank(index)))]

    for depth, median in zip(walk(LOG_DEPTH_DEVIATION), walk(0.0), strict=True):
        ratio = depth / median
        assert np.exp(-(LOG_DEPTH_DEVIATION**2)) - 1e-5 <= ratio.min() < 0.95
        assert ratio.max() <= 1 + 1e-5


def test_a_frame_may_be_predicted_twice(make_engine):
    engine = make_engine("fast")
    first, second, third = (wall_frame(index) for index in range(3))
    for measurements in ([first], [first], [first, third]):
        depth = engine.predict(second, measurements).depth
        assert np.isfinite(depth).all()


def test_the_network_does_not_notice_that_its_depth_is_matched(make_engine, trusts_intrinsics):
    engine, alone = make_engine("fast"), make_engine("off", ends_at_quarter=True)
    step(engine, alone, frames=range(5))
    np.testing.assert_array_equal(engine._past.previous.depth, alone._past.previous.depth)
    np.testing.assert_array_equal(engine._past.previous.state, alone._past.previous.state)


def test_a_prediction_without_update_is_matched_and_leaves_nothing(make_engine):
    engine, untouched = make_engine("full"), make_engine("full")
    step(engine, untouched, frames=range(3))
    extra = engine.predict_without_update(wall_frame(2.5))
    assert np.median(np.abs(extra.depth[16:-16, 16:-40] / WALL_M - 1)) < 0.05
    np.testing.assert_array_equal(engine.step(wall_frame(3)).depth, untouched.step(wall_frame(3)).depth)


def test_a_reset_forgets_what_was_matched(make_engine):
    engine, fresh = make_engine("full"), make_engine("full")
    step(engine, frames=range(4))
    engine.reset()
    after, first = step(engine, fresh, frames=range(6, 9))
    np.testing.assert_array_equal(after.depth, first.depth)


FOCAL_ERROR = 0.06


def turning_frame(index):
    """The wall, seen by a camera that turns to and fro, whose focal length is said to be too long."""
    world_T_cam = pose_at(0.05 * index)
    world_T_cam[:3, :3] = cv2.Rodrigues(np.deg2rad(9) * np.array((np.sin(1.7 * index), np.cos(1.1 * index), 0)))[0]
    noise = np.random.default_rng(7).integers(0, 256, (400, 800), dtype=np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.5), None, 0, 255, cv2.NORM_MINMAX)
    metres = np.array(((0.01, 0, -3), (0, 0.01, -2), (0, 0, WALL_M)))  # of a pixel (x, y, 1) of the wall
    from_world = world_T_cam[:3, :3].T
    pixels = K @ (from_world @ metres - np.outer(from_world @ world_T_cam[:3, 3], (0, 0, 1)))
    image = cv2.warpPerspective(cv2.cvtColor(texture, cv2.COLOR_GRAY2RGB), pixels, SIZE[::-1])
    return Frame(
        image, SelfCalibration(FOCAL_ERROR).K(K), world_T_cam, stamp_ns=round(10 * index) + 1, index=int(index)
    )


def known(engine):
    return engine._past.calibration.log_focal


def test_a_turning_camera_finds_its_focal_length_and_the_network_gets_it(make_engine, monkeypatch, caplog):
    """The prediction keeps the intrinsics that the camera came with: they are those of its pixels."""
    engine = make_engine("fast")
    predictions = [engine.step(turning_frame(index)) for index in range(32)]
    assert caplog.text.count("% shorter than its intrinsics say") == 1
    assert -1.3 * FOCAL_ERROR < known(engine) < -0.5 * FOCAL_ERROR
    np.testing.assert_allclose(predictions[-1].K, turning_frame(0).K)

    given = []
    depth = engine._runner.depth
    monkeypatch.setattr(engine._runner, "depth", lambda *inputs: given.append(inputs[5]) or depth(*inputs))
    before = known(engine)
    assert engine.predict_without_update(turning_frame(32.5)) is not None
    assert known(engine) == before
    np.testing.assert_allclose(given[0][0], SelfCalibration(before).K(turning_frame(0).K), rtol=1e-6)
    engine.reset()
    assert known(engine) == 0


DISTORTION = -0.15


def straight_rays():
    """Rays (2, h, w) at depth 1 of the pixels of a camera with that distortion."""
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    seen = np.stack(((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]))
    rays = seen
    for _ in range(10):
        rays = seen / (1 + DISTORTION * np.square(rays).sum(axis=0))
    return rays


def bent_frame(index):
    """The wall, seen by a camera that turns to and fro through a lens that bends it as a barrel."""
    frame = turning_frame(index)
    u, v = (np.float32(K[i, i] * ray + K[i, 2]) for i, ray in enumerate(straight_rays()))
    return replace(frame, image=cv2.remap(frame.image, u, v, cv2.INTER_LINEAR), K=K)


def errors(predictions):
    """Mean relative error of each away from the border, part of which the camera sees for the first time."""
    rays = np.concatenate((straight_rays(), np.ones((1, *SIZE))))
    for one in predictions:
        truth = (WALL_M - one.world_T_cam[2, 3]) / np.einsum("i,ihw->hw", one.world_T_cam[2, :3], rays)
        yield np.abs(one.depth / truth - 1)[8:-8, 8:-8].mean()


def test_a_turning_camera_finds_the_distortion_of_its_images(make_engine, monkeypatch):
    """Image and intrinsics of a prediction stay as they came, and its depth belongs to them."""
    engine = make_engine("fast")
    predictions = [engine.step(bent_frame(index)) for index in range(44)]
    removed = engine._past.calibration.removed_distortion
    assert removed == pytest.approx(DISTORTION, abs=0.03)
    np.testing.assert_array_equal(predictions[-1].image, bent_frame(43).image)
    np.testing.assert_allclose(predictions[-1].K, K, rtol=1e-6)
    newest = engine._past.views[-1].matching_view
    expected = cv2.undistort(bent_frame(43).image, K, np.array((newest.distortion, 0, 0, 0)))
    inner = (slice(16, -16), slice(16, -16))
    np.testing.assert_allclose(newest.descriptors.image[inner].astype(int), expected[inner], atol=6)
    engine.reset()
    assert engine._past.calibration.removed_distortion == 0

    monkeypatch.setattr(pose_correction, "with_measured_intrinsics", lambda tracks, calibration, *lens: calibration)
    trusting = [engine.step(bent_frame(index)) for index in range(44)]
    assert np.mean(list(errors(predictions[-6:]))) < 0.8 * np.mean(list(errors(trusting[-6:])))


def test_a_given_keyframe_has_its_depth_at_its_own_pixels_too(make_engine):
    """`predict` keeps the reference frame before it is matched."""
    engine, stepped = make_engine("fast"), make_engine("fast")
    for index in range(44):
        stepped.step(bent_frame(index))
    for index in range(3):
        engine.predict(bent_frame(index + 1), [bent_frame(index)])
    newest = engine._past.views[-1].matching_view
    known = replace(newest.matched, calibration=stepped._past.calibration)
    engine._past.views[-1].matching_view = replace(newest, matched=known)
    prediction = engine.predict(bent_frame(4), [bent_frame(3), bent_frame(2)])
    assert engine._past.views[-1].matching_view.distortion == pytest.approx(DISTORTION, abs=0.03)
    assert np.mean(list(errors([prediction]))) < 0.1


def test_it_is_said_once_that_images_are_clearly_bent(make_engine, caplog):
    engine = make_engine("fast")
    engine._past = SimpleNamespace(calibration=SelfCalibration(distortion=-0.07, information=(1e6, 0, 1e6)))
    for _ in range(2):
        engine._warn_of_intrinsics()
    assert caplog.text.count("radially distorted, with k1 = -0.07 besides") == 1


def test_confidence_is_low_where_nothing_can_be_measured(make_engine):
    engine = make_engine("fast")
    (moved,) = step(engine, frames=range(5))
    assert np.isfinite(moved.confidence).all() and 0 <= moved.confidence.min() <= moved.confidence.max() <= 1
    turned = wall_frame(9)
    turned.world_T_cam[:3, :3] = np.diag((-1.0, 1.0, -1.0))  # looks the other way, where nothing was seen before
    assert engine.step(turned).confidence.max() == 0


def test_auto_leaves_the_published_network_alone(make_engine):
    assert make_engine("auto").matching == "fast"
    assert choose_matcher("auto", tiny_config("paper")) is None
    assert choose_matcher("full", tiny_config("paper")).config.preset == "full", "but either can have it"


def test_siblings_share_what_extracts_the_maps(make_engine):
    engine = make_engine("fast")
    sibling = engine.sibling(engine.config)
    assert sibling._matcher.describe._extract is engine._matcher.describe._extract


def test_siblings_match_alike(make_engine):
    engine = make_engine("fast")
    assert engine.sibling(engine.config.replace(matching="full")).matching == "full"
    with pytest.raises(
        ConfigError, match="ends at quarter resolution; matching is off here: give this engine a network"
    ):
        engine.sibling(engine.config.replace(matching="off"))
    whole = make_engine("off")
    assert whole.sibling(engine.config).matching == "fast"


def test_the_timer_hears_of_matching(make_engine):
    heard = []

    @contextmanager
    def timer(stage):
        heard.append(stage)
        yield

    engine = make_engine("fast", timer)
    step(engine, frames=range(2))
    stages = [stage for stage in heard if stage not in ("plane_sweep", "network")]
    each = ["features", "descriptors"]
    assert stages == [*2 * ["preprocess"], *2 * each, "depth", "matching", "confidence", "fusion"]


def test_without_numba_auto_goes_on_with_the_network_and_says_so(make_engine, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "dvmvs_core.matching.matcher", None)
    config = tiny_config()
    assert choose_matcher("auto", config) is None
    assert "numba cannot be loaded" in caplog.text
    with pytest.raises(DeviceError, match="matching fast needs numba"):
        choose_matcher("fast", config)
