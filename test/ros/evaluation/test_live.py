# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth and truth that arrive in any order, without ROS running."""

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.data.lens.camera_info import camera_model
from dvmvs_core.data.lens.raw_depth import rectify_depth
from dvmvs_core.errors import MessageError
from dvmvs_core.evaluation.prediction.prediction_pixels import resize_truth
from dvmvs_core.evaluation.scoring.metrics import evaluate_depth, mean_metrics
from dvmvs_core.preprocess import Preprocessor
from dvmvs_ros.evaluation.live import DEPTHS_HELD, LiveScore

MS = 1_000_000
SIZE, SMALL = (36, 48), (32, 64)
K = np.array(((40.0, 0.0, 23.5), (0.0, 41.0, 17.5), (0.0, 0.0, 1.0)))
P = np.hstack((K, np.zeros((3, 1)))).reshape(-1)
CAMERA = camera_model(*SIZE, K.reshape(-1), P, (0.0,) * 5)
BENT = camera_model(*SIZE, K.reshape(-1), P, (-0.3, 0.1, 0.0, 0.0, 0.0))
SMALL_K = Preprocessor(K, SIZE, SMALL).K.astype(np.float64)
TRUTH = np.random.default_rng(0).uniform(0.3, 5.0, SIZE).astype(np.float32)
DEPTH = np.random.default_rng(1).uniform(0.5, 4.0, SMALL).astype(np.float32)


def live(camera=CAMERA, raw=False) -> LiveScore:
    score = LiveScore(0.5, np.inf, raw)
    score.set_camera(camera)
    score.set_depth_intrinsics(SMALL_K)
    return score


def test_it_compares_as_offline_does():
    score = live()
    score.add_truth(0, lambda: TRUTH)
    score.add_depth(0, DEPTH)
    (compared,) = score.compare()
    truth = resize_truth(TRUTH, K, SMALL, SMALL_K)
    assert compared.metrics == evaluate_depth(DEPTH, truth, 0.5)
    assert list(score.compare()) == []


def test_raw_truth_is_rectified():
    score = live(BENT, raw=True)
    score.add_truth(0, lambda: TRUTH)
    score.add_depth(0, DEPTH)
    (compared,) = score.compare()
    truth = resize_truth(rectify_depth(TRUTH, BENT), K, SMALL, SMALL_K)
    assert compared.metrics == evaluate_depth(DEPTH, truth, 0.5)


def test_pixels_without_depth_do_not_count():
    score, holes = live(), DEPTH.copy()
    holes[:10] = 0
    score.add_truth(0, lambda: TRUTH)
    score.add_depth(0, holes)
    (compared,) = score.compare()
    assert not compared.truth[:10].any() and np.isfinite(compared.metrics.abs_inverse_error)


def test_the_mean_is_that_of_the_report():
    score, found = live(), []
    for i in range(5):
        nothing = np.zeros(SIZE, np.float32)
        score.add_truth(i * 100 * MS, lambda i=i, nothing=nothing: nothing if i == 3 else TRUTH + np.float32(0.1 * i))
        score.add_depth(i * 100 * MS, DEPTH)
        found += [compared.metrics for compared in score.compare()]
    assert score.figures.count == len(found) == 5
    assert score.figures.mean.to_dict() == pytest.approx(mean_metrics(found).to_dict())


def test_truth_may_come_first_or_last_and_the_nearest_within_5_ms_is_taken():
    score = live()
    score.add_depth(100 * MS, DEPTH)
    score.add_depth(200 * MS, DEPTH)
    score.add_depth(300 * MS, DEPTH)
    assert list(score.compare()) == []
    score.add_truth(97 * MS, lambda: TRUTH)
    assert list(score.compare()) == [], "a nearer one may come yet"
    score.add_truth(102 * MS, lambda: TRUTH + 1)
    score.add_truth(190 * MS, lambda: TRUTH)
    score.add_truth(300 * MS, lambda: TRUTH)
    first, last = score.compare()
    assert (first.stamp_ns, last.stamp_ns) == (100 * MS, 300 * MS)
    assert first.metrics.abs_error == pytest.approx(
        evaluate_depth(DEPTH, resize_truth(TRUTH + 1, K, SMALL, SMALL_K), 0.5).abs_error
    )
    assert score.without_truth == 1


def test_without_truth_it_holds_so_many_and_counts_the_others():
    score = live()
    for i in range(DEPTHS_HELD + 7):
        score.add_depth(i, DEPTH)
        assert list(score.compare()) == []
    assert score.without_truth == 7


def test_damaged_truth_and_truth_of_another_size_are_said_once_each():
    def broken():
        raise MessageError("cut off")

    score = live()
    for stamp_ns, read in ((0, broken), (100 * MS, lambda: TRUTH[:8]), (200 * MS, lambda: TRUTH)):
        score.add_truth(stamp_ns, read)
        score.add_depth(stamp_ns, DEPTH)
    with pytest.raises(MessageError, match="cut off"):
        list(score.compare())
    with pytest.raises(MessageError, match="must have the size of the colour image, 48×36; got 48×8"):
        list(score.compare())
    assert len(list(score.compare())) == 1
