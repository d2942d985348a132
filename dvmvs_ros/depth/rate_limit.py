# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""At most so many a second, in the time of the images."""

from __future__ import annotations


class RateLimit:
    """Lets every stamp through that lies far enough behind the last one let through; a jump back starts anew."""

    def __init__(self) -> None:
        self._last_ns: int | None = None

    def allows(self, stamp_ns: int, max_rate_hz: float) -> bool:
        """Return whether this one may pass, and remember it if so.

        A hundredth of the period is forgiven, so that a camera of just that rate passes whole.

        Args:
            stamp_ns: the image's time.
            max_rate_hz: the highest rate; 0 lets everything pass.
        """
        if max_rate_hz > 0 and self._last_ns is not None:
            least_ns = 0.99e9 / max_rate_hz
            if 0 <= stamp_ns - self._last_ns < least_ns:
                return False
        self._last_ns = stamp_ns
        return True
