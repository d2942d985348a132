# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""State, caches and refusals of the engine, with a small untrained network."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from camera_poses import pose_at
from tiny_networks import tiny_network

from dvmvs_core.config import EngineConfig, KeyframeConfig
from dvmvs_core.engine import DepthEngine
from dvmvs_core.errors import ConfigError, DeviceError, FrameError
from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_core.runtime.devices import resolve_device
from dvmvs_core.runtime.openvino_export import Target
from dvmvs_core.types import Frame

K = np.array(((80.0, 0, 60), (0, 80.0, 40), (0, 0, 1)))


def make_frame(index, size=(80, 120), K=K, lost=False):
    image = np.random.default_rng(round(10 * index)).integers(0, 256, (*size, 3), dtype=np.uint8)
    world_T_cam = np.full((4, 4), np.nan) if lost else pose_at(0.15 * index)
    return Frame(image, K, world_T_cam, stamp_ns=round(1000 + index), index=round(index))


def make_frames(*numbers, **changes):
    return [make_frame(i, **changes) for i in range(*numbers)]


@pytest.fixture(params=["fusionnet", "pairnet"])
def make_engine(request):
    """Return engines that all share one set of random weights."""

    def make(mode="auto", precision="float32", timer=None, **keyframes):
        rule = KeyframeConfig(**keyframes)
        config = EngineConfig(device="cpu", mode=mode, precision=precision, matching="off", keyframes=rule)
        return DepthEngine(tiny_network(network=request.param), config, timer)

    return make


def depths_of(engine, frames):
    return [p.depth for p in map(engine.step, frames) if p is not None]


def count_extractions(engine, monkeypatch):
    calls = []
    features = engine._runner.features
    monkeypatch.setattr(engine._runner, "features", lambda image: calls.append(1) or features(image))
    return calls


def test_first_frame_has_no_depth_and_the_second_has(make_engine):
    engine = make_engine()
    assert engine.last_decision is None
    assert engine.step(make_frame(0)) is None
    assert engine.last_decision is KeyframeDecision.FIRST
    prediction = engine.step(make_frame(1))
    assert engine.last_decision is KeyframeDecision.KEYFRAME
    assert prediction.depth.shape == (64, 96) and prediction.depth.dtype == np.float32
    assert (prediction.depth >= 0.25).all() and (prediction.depth <= 20.0).all()
    assert (prediction.frame_index, prediction.measurement_index) == (1, (0,))
    assert (prediction.stamp_ns, prediction.measurement_stamps_ns) == (1001, (1000,))
    np.testing.assert_allclose(prediction.K, ((64, 0, 48), (0, 64, 32), (0, 0, 1)))
    assert prediction.image.shape == (64, 96, 3) and prediction.image.dtype == np.uint8
    assert prediction.confidence.shape == (64, 96) and prediction.confidence.dtype == np.float32
    assert (prediction.confidence >= 0).all() and (prediction.confidence <= 1).all()


def test_a_frame_that_did_not_move_is_dropped(make_engine):
    engine = make_engine()
    for expected in (KeyframeDecision.FIRST, KeyframeDecision.TOO_CLOSE):
        assert engine.step(make_frame(0)) is None
        assert engine.last_decision is expected


def test_every_image_is_extracted_once(make_engine, monkeypatch):
    engine = make_engine(measurement_frames=3)
    calls = count_extractions(engine, monkeypatch)
    assert len(depths_of(engine, make_frames(6))) == 5
    assert len(calls) == 6


def test_index_file_mode_gives_the_same_depths_and_caches_too(make_engine, monkeypatch):
    frames = make_frames(6)
    online = make_engine()
    offline = make_engine()
    calls = count_extractions(offline, monkeypatch)
    for frame in frames:
        prediction = online.step(frame)
        if prediction is not None:
            again = offline.predict(frame, [frames[i] for i in prediction.measurement_index])
            np.testing.assert_array_equal(again.depth, prediction.depth)
            assert again.measurement_index == prediction.measurement_index
    assert len(calls) == 6


def test_raw_images_are_not_kept(make_engine):
    engine = make_engine()
    depths_of(engine, make_frames(4))
    views = [keyframe.payload for keyframe in engine._keyframes._keyframes]
    assert [view.image for view in views] == [None] * 4
    assert list(engine._past.views) == views
    assert [view.depth is None for view in views] == [True, False, False, False]


def test_reset_makes_the_engine_new(make_engine):
    frames = make_frames(4)
    engine = make_engine()
    first = depths_of(engine, frames)
    engine.reset()
    np.testing.assert_array_equal(depths_of(engine, frames), first)


def test_warm_up_leaves_no_trace(make_engine):
    frames = make_frames(3)
    cold, warm = make_engine(), make_engine()
    warm.warm_up()
    assert warm.last_decision is None
    np.testing.assert_array_equal(depths_of(warm, frames), depths_of(cold, frames))


def test_lost_tracking_clears_the_recurrent_state(make_engine):
    engine = make_engine(max_lost_frames=2)
    frames = make_frames(4)
    fresh = depths_of(make_engine(), frames)
    depths_of(engine, make_frames(10, 14))
    decisions = []
    for i in range(4):
        engine.step(make_frame(20 + i, lost=True))
        decisions.append(engine.last_decision.name)
    assert decisions == ["INVALID_POSE", "INVALID_POSE", "TRACKING_LOST", "STILL_LOST"]
    np.testing.assert_array_equal(depths_of(engine, frames), fresh)


def test_a_short_loss_keeps_the_state(make_engine):
    frames = make_frames(5)
    engine = make_engine()
    unbroken = depths_of(make_engine(), frames)
    broken = depths_of(engine, frames[:3]) + depths_of(engine, [make_frame(9, lost=True), *frames[3:]])
    np.testing.assert_array_equal(broken, unbroken)


@pytest.mark.parametrize("change", [{"size": (100, 200)}, {"K": K * np.array(((1.1,), (1.1,), (1.0,)))}])
def test_another_camera_starts_anew(make_engine, change):
    engine = make_engine()
    depths_of(engine, make_frames(3))
    frames = make_frames(10, 13, **change)
    changed = depths_of(engine, frames)
    assert len(changed) == 2
    np.testing.assert_array_equal(changed, depths_of(make_engine(), frames))


def test_recurrence_matters_to_fusionnet_only(make_engine):
    """The last frame against the same measurement frame, with and without two predictions before it."""
    frames = make_frames(4)
    alone, after = make_engine(), make_engine()
    depth_alone = alone.predict(frames[3], [frames[2]]).depth
    after.predict(frames[1], [frames[0]])
    after.predict(frames[2], [frames[1]])
    depth_after = after.predict(frames[3], [frames[2]]).depth
    same = np.array_equal(depth_alone, depth_after)
    assert same == (alone.model_config.network == "pairnet")


def test_predict_refuses_what_it_cannot_measure(make_engine):
    with pytest.raises(FrameError, match="at least 1 measurement frame"):
        make_engine().predict(make_frame(0), [])
    with pytest.raises(FrameError, match="frame 7 has no finite pose"):
        make_engine().predict(make_frame(0), [make_frame(7, lost=True)])


@pytest.mark.parametrize("name", ["tpu", "meta", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(DeviceError, match="device"):
        resolve_device(name)


@pytest.mark.parametrize("mode", ["auto", "reference"])
def test_predictions_without_update_between_steps_change_nothing(make_engine, mode):
    frames = make_frames(5)
    plain, between = make_engine(mode=mode), make_engine(mode=mode)
    expected = depths_of(plain, frames)
    found = []
    for frame in frames:
        prediction = between.step(frame)
        decision = between.last_decision
        near = make_frame(frame.index + 0.3)
        assert between.predict_without_update(near).measurement_index
        assert between.last_decision is decision
        found += [] if prediction is None else [prediction.depth]
    np.testing.assert_array_equal(found, expected)


def test_a_prediction_without_update_is_what_a_step_would_have_given(make_engine):
    frames = make_frames(4)
    engine = make_engine()
    depths_of(engine, frames[:3])
    without, stepped = engine.predict_without_update(frames[3]), engine.step(frames[3])
    np.testing.assert_array_equal(without.depth, stepped.depth)
    np.testing.assert_array_equal(without.confidence, stepped.confidence)
    assert without.measurement_index == stepped.measurement_index
    assert (without.frame_index, without.stamp_ns) == (3, 1003)


def test_without_keyframes_there_is_no_prediction(make_engine):
    engine = make_engine()
    assert engine.predict_without_update(make_frame(0)) is None
    engine.step(make_frame(0))
    assert engine.predict_without_update(make_frame(1)) is not None
    assert engine.predict_without_update(make_frame(1, lost=True)) is None
    assert engine.predict_without_update(make_frame(1, size=(100, 200))) is None
    assert len(engine._keyframes) == 1
    engine.reset()
    assert engine.predict_without_update(make_frame(1)) is None


def test_the_number_of_measurement_frames_changes_live(make_engine):
    engine = make_engine(measurement_frames=1)
    steps = [engine.step(make_frame(i)) for i in range(4)]
    assert [len(p.measurement_index) for p in steps[1:]] == [1, 1, 1]
    rule = engine.config.keyframes
    engine.set_keyframe_rule(rule.replace(measurement_frames=3))
    assert engine.config.keyframes.measurement_frames == 3
    assert len(engine.step(make_frame(4)).measurement_index) == 3
    with pytest.raises(ConfigError, match="buffer_size must stay 30"):
        engine.set_keyframe_rule(rule.replace(buffer_size=20))
    assert len(engine.step(make_frame(5)).measurement_index) == 3


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near(make_engine, precision):
    if not Target("CPU", precision).has_precision():
        pytest.skip(f"this processor does not compute in {precision}")
    frames = make_frames(4)
    exact, half = (np.stack(depths_of(make_engine(precision=p), frames)) for p in ("float32", precision))
    assert half.dtype == np.float32
    differences = np.abs(half / exact - 1).mean(axis=(1, 2))
    assert (differences > 0).all() and (differences < (2e-2 if precision == "bfloat16" else 3e-3)).all()


def test_the_reference_path_keeps_no_features_and_gives_the_same_depths(make_engine, monkeypatch):
    frames = make_frames(4)
    reference = make_engine(mode="reference")
    calls = count_extractions(reference, monkeypatch)
    plain = depths_of(reference, frames)
    assert len(calls) == (1 + 1) + (1 + 2) + (1 + 2)
    fast = depths_of(make_engine(), frames)
    np.testing.assert_allclose(plain, fast, rtol=1e-3)
    assert np.abs(np.divide(fast, plain) - 1).mean(axis=(1, 2)).max() < 1e-5


def test_siblings_share_a_network_but_no_state(make_engine):
    frames = make_frames(4)
    alone = depths_of(make_engine(), frames)
    first = make_engine()
    second = first.sibling(first.config)
    for i, frame in enumerate(frames):
        first.step(make_frame(7 + i))
        prediction = second.step(frame)
        if prediction is not None:
            np.testing.assert_array_equal(prediction.depth, alone[i - 1])


def recording_timer(events):
    @contextmanager
    def timer(stage):
        events.append(f"<{stage}")
        yield
        events.append(f"{stage}>")

    return timer


@pytest.mark.parametrize(("mode", "precision"), [("auto", "float32"), ("auto", "bfloat16"), ("reference", "float32")])
def test_the_timer_hears_the_stages_in_their_order(make_engine, mode, precision):
    events = []
    timed, plain = make_engine(mode, precision, timer=recording_timer(events)), make_engine(mode, precision)
    frames = make_frames(3)
    assert timed.step(frames[0]) is None and not events, "the first frame waits until it is needed"
    assert timed.step(make_frame(0.1)) is None and not events
    plain.step(frames[0])
    image, features = ["<preprocess", "preprocess>"], ["<features", "features>"]
    parts = [] if mode == "reference" else ["<plane_sweep", "plane_sweep>", "<network", "network>"]
    depth = ["<depth", *parts, "depth>"]
    confidence = ["<confidence", "confidence>"]
    np.testing.assert_array_equal(timed.step(frames[1]).depth, plain.step(frames[1]).depth)
    assert events == [*image, *image, *features, *features, *depth, *confidence]
    events.clear()
    timed.estimates_confidence = False
    np.testing.assert_array_equal(timed.step(frames[2]).depth, plain.step(frames[2]).depth)
    again = 2 * [*image, *features] if mode == "reference" else []
    assert events == [*image, *again, *features, *depth]


def test_the_warm_up_covers_every_number_of_measurement_frames(make_engine, monkeypatch):
    engine = make_engine(measurement_frames=5)
    counts = set()
    depth = engine._runner.depth

    def counting(image, reference, measurements, *rest):
        counts.add((len(measurements), rest[-1] is not None))
        return depth(image, reference, measurements, *rest)

    monkeypatch.setattr(engine._runner, "depth", counting)
    engine.warm_up()
    warm = set(counts)
    depths_of(engine, make_frames(8))
    assert counts == warm == {(1, False), (2, True), (3, True), (4, True), (5, True)}


def test_one_measurement_frame_is_warmed_up_with_recurrent_state(make_engine, monkeypatch):
    engine = make_engine(measurement_frames=1)
    given = []
    depth = engine._runner.depth
    monkeypatch.setattr(engine._runner, "depth", lambda *all: given.append(all[-1] is not None) or depth(*all))
    engine.warm_up()
    assert given == [False, True]


def test_an_engine_on_a_shared_runner_leaves_its_timer_alone(make_engine):
    events = []
    first = make_engine(timer=recording_timer(events))
    second = first.sibling(first.config)
    depths_of(second, make_frames(2))
    assert set(events) == {"<plane_sweep", "plane_sweep>", "<network", "network>"}, "its own stages are not timed"
