# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth out as compressedDepth, read back by the reader that knows image_transport's."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from dvmvs_core.data.encodings.compressed_depth import decode_compressed_depth
from dvmvs_ros.messages.compressed_depth import compressed_depth_message
from dvmvs_ros.messages.conversions import make_header

HEADER = make_header(7, "camera")
INVALID = (0.0, np.nan, np.inf, -np.inf, -1.0)


def depths() -> np.ndarray:
    depth = np.linspace(0.25, 20.0, 24 * 32, dtype=np.float32).reshape(24, 32)
    depth[0, : len(INVALID)] = INVALID
    return depth


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
def test_it_comes_back(encoding):
    depth = depths()
    message = compressed_depth_message(depth, encoding, 20.0, HEADER)
    assert message.format == f"{encoding}; compressedDepth png" and message.header == HEADER
    back = decode_compressed_depth(message.format, message.data)
    valid = np.isfinite(depth) & (depth > 0)
    assert (back[~valid] == 0.0).all()
    # Half a step: of a millimetre, or of inverse depth.
    step = depth[valid] ** 2 / 10100.0 if encoding == "32FC1" else 0.001
    assert (np.abs(back - depth)[valid] <= 0.51 * step).all()


def test_convention_the_bytes_are_those_of_the_transport():
    message = compressed_depth_message(np.full((4, 4), 2.0, np.float32), "32FC1", 20.0, HEADER)
    kind, a, b = struct.unpack_from("<iff", bytes(message.data))
    # depth_quantization 100: a = 100 · 101, b = 1 − a / depth_max; a receiver takes a / (q − b).
    assert (kind, a, b) == (0, 10100.0, pytest.approx(1.0 - 10100.0 / 20.0))
    values = cv2.imdecode(np.frombuffer(message.data, np.uint8)[12:], cv2.IMREAD_UNCHANGED)
    assert values.dtype == np.uint16 and (values == round(10100.0 / 2.0 + b)).all()


def test_what_is_beyond_the_range_is_invalid():
    message = compressed_depth_message(np.array([[25.0, 0.1, 5.0]], np.float32), "32FC1", 20.0, HEADER)
    back = decode_compressed_depth(message.format, message.data)
    assert back[0, 0] == 0.0 and back[0, 1] == 0.0, "q would be 0, and beyond 16 bits"
    assert back[0, 2] == pytest.approx(5.0, abs=0.003)
