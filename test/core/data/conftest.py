# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Bags to write messages into."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fuzz"))  # of bag_recordings and format_writers


@pytest.fixture
def recording(tmp_path):
    """A bag to write messages into."""
    from bag_recordings import Recording

    bag = Recording(tmp_path / "hand")
    yield bag
    bag.close()


@pytest.fixture
def posed(recording):
    """The same with intrinsics, and transforms from 1 to 2 s."""
    from bag_recordings import SECOND

    return recording.info(0).transform(SECOND, x=1.0).transform(2 * SECOND, x=2.0)
