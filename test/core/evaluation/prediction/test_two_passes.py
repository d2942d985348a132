# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import pytest

from dvmvs_core.evaluation.prediction.two_passes import TwoPasses


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
