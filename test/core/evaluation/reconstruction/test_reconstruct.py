# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A wall at 2 m, seen by a camera that moves sideways; what is wrong about its depth is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.depth_pictures import CAPTION_HEIGHT
from dvmvs_core.evaluation.reconstruction.depth_views import DepthView
from dvmvs_core.evaluation.reconstruction.fusion import FusionConfig
from dvmvs_core.evaluation.reconstruction.mesh_metrics import compare_meshes
from dvmvs_core.evaluation.reconstruction.reconstruct import (
    ProgressiveMeshes,
    distance_colours,
    reconstruct,
    write_picture,
)

pytestmark = pytest.mark.usefixtures("open3d")

SIZE = (48, 64)
K = np.array(((60.0, 0.0, 31.5), (0.0, 60.0, 23.5), (0.0, 0.0, 1.0)))
CONFIG = FusionConfig()


def view(i: int, depth: np.ndarray | float, sensor: np.ndarray | float | None = None) -> DepthView:
    world_T_cam = np.eye(4)
    world_T_cam[0, 3] = 0.05 * i
    image = np.full((*SIZE, 3), (180, 120, 60), np.uint8)
    depths = [None if d is None else np.broadcast_to(np.float32(d), SIZE) for d in (depth, sensor)]
    return DepthView(10 * i, depths[0], image, K, world_T_cam, depths[1])


def figures(views, config: FusionConfig = CONFIG):
    comparison = reconstruct(views, config).comparison
    return compare_meshes(comparison.predicted, comparison.sensor, samples=5000)


def test_depth_equal_to_the_sensors_is_perfect():
    metrics = figures([view(i, 2.0, 2.0) for i in range(4)])
    assert metrics.chamfer_m == pytest.approx(0.0, abs=1e-5)
    assert metrics.f_score == 1.0


def test_a_wall_in_the_wrong_place_is_off_by_its_distance():
    metrics = figures([view(i, 2.04, 2.0) for i in range(4)])
    assert metrics.accuracy_m == pytest.approx(0.04, abs=0.005)
    assert metrics.completion_m == pytest.approx(0.04, abs=0.005)
    assert figures([view(i, 2.1, 2.0) for i in range(4)]).f_score < 0.05


def test_where_the_sensor_is_blind_nothing_is_judged():
    wild, blind = np.full(SIZE, 2.0), np.full(SIZE, 2.0)
    wild[:, 40:], blind[:, 40:] = 1.2, 0.0
    result = reconstruct([view(i, wild, blind) for i in range(4)], CONFIG)
    assert result.comparison.shared == pytest.approx(40 / 64)
    # The mesh of the user has it all; the comparison does not.
    assert result.mesh.vertices[:, 2].min() == pytest.approx(1.2, abs=0.03)
    assert result.comparison.predicted.vertices[:, 2].min() > 1.9
    assert compare_meshes(result.comparison.predicted, result.comparison.sensor, samples=5000).f_score > 0.99


def test_depth_out_of_range_is_judged_where_the_sensor_is_within():
    config = FusionConfig(max_depth_m=2.5)
    depth = np.full(SIZE, 2.0)
    depth[:, 32:] = 2.8
    metrics = figures([view(i, depth, 2.0) for i in range(4)], config)
    assert metrics.precision == pytest.approx(1 / (1 + 1.4**2), abs=0.05)
    assert metrics.recall == pytest.approx(0.5, abs=0.05)
    with pytest.raises(DataError, match="no depth lies within 2.5 m"):
        reconstruct([view(i, 2.8) for i in range(4)], config)


def test_without_sensor_depth_nothing_is_compared():
    result = reconstruct([view(i, 2.0) for i in range(4)], CONFIG)
    assert result.comparison is None
    assert result.world_T_cams.shape == (4, 4, 4)


def test_no_frame_or_too_few_are_one_clear_error():
    with pytest.raises(DataError, match="no frame gave any depth"):
        reconstruct([], CONFIG)
    with pytest.raises(DataError, match="none was seen by 4 frames"):
        reconstruct([view(0, 2.0)], CONFIG)


def test_the_mesh_is_written_as_it_grows(tmp_path, open3d):
    reconstruct([view(i, 2.0) for i in range(9)], CONFIG, ProgressiveMeshes(tmp_path / "growing", 4))
    files = sorted((tmp_path / "growing").iterdir())
    assert [file.name for file in files] == ["mesh_00030.ply", "mesh_00070.ply"]
    areas = [open3d.io.read_triangle_mesh(str(file)).get_surface_area() for file in files]
    assert areas[0] < areas[1]


@pytest.mark.parametrize(("sensor", "rows"), ((None, 3), (2.0, 4)))
def test_the_picture_has_a_row_more_where_there_is_a_sensor(tmp_path, sensor, rows):
    path = tmp_path / "pictures" / "wall.png"
    write_picture(reconstruct([view(i, 2.02, sensor) for i in range(4)], CONFIG), path, size=(90, 120))
    picture = cv2.imread(str(path))
    height, width = 90 + CAPTION_HEIGHT, 120
    assert picture.shape == (rows * height, 2 * width, 3)
    wall = picture[height // 2, width // 2].astype(int)
    assert wall[2] > wall[1] > wall[0]
    if sensor:
        distance = picture[3 * height + height // 2, width + width // 2].astype(int)
        assert distance[1] > distance[0]


def test_distances_are_green_then_yellow_then_red():
    near, threshold, far, farther = distance_colours(np.array((0.0, 0.05, 0.2, 3.0)))
    assert near[1] > near[0]
    assert threshold[0] > threshold[2]
    assert threshold[1] > 200
    assert far[0] > 2 * far[1]
    assert np.array_equal(far, farther)
