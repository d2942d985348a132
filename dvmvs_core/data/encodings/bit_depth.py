# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Sixteen-bit values of cameras that use fewer bits, to eight.

Sensors of 10, 12 or 14 bits hand out their values in sixteen, in the lower bits as often as in the upper ones, and no
encoding says which. What has been seen of a camera does: the brightest value so far.
"""

from __future__ import annotations

import logging

import cv2
import numpy as np

logger = logging.getLogger(__name__)

BITS = (8, 10, 12, 14, 16)
"""Bits that sensors have."""


class BitDepth:
    """How many bits one camera uses, by its images so far: a dark image is not brightened once a bright one was seen.

    Whoever reads a camera's images keeps one for a pass through them: folder, bag and node give the same pixels.

    Args:
        name: of the images, for the log.
    """

    def __init__(self, name: str = "images") -> None:
        self._name = name
        self._bits = 0

    def eight_bits(self, image: np.ndarray) -> np.ndarray:
        """Return an image as uint8, rounded, so that the largest value of its bits becomes 255.

        Args:
            image: uint8, which is left as it is, or uint16.
        """
        if image.dtype == np.uint8:
            return image
        brightest = int(image.max())
        used = next(bits for bits in BITS if brightest < 1 << bits)
        if used > self._bits:
            self._bits = used
            if used < BITS[-1]:
                logger.info("%s of 16 bits use the lower %d of them: %d is white", self._name, used, (1 << used) - 1)
        return cv2.convertScaleAbs(image, alpha=255 / ((1 << self._bits) - 1))
