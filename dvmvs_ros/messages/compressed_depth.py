# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth as compressedDepth, the form of depth images that image_transport sends over slow links.

Twelve bytes, then a PNG of 16 bits. 16UC1 is put in as it is. 32FC1 becomes inverse depth, in steps that are finer near
the camera: q = a / depth + b, with a = z (z + 1) and b = 1 − a / max_depth_m, so that the farthest depth has q = 1.
`dvmvs_core.data.encodings.compressed_depth` reads both.
Source: compressed_depth_image_transport of image_transport_plugins
"""

from __future__ import annotations

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from dvmvs_core.data.encodings.compressed_depth import HEADER, TRANSPORT
from dvmvs_ros.messages.conversions import fill_data, millimetres

INVERSE_DEPTH = 0
"""The kind of quantisation, the only one there is."""

QUANTISATION = 100.0
"""z above: the transport's default. A step is 0.1 mm at 1 m, 2.5 mm at 5 m and 4 cm at 20 m."""

PNG_LEVEL = 1
"""Fastest: 320×256 pixels take 2 ms, a tenth of the time at level 9, and a tenth more bytes."""


def compressed_depth_message(depth: np.ndarray, encoding: str, max_depth_m: float, header: Header) -> CompressedImage:
    """Return (h, w) float32 metres as a compressedDepth message.

    Args:
        depth: metres; 0, NaN, infinity or a negative value where it is invalid.
        encoding: "32FC1" or "16UC1", which the receiver gets back.
        max_depth_m: greatest depth that 32FC1 keeps.
        header: the message's header.
    """
    if encoding == "16UC1":
        a = b = 0.0
        values = millimetres(depth)
    else:
        a = QUANTISATION * (QUANTISATION + 1.0)
        b = 1.0 - a / max_depth_m
        values = _inverse_depth(depth, a, b)
    _, png = cv2.imencode(".png", values, (cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL))
    message = CompressedImage(header=header, format=f"{encoding}; {TRANSPORT} png")
    fill_data(message, HEADER.pack(INVERSE_DEPTH, a, b), png)
    return message


def _inverse_depth(depth: np.ndarray, a: float, b: float) -> np.ndarray:
    """Return q as uint16, rounded so that what is read back has no bias; 0 where depth is invalid or out of reach."""
    valid = np.isfinite(depth) & (depth > 0)
    steps = np.rint(a / np.where(valid, depth, 1.0) + b)
    steps[~valid | (steps < 1) | (steps > np.iinfo(np.uint16).max)] = 0
    return steps.astype(np.uint16)
