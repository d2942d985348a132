# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A captured step as long as it can be trusted, and the plain one otherwise: a robot goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable

from torch import Tensor

from dvmvs_core.errors import DeviceError, WeightsError, first_line

logger = logging.getLogger(__name__)


class CheckedStep:
    """Runs a step one way or the other, and says once, in one line, why it no longer runs the first way.

    Args:
        name: of the step, for a person.
        tolerance: mean difference from the plain step's results, in their own unit, up to which it is trusted.
    """

    def __init__(self, name: str, tolerance: float) -> None:
        self._name = name
        self._tolerance = tolerance
        self._checked: set[Hashable] = set()
        self._trusted = True

    def __call__(
        self, kind: Hashable, captured: Callable[[], tuple[Tensor, ...]], plain: Callable[[], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """Return the results of the captured step, compared with the plain one's at the first call of each kind.

        Raises:
            WeightsError: if either step does.
        """
        if self._trusted:
            try:
                results = captured()
                if kind not in self._checked:
                    self._compare(results, plain())
                    self._checked.add(kind)
                return results
            except WeightsError:
                raise
            except Exception as error:  # capture and drivers fail in many ways
                logger.warning(
                    "%s runs as separate steps, since its CUDA graph failed: %s", self._name, first_line(error)
                )
                self._trusted = False
        return plain()

    def _compare(self, found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
        for one, other in zip(found, expected, strict=True):
            difference = float((one - other).abs().mean())
            if not difference <= self._tolerance:
                raise DeviceError(f"it differs from the plain one by {difference:.3g} in the mean")
