# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.evaluation.scoring.sure_and_wrong import SureAndWrong, sure_and_wrong


def test_counts_by_hand():
    confidence = np.array((0.7, 0.9, 0.69, 1.0, 0.8))
    truth = np.array((2.0, 2.0, 2.0, 2.0, 2.0))
    prediction = np.array((2.21, 1.79, 9.0, 2.19, 1.81))
    counts = sure_and_wrong(confidence, prediction, truth)
    assert counts == SureAndWrong(pixels=5, sure=4, wrong=2)
    assert (counts.wrong_share, counts.coverage) == (0.5, 0.8)


def test_counts_add_up_pixel_by_pixel():
    total = SureAndWrong(100, 10, 10) + SureAndWrong(100, 90, 0)
    assert total.to_dict() == {"pixels": 200, "coverage": 0.5, "wrong": pytest.approx(0.1)}


def test_where_nothing_is_sure_there_is_no_share():
    counts = sure_and_wrong(np.array((0.1,)), np.array((1.0,)), np.array((1.0,)))
    assert counts.coverage == 0.0 and np.isnan(counts.wrong_share)
    assert counts.to_dict()["wrong"] is None
    assert SureAndWrong().to_dict() == {"pixels": 0, "coverage": None, "wrong": None}
