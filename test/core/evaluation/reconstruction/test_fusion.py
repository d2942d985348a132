# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Planes and spheres, rendered exactly, come back out of the volume; walls are compared with what a sensor says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.evaluation.prediction.depth_pictures import CAPTION_HEIGHT
from dvmvs_core.evaluation.reconstruction.depth_views import DepthView
from dvmvs_core.evaluation.reconstruction.fusion import FusionConfig, TsdfVolume
from dvmvs_core.evaluation.reconstruction.mesh import Mesh
from dvmvs_core.evaluation.reconstruction.mesh_metrics import compare_meshes
from dvmvs_core.evaluation.reconstruction.reconstruct import (
    ProgressiveMeshes,
    distance_colours,
    reconstruct,
    write_picture,
)
from dvmvs_core.geometry import backproject

pytestmark = pytest.mark.usefixtures("open3d")

SIZE = (60, 80)
K = np.array(((70.0, 0.0, 39.5), (0.0, 72.0, 29.5), (0.0, 0.0, 1.0)))
IMAGE = np.zeros((*SIZE, 3), np.uint8)
VOXEL = FusionConfig().voxel_size_m


def pose(angles=(0.0, 0.0, 0.0), position=(0.0, 0.0, 0.0)) -> np.ndarray:
    world_T_cam = np.eye(4)
    world_T_cam[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix()
    world_T_cam[:3, 3] = position
    return world_T_cam


def rays(world_T_cam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Camera centre (3,) and directions (h, w, 3) in the world that reach depth 1."""
    return world_T_cam[:3, 3], backproject(np.ones(SIZE), K) @ world_T_cam[:3, :3].T


def plane_depth(world_T_cam: np.ndarray, normal: np.ndarray, offset: float) -> np.ndarray:
    """Depth of the plane normal · x = offset."""
    centre, directions = rays(world_T_cam)
    depth = (offset - centre @ normal) / (directions @ normal)
    return np.where(depth > 0, depth, 0).astype(np.float32)


def sphere_depth(world_T_cam: np.ndarray, middle: np.ndarray, radius: float) -> np.ndarray:
    centre, directions = rays(world_T_cam)
    a = (directions**2).sum(axis=-1)
    b = directions @ (centre - middle)
    root = b**2 - a * ((centre - middle) @ (centre - middle) - radius**2)
    return np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, 0).astype(np.float32)


def fuse(views, config: FusionConfig | None = None, image: np.ndarray = IMAGE) -> Mesh:
    volume = TsdfVolume(config or FusionConfig(min_views=1))
    for depth, world_T_cam in views:
        volume.integrate(depth, image, K, world_T_cam)
    return volume.mesh()


def test_a_plane_seen_from_several_sides_is_a_plane():
    normal = np.array((0.1, -0.2, -1.0)) / np.linalg.norm((0.1, -0.2, -1.0))
    poses = [pose((0.1 * i, -0.15 * i, 0.05 * i), (0.2 * i, -0.1 * i, 0.1 * i)) for i in range(-1, 3)]
    mesh = fuse([(plane_depth(p, normal, -1.8), p) for p in poses])
    assert mesh.area_m2() > 1.5
    # A slanted plane is off by what half a pixel makes of its slant: depth is read at the nearest pixel.
    assert np.abs(mesh.vertices @ normal + 1.8).max() < VOXEL
    assert np.abs(mesh.vertices @ normal + 1.8).mean() < VOXEL / 5
    assert np.percentile(mesh.normals @ normal, 1) > 0.9
    assert (mesh.area_vectors() @ normal).min() >= 0


def test_a_sphere_seen_from_around_is_a_sphere():
    middle = np.array((0.3, 0.1, 2.0))
    views = []
    for angle in np.arange(8) * np.pi / 4:
        direction = Rotation.from_euler("y", angle)
        world_T_cam = pose((0.0, angle, 0.0), middle - direction.apply((0.0, 0.0, 1.5)))
        views.append((sphere_depth(world_T_cam, middle, 0.5), world_T_cam))
    mesh = fuse(views)
    distance = np.linalg.norm(mesh.vertices - middle, axis=1)
    # All around but the poles, which no camera of this circle sees at a steep angle.
    assert mesh.area_m2() == pytest.approx(4 * np.pi * 0.25, rel=0.2)
    assert np.percentile(np.abs(distance - 0.5), 99) < VOXEL
    assert (mesh.area_vectors() * (mesh.corners().mean(axis=1) - middle)).sum(axis=1).mean() > 0


def test_depth_is_read_at_the_nearest_pixel():
    """An edge at a pixel's border stays there: cutting the fraction off would move it by half a pixel, 2.9 cm here."""
    depth = np.zeros(SIZE, np.float32)
    depth[:, 40:] = 2.0
    mesh = fuse([(depth, np.eye(4))], FusionConfig(voxel_size_m=0.005, min_views=1))
    border = (39.5 - K[0, 2]) / K[0, 0] * 2.0
    assert mesh.vertices[:, 0].min() == pytest.approx(border, abs=0.01)


def test_colours_are_those_of_the_image():
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:, :40], image[:, 40:] = (200, 30, 10), (20, 60, 250)
    mesh = fuse([(np.full(SIZE, 1.5, np.float32), np.eye(4))] * 3, image=image)
    left, right = mesh.vertices[:, 0] < -0.05, mesh.vertices[:, 0] > 0.05
    assert np.abs(mesh.colours[left].astype(int) - (200, 30, 10)).max() <= 1
    assert np.abs(mesh.colours[right].astype(int) - (20, 60, 250)).max() <= 1


def test_a_wrong_surface_in_the_air_goes_where_later_frames_look_through_it():
    wrong, right = np.full(SIZE, 1.0, np.float32), np.full(SIZE, 2.0, np.float32)
    mesh = fuse([(wrong, np.eye(4))] + [(right, np.eye(4))] * 3)
    assert mesh.vertices[:, 2] == pytest.approx(2.0, abs=VOXEL)
    assert fuse([(wrong, np.eye(4))]).vertices[:, 2] == pytest.approx(1.0, abs=VOXEL)


def test_far_depth_and_rarely_seen_surface_are_left_out():
    near, far = np.full(SIZE, 1.5, np.float32), np.full(SIZE, 3.0, np.float32)
    half = near.copy()
    half[:, 40:] = 0
    assert fuse([(far, np.eye(4))], FusionConfig(max_depth_m=2, truncation_voxels=4, min_views=1)).area_m2() == 0
    views = [(near, np.eye(4)), (half, np.eye(4))]
    assert fuse(views).vertices[:, 0].max() > 0.5
    assert fuse(views, FusionConfig(min_views=2)).vertices[:, 0].max() < 2 * VOXEL
    assert len(fuse(views, FusionConfig(min_views=3)).triangles) == 0


def test_a_volume_without_depth_is_empty():
    volume = TsdfVolume(FusionConfig())
    assert len(volume.mesh().triangles) == 0
    volume.integrate(np.zeros(SIZE, np.float32), IMAGE, K, np.eye(4))
    assert volume.frames == 1
    assert len(volume.mesh().vertices) == 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("voxel_size_m", 0.0),
        ("voxel_size_m", float("nan")),
        ("truncation_voxels", 0.5),
        ("max_depth_m", -1.0),
        ("min_views", 0),
    ],
)
def test_settings_that_give_no_surface_are_refused(setting, value):
    with pytest.raises(ConfigError, match=setting):
        FusionConfig(**{setting: value})


WALL_SIZE = (48, 64)
WALL_K = np.array(((60.0, 0.0, 31.5), (0.0, 60.0, 23.5), (0.0, 0.0, 1.0)))
CONFIG = FusionConfig()


def view(i: int, depth: np.ndarray | float, sensor: np.ndarray | float | None = None) -> DepthView:
    world_T_cam = np.eye(4)
    world_T_cam[0, 3] = 0.05 * i
    image = np.full((*WALL_SIZE, 3), (180, 120, 60), np.uint8)
    depths = [None if d is None else np.broadcast_to(np.float32(d), WALL_SIZE) for d in (depth, sensor)]
    return DepthView(10 * i, depths[0], image, WALL_K, world_T_cam, depths[1])


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
    wild, blind = np.full(WALL_SIZE, 2.0), np.full(WALL_SIZE, 2.0)
    wild[:, 40:], blind[:, 40:] = 1.2, 0.0
    result = reconstruct([view(i, wild, blind) for i in range(4)], CONFIG)
    assert result.comparison.shared == pytest.approx(40 / 64)
    # The mesh of the user has it all; the comparison does not.
    assert result.mesh.vertices[:, 2].min() == pytest.approx(1.2, abs=0.03)
    assert result.comparison.predicted.vertices[:, 2].min() > 1.9
    assert compare_meshes(result.comparison.predicted, result.comparison.sensor, samples=5000).f_score > 0.99


def test_depth_out_of_range_is_judged_where_the_sensor_is_within():
    config = FusionConfig(max_depth_m=2.5)
    depth = np.full(WALL_SIZE, 2.0)
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
