# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.evaluation.prediction.predict_sequence import (
    predict_every_frame,
)
from dvmvs_core.evaluation.reconstruction.depth_views import predicted_views, sensor_views, stored_views

keyframes_of = partial(predict_every_frame, others=False)


def same(a, b) -> bool:
    return (
        a.frame_index == b.frame_index
        and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("depth", "world_T_cam", "K"))
        # The engine of these tests cuts fractions off where pictures are rounded.
        and np.allclose(a.image.astype(int), b.image, atol=1)
        and np.array_equal(a.sensor_depth, b.sensor_depth)
    )


def test_predictions_from_disk_give_the_views_that_came_from_the_engine(make_scene, engine, predict):
    sequence = open_sequence(make_scene(frames=9))
    predictions = predict(sequence)
    now = list(predicted_views(keyframes_of(engine, sequence, depth=True)))
    steps: list[int] = []
    before = list(stored_views(predictions, sequence, advance=steps.append))
    assert [view.frame_index for view in now] == [2, 4, 6, 8]
    assert sum(steps) == 9
    assert all(map(same, now, before))
    assert now[0].sensor_depth.shape == now[0].depth.shape
    assert (now[0].sensor_depth > 0).mean() > 0.5


def test_every_frame_gives_views_and_says_which_are_of_keyframes(make_scene, engine):
    sequence = open_sequence(make_scene(frames=7, depth=False))
    steps: list[int] = []
    views = list(predicted_views(predict_every_frame(engine, sequence, advance=steps.append)))
    assert sum(steps) == 7
    assert [(view.frame_index, view.is_keyframe) for view in views] == [
        (1, False), (2, True), (3, False), (4, True), (5, False), (6, True),
    ]  # fmt: skip


def test_predictions_may_be_of_any_frames_in_any_order(make_scene, predict):
    sequence = open_sequence(make_scene(frames=9, depth=False))
    views = list(stored_views(predict(sequence, pairs=((3, 1), (7, 3), (2, 8), (7, 6))), sequence))
    assert [view.frame_index for view in views] == [3, 7, 2, 7]
    items = {item.frame.index: item for item in sequence.items()}
    assert all(np.array_equal(view.world_T_cam, items[view.frame_index].frame.world_T_cam) for view in views)
    assert views[0].sensor_depth is None


def test_predictions_of_another_sequence_are_refused(make_scene, predict):
    predictions = predict(open_sequence(make_scene("long", frames=9)))
    with pytest.raises(DataError, match="frame 6 at .* s, which .*short lacks: it belongs to another sequence"):
        list(stored_views(predictions, open_sequence(make_scene("short", frames=5))))


def test_depth_of_too_little_confidence_is_left_out(make_scene, engine, predict):
    sequence = open_sequence(make_scene(frames=5))
    with pytest.raises(ConfigError, match="these predictions lack"):
        list(predicted_views(keyframes_of(engine, sequence), min_confidence=0.5))
    engine.confidence = 0.6
    predictions = predict(sequence)
    for least, depth in ((0.5, 2.0), (0.7, 0.0)):
        now = list(predicted_views(keyframes_of(engine, sequence), least))
        before = list(stored_views(predictions, sequence, least))
        assert all((view.depth == depth).all() for view in (*now, *before))


def test_sensor_depth_comes_from_keyframes_or_from_every_frame_with_a_pose(make_scene):
    scene = make_scene(frames=9)
    poses = np.loadtxt(scene / "poses.txt")
    poses[5] = np.nan
    np.savetxt(scene / "poses.txt", poses)
    sequence = open_sequence(scene)
    keyframes = list(sensor_views(sequence))
    assert [view.frame_index for view in keyframes] == [2, 4, 6, 8]
    assert [view.frame_index for view in sensor_views(sequence, every_frame=True)] == [0, 1, 2, 3, 4, 6, 7, 8]
    item = next(item for item in sequence.items() if item.frame.index == 2)
    assert np.array_equal(keyframes[0].depth, item.sensor_depth)
    assert np.array_equal(keyframes[0].image, item.frame.image)


def test_a_sequence_without_sensor_depth_is_refused(make_scene):
    with pytest.raises(DataError, match="no sensor depth to fuse; leave out --sensor"):
        next(sensor_views(open_sequence(make_scene(depth=False))))
