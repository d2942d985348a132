# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""At most so many a second."""

from __future__ import annotations

import pytest

from dvmvs_ros.depth.rate_limit import RateLimit

STEP_NS = 33_333_333


@pytest.mark.parametrize(("max_rate_hz", "passed"), [(0.0, 60), (30.0, 60), (15.0, 30), (7.0, 12), (1.0, 2)])
def test_a_camera_of_thirty_hertz(max_rate_hz, passed):
    limit = RateLimit()
    assert sum(limit.allows(i * STEP_NS, max_rate_hz) for i in range(60)) == passed


def test_a_jump_back_starts_anew():
    limit = RateLimit()
    assert limit.allows(10**12, 1.0) and not limit.allows(10**12 + STEP_NS, 1.0)
    assert limit.allows(5, 1.0)
