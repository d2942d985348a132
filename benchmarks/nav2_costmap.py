# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""The costmap that nav2 would build of the node's clouds along a recording, next to that of its depth sensor.

    python benchmarks/nav2_costmap.py SEQUENCE --up z --out out/costmap

The settings are those of docs/nav2.md. nav2 itself is not needed: `VoxelLayer` follows the documented rules of its
voxel layer (docs.nav2.org, Voxel Layer Parameters) on the messages that the node would send.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import tyro
from ruamel.yaml import YAML
from scipy.ndimage import binary_dilation

from dvmvs_core.atomic import replacing
from dvmvs_core.data.encodings.pictures import encode_png
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.sequence import FrameSequence
from dvmvs_core.engine import DepthEngine
from dvmvs_core.geometry import backproject
from dvmvs_core.types import DepthPrediction
from dvmvs_ros.depth.config import LiveConfig, build_live
from dvmvs_ros.depth.settings import SETTINGS
from dvmvs_ros.messages.conversions import CloudFilter, cloud_message, make_header, points_from_message

PAGE = Path(__file__).resolve().parents[1] / "docs" / "nav2.md"

FREE, LETHAL, UNKNOWN = 0, 254, 255
"""Costs of nav2."""

VOXEL_BITS = 16
"""Voxels of a column in nav2's grid; with fewer, the missing ones count as unknown."""

NEAR_M = 0.15
"""An obstacle of one map is in the other if one lies within this distance: three cells."""


@dataclass(frozen=True)
class Source:
    """One observation source of a costmap layer: parameters of the same names, metres."""

    marking: bool
    clearing: bool
    min_obstacle_height: float
    max_obstacle_height: float
    obstacle_min_range: float = 0.0
    obstacle_max_range: float = 2.5
    raytrace_min_range: float = 0.0
    raytrace_max_range: float = 3.0

    def within_heights(self, points: np.ndarray) -> np.ndarray:
        """Return the points (N, 3) in the costmap's frame that the source takes, for marking and clearing alike."""
        z = points[:, 2]
        return points[(z >= self.min_obstacle_height) & (z <= self.max_obstacle_height)]


@dataclass(frozen=True)
class VoxelSettings:
    """Parameters of a voxel layer, and the size of its cells."""

    resolution: float
    origin_z: float
    z_resolution: float
    z_voxels: int
    unknown_threshold: int
    mark_threshold: int
    max_obstacle_height: float
    min_obstacle_height: float
    sources: tuple[Source, ...]


class VoxelLayer:
    """A map of voxels that points mark and rays clear, seen from above as costs.

    Args:
        settings: the layer's parameters.
        low: (x, y) of the map's corner, metres, in the costmap's frame, whose z points up.
        high: the opposite corner.

    Attributes:
        cost: (rows along y, columns along x) uint8.
    """

    def __init__(self, settings: VoxelSettings, low: np.ndarray, high: np.ndarray) -> None:
        self.settings = settings
        self.origin = np.array((*low, settings.origin_z))
        self.cell = np.array((settings.resolution, settings.resolution, settings.z_resolution))
        columns, rows = np.ceil((np.asarray(high) - low) / settings.resolution).astype(int)
        self.shape = np.array((columns, rows, settings.z_voxels))
        self._marked = np.zeros(self.shape, bool)
        self._known = np.zeros(self.shape, bool)
        self.cost = np.full((rows, columns), UNKNOWN, np.uint8)

    def observe(self, points: np.ndarray, sensor: np.ndarray) -> None:
        """Take one cloud: first its rays clear, then its points mark, as in an update of the costmap.

        Args:
            points: (N, 3) metres in the costmap's frame.
            sensor: (3,) where the camera was at the cloud's stamp.
        """
        for source in self.settings.sources:
            if source.clearing:
                self._clear(source, source.within_heights(points), sensor)
        for source in self.settings.sources:
            if source.marking:
                self._mark(source, source.within_heights(points), sensor)

    def _cells(self, points: np.ndarray) -> np.ndarray:
        return np.floor((points - self.origin) / self.cell).astype(int)

    def _inside(self, cells: np.ndarray) -> np.ndarray:
        return ((cells >= 0) & (cells < self.shape)).all(axis=-1)

    def _mark(self, source: Source, points: np.ndarray, sensor: np.ndarray) -> None:
        layer, z = self.settings, points[:, 2]
        distance = np.linalg.norm(points - sensor, axis=1)
        kept = (z >= layer.min_obstacle_height) & (z <= layer.max_obstacle_height)
        kept &= (distance >= source.obstacle_min_range) & (distance < source.obstacle_max_range)
        x, y, z = self._different(self._cells(points[kept]))
        self._marked[x, y, z] = self._known[x, y, z] = True
        obstacles = self._marked[x, y].sum(axis=-1) > layer.mark_threshold
        self.cost[y[obstacles], x[obstacles]] = LETHAL

    def _clear(self, source: Source, points: np.ndarray, sensor: np.ndarray) -> None:
        if not self._inside(self._cells(sensor)):
            return  # nav2 warns that the sensor is out of the map's bounds, and clears nothing
        distance = np.linalg.norm(points - sensor, axis=1)
        # A ray ends two cells before its point, so that it does not clear what the point marks.
        points, distance = points[distance > 0], distance[distance > 0]
        ends = sensor + (points - sensor) * np.clip(1.0 - 2.0 * self.settings.resolution / distance, 0.0, 1.0)[:, None]
        start = (sensor - self.origin) / self.cell
        rays = (ends - self.origin) / self.cell - start
        length = np.linalg.norm(rays, axis=1)
        x, y, z = self._line_cells(start, rays, length, source)
        self._marked[x, y, z], self._known[x, y, z] = False, True
        x, y = np.unique(np.stack((x, y)), axis=1)
        empty = self._marked[x, y].sum(axis=-1) <= self.settings.mark_threshold
        unknown = (~self._known[x, y]).sum(axis=-1) + VOXEL_BITS - self.settings.z_voxels
        free = unknown <= self.settings.unknown_threshold + VOXEL_BITS - self.settings.z_voxels
        self.cost[y[empty], x[empty]] = np.where(free[empty], FREE, UNKNOWN)

    def _line_cells(self, start: np.ndarray, rays: np.ndarray, length: np.ndarray, source: Source) -> np.ndarray:
        """The cells (3, N) that rays pass through between the ranges of a source, up to the edge of the map."""
        near, far = (
            range_m / self.settings.resolution for range_m in (source.raytrace_min_range, source.raytrace_max_range)
        )
        steps = np.ceil(np.minimum(np.abs(rays).max(axis=1, initial=0.0), far)).astype(int)
        cells = []
        for count in np.unique(steps[steps > 0]):
            chosen = steps == count
            scale = np.minimum(1.0, far / length[chosen])[:, None, None]
            along = np.arange(count + 1)[None, :, None] / count * scale
            line = start + rays[chosen][:, None] * along
            reached = (along * length[chosen][:, None, None])[..., 0] >= near
            cells.append(np.floor(line[reached]).astype(int))
        return self._different(np.concatenate(cells) if cells else np.zeros((0, 3), int))

    def _different(self, cells: np.ndarray) -> np.ndarray:
        """The cells (3, N) inside the map, each once."""
        flat = np.ravel_multi_index(cells[self._inside(cells)].T, self.shape)
        return np.array(np.unravel_index(np.unique(flat), self.shape))


def read_settings(page: Path = PAGE) -> tuple[VoxelSettings, dict[str, object]]:
    """Return the voxel layer of a manual page's first YAML block, and the depth node's parameters in it."""
    block = page.read_text().split("```yaml\n", 1)[1].split("```", 1)[0]
    file = YAML(typ="safe").load(block)
    costmap = file["local_costmap"]["local_costmap"]["ros__parameters"]
    layer = costmap["voxel_layer"]
    names = Source.__dataclass_fields__
    sources = tuple(
        Source(**{name: value for name, value in layer[source].items() if name in names})
        for source in layer["observation_sources"].split()
    )
    own = {name: layer[name] for name in VoxelSettings.__dataclass_fields__ if name in layer}
    settings = VoxelSettings(resolution=costmap["resolution"], sources=sources, **{"min_obstacle_height": 0.0, **own})
    return settings, file["depth_node"]["ros__parameters"]


def live_config(parameters: dict[str, object]) -> LiveConfig:
    """Return what the depth node makes of these parameters, with its defaults for the others."""
    return build_live({**{setting.name: setting.default for setting in SETTINGS}, **parameters})


def received_points(prediction: DepthPrediction, points_kept: CloudFilter) -> np.ndarray:
    """Return the points (N, 3) of the message that the node publishes, in the camera's frame."""
    header = make_header(prediction.stamp_ns, "camera")
    return points_from_message(cloud_message(prediction, header, points_kept))[0].astype(np.float64)


@dataclass(frozen=True, eq=False)
class Observation:
    """What both costmaps see at one keyframe.

    Attributes:
        ours: (N, 3) the node's cloud, in the camera's frame.
        theirs: (M, 3) the depth sensor's, in the camera's frame.
        world_T_cam: (4, 4) pose.
    """

    ours: np.ndarray
    theirs: np.ndarray
    world_T_cam: np.ndarray


def observe(sequence: FrameSequence, engine: DepthEngine, config: LiveConfig) -> Iterator[Observation]:
    """Yield the clouds of every keyframe that has sensor depth."""
    engine.set_keyframe_rule(config.keyframes)
    for item in sequence.items():
        prediction = engine.step(item.frame)
        if prediction is None or item.sensor_depth is None:
            continue
        stride = max(1, round(len(item.sensor_depth) / 64))
        theirs = backproject(item.sensor_depth, item.frame.K)[::stride, ::stride][
            item.sensor_depth[::stride, ::stride] > 0
        ]
        yield Observation(received_points(prediction, config.points_kept), theirs, prediction.world_T_cam)


def levelled(observations: list[Observation], up: str) -> np.ndarray:
    """Return map_T_world (4, 4): z up, and at 0 the floor, the lowest level that much of the sensor's depth lies on."""
    map_T_world = np.eye(4)
    if up == "y":
        map_T_world[:3, :3] = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
    heights = np.concatenate([_moved(map_T_world @ o.world_T_cam, o.theirs)[:, 2] for o in observations])
    counts, edges = np.histogram(heights, np.arange(heights.min(), heights.max() + 0.04, 0.02))
    floor = int(np.argmax(counts > 0.4 * counts.max()))
    map_T_world[2, 3] = -np.median(heights[(heights >= edges[floor]) & (heights < edges[floor] + 0.06)])
    return map_T_world


def costmaps(
    observations: list[Observation], map_T_world: np.ndarray, settings: VoxelSettings
) -> tuple[VoxelLayer, VoxelLayer]:
    """Return the costmap of the node's clouds and that of the sensor's, over the whole walk."""
    poses = [map_T_world @ o.world_T_cam for o in observations]
    path = np.array([pose[:2, 3] for pose in poses])
    reach = max(source.raytrace_max_range for source in settings.sources)
    layers = [VoxelLayer(settings, path.min(axis=0) - reach, path.max(axis=0) + reach) for _ in range(2)]
    for map_T_cam, observation in zip(poses, observations, strict=True):
        for layer, points in zip(layers, (observation.ours, observation.theirs), strict=True):
            layer.observe(_moved(map_T_cam, points), map_T_cam[:3, 3])
    return layers[0], layers[1]


@dataclass(frozen=True)
class Agreement:
    """How far two costmaps agree.

    Attributes:
        obstacles_found: share of the sensor's obstacle cells, where we know anything, with one of ours within 15 cm.
        obstacles_right: share of our obstacle cells, where the sensor knows anything, with one of the sensor's so near.
        free_found: share of the sensor's free cells, where we know anything, that are free in ours.
        free_covered: share of the sensor's free cells that we know anything of.
    """

    obstacles_found: float
    obstacles_right: float
    free_found: float
    free_covered: float


def compare(ours: VoxelLayer, theirs: VoxelLayer) -> Agreement:
    """Compare our costmap with the sensor's."""
    reach = round(NEAR_M / ours.settings.resolution)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = x**2 + y**2 <= reach**2
    a, b = ours.cost, theirs.cost
    near_a, near_b = (binary_dilation(cost == LETHAL, disc) for cost in (a, b))

    def share(of: np.ndarray, that: np.ndarray) -> float:
        return float(that[of].mean()) if of.any() else float("nan")

    return Agreement(
        obstacles_found=share((b == LETHAL) & (a != UNKNOWN), near_a),
        obstacles_right=share((a == LETHAL) & (b != UNKNOWN), near_b),
        free_found=share((b == FREE) & (a != UNKNOWN), a == FREE),
        free_covered=share(b == FREE, a != UNKNOWN),
    )


COLOURS = {FREE: (255, 255, 255), LETHAL: (40, 40, 40), UNKNOWN: (190, 190, 190)}
PATH_COLOUR = (30, 110, 220)


def draw(ours: VoxelLayer, theirs: VoxelLayer, path: np.ndarray, scale: int = 4) -> np.ndarray:
    """Draw both costmaps from above, the sensor's on the left, with the camera's path; (H, W, 3) uint8 RGB."""
    known = (ours.cost != UNKNOWN) | (theirs.cost != UNKNOWN)
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    top, bottom = max(rows[0] - 4, 0), rows[-1] + 5
    left, right = max(columns[0] - 4, 0), columns[-1] + 5
    pixels = ((path - ours.origin[:2]) / ours.settings.resolution - (left, top)) * scale
    panels = []
    for layer, title in ((theirs, "depth sensor"), (ours, "points of the depth node")):
        panel = np.zeros((*layer.cost.shape, 3), np.uint8)
        for cost, colour in COLOURS.items():
            panel[layer.cost == cost] = colour
        panel = panel[top:bottom, left:right].repeat(scale, axis=0).repeat(scale, axis=1)
        cv2.polylines(panel, [pixels.astype(np.int32)], False, PATH_COLOUR, 2, cv2.LINE_AA)
        panel = np.ascontiguousarray(panel[::-1])  # y up
        metre = round(scale / layer.settings.resolution)
        cv2.line(panel, (8, len(panel) - 10), (8 + metre, len(panel) - 10), (200, 40, 40), 2)
        _write(panel, "1 m", (12, len(panel) - 16))
        head = np.full((28, panel.shape[1], 3), 255, np.uint8)
        _write(head, title, (6, 19))
        panels.append(np.vstack((head, panel)))
    gap = np.full((len(panels[0]), 12, 3), 255, np.uint8)
    picture = np.hstack((panels[0], gap, panels[1]))
    legend = np.full((30, picture.shape[1], 3), 255, np.uint8)
    x = 8
    for colour, text in (
        (COLOURS[FREE], "free"),
        (COLOURS[LETHAL], "obstacle"),
        (COLOURS[UNKNOWN], "unknown"),
        (PATH_COLOUR, "camera's path"),
    ):
        cv2.rectangle(legend, (x, 8), (x + 14, 22), colour, -1)
        cv2.rectangle(legend, (x, 8), (x + 14, 22), (120, 120, 120), 1)
        _write(legend, text, (x + 20, 20))
        x += 40 + 9 * len(text)
    return np.vstack((picture, legend))


def _write(picture: np.ndarray, text: str, corner: tuple[int, int]) -> None:
    cv2.putText(picture, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (20, 20, 20), 1, cv2.LINE_AA)


def _moved(target_T_cam: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ target_T_cam[:3, :3].T + target_T_cam[:3, 3]


def path_of(observations: list[Observation], map_T_world: np.ndarray) -> np.ndarray:
    """Return where the camera went, (N, 2) metres in the map."""
    return np.array([(map_T_world @ o.world_T_cam)[:2, 3] for o in observations])


@dataclass(frozen=True)
class Options:
    """Draw the costmap of a recording."""

    sequence: Annotated[Path, tyro.conf.Positional]
    """scene folder or bag with depth"""
    out: Path = Path("out/costmap")
    """.png and .json are written with this name"""
    up: Literal["z", "y"] = "z"
    """the axis of the recording's world that points up"""
    weights: str = "small"
    """a safetensors file, or the name of a shipped checkpoint"""


def main() -> None:
    """Run the engine along the recording, build both costmaps and write the picture and the figures."""
    options = tyro.cli(Options)
    settings, parameters = read_settings()
    engine = DepthEngine.from_weights(options.weights)
    observations = list(observe(open_sequence(options.sequence), engine, live_config(parameters)))
    map_T_world = levelled(observations, options.up)
    ours, theirs = costmaps(observations, map_T_world, settings)
    picture = draw(ours, theirs, path_of(observations, map_T_world))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(options.out.with_suffix(".png")) as unfinished:
        unfinished.write_bytes(encode_png(picture))
    figures = {"sequence": str(options.sequence), "keyframes": len(observations), **asdict(compare(ours, theirs))}
    with replacing(options.out.with_suffix(".json")) as unfinished:
        unfinished.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
