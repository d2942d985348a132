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
