# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Confidence of matched depth: two witnesses, and nothing where no earlier keyframe looks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dvmvs_core.config import MATCHING_PRESETS
from dvmvs_core.matching.descriptors import Describer
from dvmvs_core.matching.keyframe import MatchedDepth, MatchingView
from dvmvs_core.matching.matched_confidence import matched_confidence
from dvmvs_core.matching.matcher import Matcher


@pytest.fixture(scope="module")
def matched(wall) -> MatchedDepth:
    matcher = Matcher(MATCHING_PRESETS["fast"], Describer())
    views = [
        MatchingView(matcher.describe(image), wall.K, pose) for image, pose in zip(wall.images, wall.poses, strict=True)
    ]
    return matcher.match(views[-1], views[:-1], np.full((96, 128), 2.0, np.float32))


def test_either_witness_can_doubt(matched):
    measured = matched_confidence(matched, "fast")
    assert np.median(measured) > 0.3
    doubted = dataclasses.replace(matched, log_odds=np.full(matched.margin.shape, -8.0, np.float32))
    assert matched_confidence(doubted, "fast").max() < 1e-3
    believed = dataclasses.replace(matched, log_odds=np.full(matched.margin.shape, 20.0, np.float32))
    np.testing.assert_allclose(matched_confidence(believed, "fast"), measured, atol=1e-6)


def test_it_is_zero_up_to_the_border_of_what_was_seen(matched):
    views = matched.views.copy()
    views[:, 40:] = 0
    confidence = matched_confidence(dataclasses.replace(matched, views=views), "fast")
    assert confidence[:, 80:].max() == 0
    assert confidence[:, :79].min() > 0
