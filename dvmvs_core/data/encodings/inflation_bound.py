# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How far compressed data are believed; apart from what inflates them, since that needs the packages of bags."""

from __future__ import annotations

INFLATED_ANYWAY, INFLATED_PER_BYTE = 100_000_000, 200
"""What is believed of compressed data: so many bytes in all, and beyond that so many for each byte."""


def inflation_bound(compressed_bytes: int) -> int:
    """Return the most bytes that so many bytes of compressed data may become."""
    return max(INFLATED_ANYWAY, INFLATED_PER_BYTE * compressed_bytes)
