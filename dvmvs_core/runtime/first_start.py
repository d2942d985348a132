# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""One line, once a process, when something is compiled that an earlier start would have left on disk."""

from __future__ import annotations

import functools
import logging

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)  # whoever listens to the package's warnings shall hear of this, too

ABOUT_S = 15
"""What compiling for the default weights adds on two cores: `dvmvs warm-up`, on an empty cache and again, tells."""


@functools.cache
def announce_compiling() -> None:
    """Say that this start takes longer."""
    logger.info("compiling kernels for this processor: on the first start only, about %d s on two cores", ABOUT_S)
