# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import pytest

from dvmvs_core.evaluation.reconstruction.neighbours import with_neighbours


@pytest.mark.parametrize("reach", (1, 2, 3))
@pytest.mark.parametrize("count", (0, 1, 2, 9))
@pytest.mark.parametrize("every", (1, 2, 4))
def test_neighbours_are_those_that_a_plain_search_finds(reach, count, every):
    def is_keyframe(view: int) -> bool:
        return view % every == 0

    expected = []
    for view in range(count):
        before = [other for other in range(view) if is_keyframe(other)][-reach:]
        after = [other for other in range(view + 1, count) if is_keyframe(other)][:reach]
        expected.append((view, before + after))
    assert list(with_neighbours(range(count), reach, is_keyframe)) == expected


def test_views_come_as_soon_as_their_neighbours_are_there_and_go_when_they_are_not_needed():
    asked = []

    def endless():
        for view in range(1000):
            asked.append(view)
            yield view

    stream = with_neighbours(endless(), 3)
    for expected in range(100):
        view, _ = next(stream)
        assert view == expected
        assert len(asked) == view + 4
    held = stream.gi_frame.f_locals["held"]
    assert len(held) <= 8
