# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_core.config import KeyframeConfig
from dvmvs_core.data.keyframe_index import IndexEntry, simulate_keyframes
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.sequence import PoseItem
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.predict_sequence import (
    PREDICTIONS,
    TwoPasses,
    predict_indexed,
    predict_online,
    write_predictions,
)
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
from dvmvs_core.evaluation.prediction.timeline import indexed_timeline, online_timeline

NAMES = [f"{i:05d}.png" for i in range(3, 15)]


def entry(reference: int, *measurements: int) -> IndexEntry:
    return IndexEntry(NAMES[reference], tuple(NAMES[m] for m in measurements))


def test_online_and_by_the_index_of_the_same_rule_ask_the_engine_for_the_same(make_scene, engine):
    sequence = open_sequence(make_scene(frames=12))
    online = [(p.frame_index, p.measurement_index) for p, _ in predict_online(engine, sequence)]
    assert online[:3] == [(2, (0,)), (4, (2, 0)), (6, (4, 2))]
    entries = list(simulate_keyframes(sequence.poses(), KeyframeConfig()))
    assert [(p.frame_index, p.measurement_index) for p, _ in predict_indexed(engine, sequence, entries)] == online


def test_every_pass_starts_from_a_reset_engine(make_scene, engine):
    sequence = open_sequence(make_scene())
    list(predict_online(engine, sequence))
    list(predict_indexed(engine, sequence, [entry(1, 0)]))
    assert engine.calls[0] == engine.calls[-2] == ("reset",)


def test_an_index_may_name_any_frames_in_any_order(make_scene, engine):
    sequence = open_sequence(make_scene(frames=12))
    entries = [entry(3, 9, 1), entry(2, 0), IndexEntry(None), entry(11, 10, 2, 0)]
    items = list(predict_indexed(engine, sequence, entries))
    assert engine.calls[1:] == [(3, (9, 1)), (2, (0,)), ("reset",), (11, (10, 2, 0))]
    assert [item.name for _, item in items] == [NAMES[3], NAMES[2], NAMES[11]]


def test_an_index_of_another_sequence_is_refused_before_any_work(make_scene, engine):
    sequence = open_sequence(make_scene(frames=6))
    with pytest.raises(DataError, match="names 2 frames that .*scene lacks, the first 00012.png"):
        list(predict_indexed(engine, sequence, [entry(1, 0), entry(10, 9)]))
    assert engine.calls == []


def test_progress_counts_every_frame(make_scene, engine):
    steps = []
    list(predict_online(engine, open_sequence(make_scene(frames=7)), advance=steps.append))
    assert sum(steps) == 7


def test_predictions_come_back_from_the_file(make_scene, engine, tmp_path):
    sequence, path = open_sequence(make_scene(frames=9)), tmp_path / "out" / PREDICTIONS
    expected = [p for p, _ in predict_online(engine, sequence)]
    assert write_predictions(predict_online(engine, sequence), tmp_path / "out") == [12.0, 14.0, 16.0, 18.0]
    with np.load(path) as arrays:
        assert arrays["depth"].dtype == np.float32
        assert arrays["depth"].shape == (4, 32, 64)
        assert "confidence" not in arrays.files
        assert arrays["measurement_index"].tolist() == [[0, -1], [2, 0], [4, 2], [6, 4]]
        assert arrays["K"] == pytest.approx(expected[0].K)
        assert np.array_equal(arrays["world_T_cam"], np.stack([p.world_T_cam for p in expected]))
        assert arrays["stamp_ns"].tolist() == [p.stamp_ns for p in expected]
    reader = PredictionReader(path)
    assert len(reader) == 4 and not reader.refined
    for depth, p in zip(reader.depths(), expected, strict=True):
        assert np.array_equal(depth, p.depth)


def test_the_limit_counts_keyframes(make_scene, engine, tmp_path):
    sequence = open_sequence(make_scene(frames=12))
    assert len(write_predictions(predict_online(engine, sequence), tmp_path, limit=2)) == 2
    assert PredictionReader(tmp_path / "predictions.npz").frame_index.tolist() == [2, 4]


def test_pictures_show_one_keyframe_in_so_many(make_scene, engine, tmp_path):
    sequence = open_sequence(make_scene(frames=12))
    write_predictions(predict_online(engine, sequence, depth=True), tmp_path, pictures_every=2)
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [picture.name for picture in pictures] == ["00002.png", "00006.png", "00010.png"]
    assert cv2.imread(str(pictures[0])).shape[1] == 4 * 64 + 3 * 4


def test_a_failure_half_way_leaves_the_old_file(make_scene, engine, predict):
    scene = make_scene(frames=12)
    path = predict(open_sequence(scene))
    before = path.read_bytes()
    for file in (scene / "depth").iterdir():
        cv2.imwrite(str(file), np.zeros((9, 9), np.uint16))
    with pytest.raises(DataError, match="00003.png must have the size of its image"):
        write_predictions(predict_online(engine, open_sequence(scene), depth=True), path.parent)
    assert list(path.parent.iterdir()) == [path] and path.read_bytes() == before


def test_a_frame_that_cannot_be_read_is_as_if_it_had_never_been(make_scene, predict):
    scene = make_scene(frames=12)
    (scene / "images" / "00009.png").write_bytes(b"")
    reader = PredictionReader(predict(open_sequence(scene)))
    # Every second frame is a keyframe: 2, 4, then 7 in place of 6, 9 and 11.
    assert reader.frame_index.tolist() == [2, 4, 7, 9, 11]
    assert reader.measurement_index[2].tolist() == [4, 2]


def test_an_index_goes_on_without_frames_that_cannot_be_read(make_scene, engine):
    scene = make_scene(frames=12)
    for number in (5, 8, 14):
        (scene / "images" / f"{number:05d}.png").write_bytes(b"")
    lines = (scene / "poses.txt").read_text().splitlines()
    lines[7] = " ".join(["nan"] * 16)  # of 00010.png
    (scene / "poses.txt").write_text("\n".join(lines))
    entries = [
        IndexEntry("00005.png", ("00003.png",)),  # without its image
        IndexEntry("00006.png", ("00005.png", "00003.png")),  # without one of its measurement frames
        IndexEntry("00007.png", ("00005.png", "00008.png")),  # without either
        IndexEntry("00010.png", ("00009.png",)),  # without its pose
        IndexEntry("00009.png", ("00013.png", "00006.png")),
        IndexEntry("00014.png", ("00013.png",)),  # without its image, the last
        IndexEntry("00011.png", ("00006.png",)),
    ]
    predicted = [prediction for prediction, _ in predict_indexed(engine, open_sequence(scene), entries)]
    assert [(p.frame_index, p.measurement_index) for p in predicted] == [(3, (0,)), (6, (10, 3)), (8, (3,))]


def test_a_camera_that_stands_still_is_told_so(make_scene, predict, tmp_path):
    still = make_scene(frames=3, poses=np.tile(np.eye(4), (3, 1, 1)))
    with pytest.raises(DataError, match="no frame became a keyframe"):
        predict(open_sequence(still))
    assert not (tmp_path / "out" / PREDICTIONS).exists()


@pytest.mark.parametrize(
    "damage",
    (
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-100]), id="cut"),
        pytest.param(lambda path: path.write_bytes(b"nothing of the kind"), id="garbage"),
        pytest.param(lambda path: np.savez(path, depth=np.zeros((1, 2, 2))), id="lacking"),
        pytest.param(lambda path: path.unlink(), id="missing"),
    ),
)
def test_a_broken_prediction_file_is_one_clear_error(make_scene, predict, damage):
    path = predict(open_sequence(make_scene()))
    damage(path)
    with pytest.raises(DataError, match="predictions.npz"):
        PredictionReader(path)


def test_both_passes_together_count_every_frame_once():
    """A pass behind by three, over every second frame of eleven; the last gives nothing."""
    counted: list[float] = []
    passes = TwoPasses(counted.append)

    def behind():
        waiting = []
        for frame in range(11):
            passes.first(1)
            waiting += [frame] if frame % 2 else []
            if len(waiting) > 3:
                yield waiting.pop(0)
        yield from waiting

    after_each = [(item, sum(counted)) for item in passes.second(behind(), lambda item: item)]
    assert [item for item, _ in after_each] == [1, 3, 5, 7, 9]
    assert after_each[0][1] == pytest.approx(8 / 2 + 2 / 2)  # eight were read when the first two are done
    assert sum(counted) == pytest.approx(11)
    assert min(counted) > 0


def test_frames_that_come_twice_or_out_of_order_are_counted_once():
    counted: list[float] = []
    list(TwoPasses(counted.append).second([4, 2, 4, 9], lambda item: item))
    assert sum(counted) == pytest.approx(10 / 2)


def test_decisions_of_the_buffer_are_run_lengths():
    poses = [np.eye(4) for _ in range(9)]
    for i, x in enumerate((0.0, 0.0, 0.2, 0.4)):
        poses[i][0, 3] = x
    for pose in poses[4:8]:
        pose[:] = np.nan
    items = [PoseItem(i, str(i), i, pose) for i, pose in enumerate(poses)]
    assert online_timeline(items, KeyframeConfig(max_lost_frames=2)) == [
        ("first", 1), ("too_close", 1), ("keyframe", 2), ("invalid_pose", 2), ("tracking_lost", 1), ("still_lost", 1),
        ("first", 1),
    ]  # fmt: skip


def test_frames_that_cannot_be_read_never_reach_the_buffer():
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, 0, 3] = (0.0, 0.2, 0.25, 0.45)
    items = [PoseItem(i, str(i), i, pose) for i, pose in enumerate(poses)]
    assert online_timeline(items, KeyframeConfig(), unreadable={1}) == [
        ("first", 1), ("unreadable", 1), ("keyframe", 2),
    ]  # fmt: skip


def test_an_index_uses_frames_as_keyframes_as_measurement_frames_or_not():
    timeline = indexed_timeline(6, np.array((2, 4)), np.array(((0, -1), (2, 0))))
    assert [name for name, _ in timeline] == ["measurement", "unused", "keyframe", "unused", "keyframe", "unused"]
