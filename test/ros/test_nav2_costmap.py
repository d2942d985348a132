# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""The node's clouds in nav2's costmap with the settings of docs/nav2.md: obstacles, free floor, and what clears."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from dvmvs_core.config import EngineConfig
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.engine import DepthEngine
from dvmvs_core.types import DepthPrediction

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import nav2_costmap as costmap  # noqa: E402

SETTINGS, NODE = costmap.read_settings()
FREE, LETHAL, UNKNOWN = costmap.FREE, costmap.LETHAL, costmap.UNKNOWN
SENSOR = np.array((0.02, 0.02, 0.5))


def layer(settings=SETTINGS):
    """An empty map of 8 m × 8 m about the sensor."""
    return costmap.VoxelLayer(settings, np.array((-4.0, -4.0)), np.array((4.0, 4.0)))


def cost(grid, x: float, y: float) -> int:
    column, row, _ = grid._cells(np.array((x, y, 0.0)))
    return int(grid.cost[row, column])


def wall(x: float, low: float = 0.0, high: float = 1.2) -> np.ndarray:
    """Points every 2 cm on a wall across x, from one height to another."""
    y, z = np.meshgrid(np.arange(-1.0, 1.0, 0.02), np.arange(low, high, 0.02))
    return np.stack((np.full(y.size, x), y.ravel(), z.ravel()), axis=1)


def floor(far: float = 2.9) -> np.ndarray:
    x, y = np.meshgrid(np.arange(0.4, far, 0.02), np.arange(-1.0, 1.0, 0.02))
    return np.stack((x.ravel(), y.ravel(), np.zeros(x.size)), axis=1)


def test_a_wall_is_an_obstacle_the_floor_before_it_is_free_and_what_is_behind_stays_unknown():
    grid = layer()
    grid.observe(np.vstack((wall(2.01), floor(2.0))), SENSOR)
    assert cost(grid, 2.01, 0.3) == LETHAL
    assert {cost(grid, x, 0.02) for x in np.arange(0.3, 1.8, 0.05)} == {FREE}
    assert {cost(grid, x, 0.02) for x in np.arange(2.1, 3.9, 0.05)} == {UNKNOWN}
    assert cost(grid, -1.0, 0.0) == UNKNOWN


def test_the_floor_clears_only_because_it_has_a_source_of_its_own():
    # The heights of a source bound what clears as well as what marks.
    marking = next(source for source in SETTINGS.sources if source.marking)
    grid = layer(replace(SETTINGS, sources=(replace(marking, clearing=True),)))
    grid.observe(floor(), SENSOR)
    assert cost(grid, 1.0, 0.0) == UNKNOWN
    grid = layer()
    grid.observe(floor(), SENSOR)
    assert cost(grid, 1.0, 0.0) == FREE
    assert (grid.cost != LETHAL).all()


@pytest.mark.parametrize(
    ("points", "marks"),
    [
        (wall(2.01, 0.2, 1.0), True),
        (wall(2.01, 0.02, 0.14), False),  # below min_obstacle_height, as errors of the floor's depth are
        (wall(2.01, 1.85, 1.95), False),  # the robot passes below it
        (wall(3.05), False),  # beyond obstacle_max_range
        (np.array(((0.25, 0.0, 0.5),)), False),  # nearer than obstacle_min_range
    ],
)
def test_only_what_stands_within_heights_and_ranges_marks(points, marks):
    grid = layer()
    grid.observe(points, SENSOR)
    assert (grid.cost == LETHAL).any() == marks


def test_an_obstacle_goes_when_it_is_seen_through_and_not_when_it_is_seen_over():
    box = wall(1.01, 0.3, 0.45)
    over, through = wall(2.51, 1.5, 1.7), wall(2.51, 0.0, 0.6)
    grid = layer()
    grid.observe(box, SENSOR)
    assert cost(grid, 1.01, 0.0) == LETHAL
    grid.observe(over, SENSOR)
    assert cost(grid, 1.01, 0.0) == LETHAL
    grid.observe(through, SENSOR)
    assert cost(grid, 1.01, 0.0) == FREE
    # The obstacle layer has one level: what is seen over goes too, so docs/nav2.md takes the voxel layer.
    flat = layer(replace(SETTINGS, z_voxels=1, z_resolution=4.0))
    flat.observe(box, SENSOR)
    assert cost(flat, 1.01, 0.0) == LETHAL
    flat.observe(over, SENSOR)
    assert cost(flat, 1.01, 0.0) == FREE


def test_rays_clear_no_farther_than_their_range_and_only_from_inside_the_map():
    far = wall(3.9, 0.3, 0.7)
    grid = layer()
    grid.observe(far, SENSOR)
    reach = max(source.raytrace_max_range for source in SETTINGS.sources)
    assert cost(grid, reach - 0.1, 0.02) == FREE and cost(grid, reach + 0.15, 0.02) == UNKNOWN
    grid = layer()
    grid.observe(far, SENSOR + (0, 0, SETTINGS.z_resolution * SETTINGS.z_voxels))
    assert (grid.cost != FREE).all()


def test_unsure_depth_neither_marks_nor_clears():
    depth = np.full((64, 64), 2.0, np.float32)
    K = np.array(((60.0, 0.0, 31.5), (0.0, 60.0, 31.5), (0.0, 0.0, 1.0)))
    unsure = np.full_like(depth, 0.49)
    kept = costmap.live_config(
        {"points_min_confidence": costmap.live_config({}).points_kept.min_confidence}
    ).points_kept
    image = np.zeros((64, 64, 3), np.uint8)
    prediction = DepthPrediction(depth, K, image, np.eye(4), 1, 0, (), (), 0.0, unsure)
    assert not len(costmap.received_points(prediction, kept))
    assert len(costmap.received_points(replace(prediction, confidence=unsure + 0.02), kept)) == depth.size


def test_the_page_names_parameters_that_the_node_has_and_disables_the_bond():
    blocks = [part.split("```", 1)[0] for part in costmap.PAGE.read_text().split("```yaml\n")[1:]]
    file = {key: value for block in blocks for key, value in YAML(typ="safe").load(block).items()}
    costmap.live_config(file["depth_node"]["ros__parameters"])  # unknown names and bad values raise
    known = {setting.name for setting in costmap.SETTINGS}
    assert set(file["depth_node"]["ros__parameters"]) <= known
    manager = file["lifecycle_manager_depth"]["ros__parameters"]
    assert manager["bond_timeout"] == 0.0 and manager["node_names"] == ["depth_node"]
    parameters = file["local_costmap"]["local_costmap"]["ros__parameters"]
    sources = [parameters["voxel_layer"][name] for name in parameters["voxel_layer"]["observation_sources"].split()]
    assert {source["topic"] for source in sources} == {"/points"}
    assert parameters["voxel_layer"]["z_voxels"] <= costmap.VOXEL_BITS


pytestmark = pytest.mark.timeout(900)  # the engine over a whole recording, on a busy machine


class Walk:
    """Costmaps of one recording, and its picture."""

    def __init__(self, folder: Path, up: str) -> None:
        engine = DepthEngine.from_weights("small", config=EngineConfig(device="cpu"))
        self.observations = list(costmap.observe(open_sequence(folder), engine, costmap.live_config(NODE)))
        map_T_world = costmap.levelled(self.observations, up)
        self.ours, self.theirs = costmap.costmaps(self.observations, map_T_world, SETTINGS)
        self.agreement = costmap.compare(self.ours, self.theirs)
        self.picture = costmap.draw(self.ours, self.theirs, costmap.path_of(self.observations, map_T_world))


@pytest.fixture(scope="module")
def room() -> Walk:
    """A walk through a rendered room, whose floor and depth are exact."""
    return Walk(Path(__file__).parents[2] / "examples" / "room", "z")


@pytest.mark.slow
def test_obstacles_and_free_floor_of_a_rendered_room_are_where_its_depth_has_them(room):
    assert len(room.observations) > 20
    found = room.agreement
    # Measured: 0.99, 0.97, 0.85 and 0.97.
    assert found.obstacles_found > 0.9 and found.obstacles_right > 0.9, found
    assert found.free_found > 0.8 and found.free_covered > 0.9, found


@pytest.mark.slow
def test_the_picture_shows_both_maps(room):
    colours = {tuple(colour) for colour in room.picture.reshape(-1, 3)}
    assert {*costmap.COLOURS.values(), costmap.PATH_COLOUR} <= colours


@pytest.mark.slow
def test_obstacles_and_free_floor_of_a_real_office_are_where_its_sensor_has_them(hololens):
    found = Walk(hololens, "y").agreement
    # Measured: 1.00, 0.95, 0.87 and 0.95. The sensor sees 63 % of the pixels, and dark things worst.
    assert found.obstacles_found > 0.9 and found.obstacles_right > 0.85, found
    assert found.free_found > 0.75 and found.free_covered > 0.85, found
