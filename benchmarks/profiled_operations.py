# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What takes longest in a profile of torch."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.profiler import profile


def longest(profiled: profile, most: int, unit_us: float = 1.0, runs: int = 1, digits: int = 1) -> dict[str, float]:
    """Return times by operation, on the device and on the host, and how many kernels and copies there were.

    Args:
        profiled: a profile that has ended.
        most: operations to name.
        unit_us: microseconds that count as 1.
        runs: that were profiled; the figures are of one.
        digits: after the point; what rounds to less is left out.
    """
    taken = Counter()
    for event in profiled.key_averages():
        taken["host: " + event.key[:90]] += event.self_cpu_time_total / (unit_us * runs)
        taken["device: " + event.key[:90]] += event.self_device_time_total / (unit_us * runs)
        if event.self_device_time_total:
            taken["kernels and copies"] += event.count / runs
    return {name: round(value, digits) for name, value in taken.most_common(most) if value >= 10**-digits}
