# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""PLY files of the latest keyframes, read back by another program's rules."""

from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.errors import DataError
from dvmvs_core.types import DepthPrediction
from dvmvs_ros.depth.saved_cloud import RecentKeyframes, save_cloud
from dvmvs_ros.messages.conversions import EVERY_POINT, CloudFilter

K = np.array(((50.0, 0.0, 3.0), (0.0, 60.0, 2.0), (0.0, 0.0, 1.0)))


def prediction(i: int, confidence: float | None = 0.5) -> DepthPrediction:
    """A wall 2 m before a camera that stands i metres to the right and looks along the world's x."""
    world_T_cam = np.array(((0.0, 0, 1, 0), (-1, 0, 0, -float(i)), (0, -1, 0, 0), (0, 0, 0, 1)))
    image = np.full((5, 7, 3), (10, 20, 30 + i), np.uint8)
    depth = np.full((5, 7), 2.0, np.float32)
    depth[0, 0] = 0.0
    sure = None if confidence is None else np.full((5, 7), confidence, np.float32)
    return DepthPrediction(depth, K, image, world_T_cam, 1_500_000_000 + i, i, (), (), 0.0, sure)


def read_ply(path) -> np.ndarray:
    """Binary PLY of vertices, by its own header."""
    header, _, data = path.read_bytes().partition(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    types = {"float": "<f4", "uchar": "u1"}
    fields = [(name, types[kind]) for _, kind, name in (ln.split() for ln in lines if ln.startswith("property"))]
    vertices = np.frombuffer(data, fields)
    assert f"element vertex {len(vertices)}" in lines
    return vertices


def test_the_points_lie_in_the_world_with_colour_and_confidence(tmp_path):
    path, count = save_cloud([prediction(0), prediction(1)], EVERY_POINT, tmp_path / "new" / "folder")
    assert path.name == "cloud_1_500000001.ply" and list(path.parent.iterdir()) == [path], "and no unfinished file"
    vertices = read_ply(path)
    assert len(vertices) == count == 2 * 34
    np.testing.assert_allclose(vertices["x"], 2.0)
    # The last pixel, by hand: 2 m · (6 − 3) / 50 to the right of the camera, which is the world's −y, and 1 m more.
    last = vertices[-1]
    assert (last["y"], last["z"]) == (pytest.approx(-1.12), pytest.approx(-4 / 60))
    assert (last["red"], last["green"], last["blue"]) == (10, 20, 31) and last["confidence"] == 0.5


def test_open3d_reads_it(tmp_path):
    open3d = pytest.importorskip("open3d", exc_type=ImportError)
    path, count = save_cloud([prediction(0)], EVERY_POINT, tmp_path)
    cloud = open3d.io.read_point_cloud(str(path))
    assert len(cloud.points) == count
    np.testing.assert_allclose(np.asarray(cloud.colors)[0], np.array((10, 20, 30)) / 255.0)


def test_the_filter_of_the_cloud_holds_and_without_confidence_that_of_depth(tmp_path):
    strict = CloudFilter(min_confidence=0.7)
    with pytest.raises(DataError, match="points_min_confidence"):
        save_cloud([prediction(0)], strict, tmp_path)
    path, count = save_cloud([prediction(0, confidence=None)], strict, tmp_path)
    assert count == 34 and np.isnan(read_ply(path)["confidence"]).all()


def test_nothing_to_save_and_nowhere_to_save_to_are_said(tmp_path):
    with pytest.raises(DataError, match="no keyframe has depth yet"):
        save_cloud([], EVERY_POINT, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written to .*Set cloud_folder"):
        save_cloud([prediction(0)], EVERY_POINT, tmp_path / "file")


def test_only_the_latest_are_kept():
    recent = RecentKeyframes()
    for i in range(6):
        recent.add(prediction(i), kept=4)
    assert [p.frame_index for p in recent.latest(10)] == [2, 3, 4, 5]
    assert [p.frame_index for p in recent.latest(2)] == [4, 5]
    recent.clear()
    assert recent.latest(10) == []
