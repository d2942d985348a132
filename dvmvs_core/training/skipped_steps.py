# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Steps that change no weight, since their gradient is not finite: a few are passed over, many end a run."""

from __future__ import annotations

import logging
from pathlib import Path

from dvmvs_core.errors import DataError

logger = logging.getLogger(__name__)

MOST_IN_A_ROW = 20


class SkippedSteps:
    """Counts them.

    Attributes:
        in_a_row: how many came since the last step that changed weights.
    """

    def __init__(self) -> None:
        self.in_a_row = 0

    def note(self, step: int, finite: bool, checkpoint: Path) -> None:
        """Take note of a step.

        Args:
            step: its number.
            finite: whether its gradient was.
            checkpoint: to resume from.

        Raises:
            DataError: if there were too many one after the other.
        """
        self.in_a_row = 0 if finite else self.in_a_row + 1
        if not finite:
            logger.warning("step %d skipped: its gradient is not finite", step)
        if self.in_a_row >= MOST_IN_A_ROW:
            raise DataError(
                f"{self.in_a_row} steps in a row had no finite gradient; lower the learning rate and resume from"
                f" {checkpoint}"
            )
