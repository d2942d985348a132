# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""One mesh from the depth of a whole sequence, and how far it is from what the sensor gives.

For the comparison both surfaces are fused from the same pixels of the same frames: those where the sensor has a
reading within the range. So nobody is blamed for what the sensor cannot see (dark, shiny and far surfaces), and a
surface that the prediction puts in the wrong place counts, even where it is hidden behind the true one or out of range.
Voxels and truncation are the same for both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dvmvs_core.atomic import replacing
from dvmvs_core.data.encodings.pictures import encode_png
from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.prediction.depth_pictures import captioned
from dvmvs_core.evaluation.prediction.virtual_camera import VirtualCamera
from dvmvs_core.evaluation.reconstruction.depth_views import DepthView
from dvmvs_core.evaluation.reconstruction.fusion import FusionConfig, TsdfVolume
from dvmvs_core.evaluation.reconstruction.mesh import Mesh, write_mesh
from dvmvs_core.evaluation.reconstruction.mesh_metrics import THRESHOLD_M, surface_distance
from dvmvs_core.evaluation.reconstruction.mesh_picture import PICTURE_SIZE, find_up, render

FAR_OFF_M = 0.2
"""Distance from the true surface that the picture shows in its last colour."""

DISTANCE_COLOURS = np.array(((86, 166, 120), (240, 214, 92), (214, 62, 52)), np.float64)
"""RGB at distance 0, at the threshold of the F-score, and at `FAR_OFF_M`."""

CLOSE_VIEWS = 3
"""How many cameras, spread over the sequence, the picture also shows the mesh from."""

SIDE_DEG = -35.0
"""Where the whole is looked at from, see `VirtualCamera.of_side`."""

STEP_BACK_M = 0.6
"""So far behind a camera it is shown from, so that there is what stands around, too."""

UNLIMITED_M = 1000.0

AfterFrame = Callable[[DepthView, TsdfVolume], None]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two surfaces of the same pixels.

    Attributes:
        predicted: from predicted depth where the sensor has a reading within the range.
        sensor: from sensor depth.
        shared: share of the pixels of these frames that took part.
    """

    predicted: Mesh
    sensor: Mesh
    shared: float


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A fused surface.

    Attributes:
        mesh: the surface, in the mean colours of the images.
        world_T_cams: (N, 4, 4) poses of the fused frames.
        comparison: with the sensor; None where the views have no sensor depth.
    """

    mesh: Mesh
    world_T_cams: np.ndarray
    comparison: Comparison | None


def reconstruct(
    views: Iterable[DepthView], config: FusionConfig, after_frame: AfterFrame | None = None
) -> Reconstruction:
    """Fuse views into a surface.

    Args:
        views: depth, colour and pose; with sensor depth they are compared.
        config: voxels and range.
        after_frame: called with each view and the volume that holds it.

    Raises:
        DataError: if no surface comes out.
        PackageError: if Open3D is missing.
    """
    volume, sensor = TsdfVolume(config), TsdfVolume(config)
    predicted = TsdfVolume(dataclasses.replace(config, max_depth_m=UNLIMITED_M))
    poses: list[np.ndarray] = []
    pixels = shared = 0
    for view in views:
        colour_and_camera = (view.image, view.K, view.world_T_cam)
        volume.integrate(view.depth, *colour_and_camera)
        poses.append(view.world_T_cam)
        if view.sensor_depth is not None:
            known = (view.sensor_depth > 0) & (view.sensor_depth <= config.max_depth_m)
            predicted.integrate(np.where(known, view.depth, 0), *colour_and_camera)
            sensor.integrate(view.sensor_depth, *colour_and_camera)
            pixels, shared = pixels + known.size, shared + np.count_nonzero(known)
        if after_frame:
            after_frame(view, volume)
    if not poses:
        raise DataError("no frame gave any depth: the camera hardly moves, or tracking is lost throughout")
    mesh = volume.mesh()
    if not len(mesh.triangles):
        raise DataError(
            f"{len(poses)} frames were fused and no surface came out: no depth lies within {config.max_depth_m:g} m"
            f" (--max-depth), or none was seen by {config.min_views} frames (--min-views)"
        )
    comparison = Comparison(predicted.mesh(), sensor.mesh(), shared / pixels) if shared else None
    if comparison and not (len(comparison.predicted.triangles) and len(comparison.sensor.triangles)):
        comparison = None
    return Reconstruction(mesh, np.stack(poses), comparison)


class ProgressiveMeshes:
    """Writes the growing mesh to a folder, one file for every so many frames.

    Args:
        folder: made if missing.
        every: how many frames lie between two meshes.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self._folder = folder
        self._every = every

    def __call__(self, view: DepthView, volume: TsdfVolume) -> None:
        """Write the mesh if its turn has come."""
        if volume.frames % self._every == 0:
            write_mesh(volume.mesh(), self._folder / f"mesh_{view.frame_index:05d}.ply")


def write_picture(
    reconstruction: Reconstruction,
    path: Path,
    size: tuple[int, int] = PICTURE_SIZE,
    depth_name: str = "sensor depth",
) -> None:
    """Write a PNG of the mesh in colour and in clay, from above and from behind where cameras stood.

    Where there is a comparison, it also shows both of its surfaces, from above.

    Args:
        reconstruction: what to show.
        path: of the PNG.
        size: height and width of a panel.
        depth_name: what the depth to compare with is, `Sequence.depth_name`.
    """
    mesh, comparison = reconstruction.mesh, reconstruction.comparison
    poses = reconstruction.world_T_cams
    # The surface to compare with tells best which way is up, and gives every prediction of a sequence the same view.
    known = comparison.sensor if comparison else mesh
    up = find_up(known, poses)
    no_ceiling = known.normals @ up > -0.5
    above = VirtualCamera.of_side(known.vertices[no_ceiling if no_ceiling.any() else ...], poses, SIDE_DEG, size, -up)
    chosen = np.linspace(0, len(poses) - 1, min(CLOSE_VIEWS, len(poses)) + 2).round().astype(int)[1:-1]
    close_views = [VirtualCamera.behind(poses[i], STEP_BACK_M, size) for i in np.unique(chosen)]
    rows = [
        [(f"colour{place}", render(mesh, camera, up, mesh.colours)), (f"shape{place}", render(mesh, camera, up))]
        for place, camera in (("", above), *((", from nearby", close) for close in close_views))
    ]
    if comparison:
        sensor, predicted = comparison.sensor, comparison.predicted
        colours = distance_colours(surface_distance(predicted.vertices, sensor))
        cm = f"green 0, yellow {THRESHOLD_M * 100:.0f} cm, red {FAR_OFF_M * 100:.0f} cm or more"
        rows.append(
            [
                (f"{depth_name} of the same frames", render(sensor, above, up, sensor.colours)),
                (f"distance to it: {cm}", render(predicted, above, up, colours)),
            ]
        )
    picture = np.vstack([np.hstack([captioned(caption, panel) for caption, panel in row]) for row in rows])
    with replacing(path) as unfinished:
        unfinished.write_bytes(encode_png(picture))


def distance_colours(distance: np.ndarray) -> np.ndarray:
    """Return the colours (N, 3) RGB in 0…255 that stand for distances (N,) in metres."""
    stops = (0.0, THRESHOLD_M, FAR_OFF_M)
    return np.stack([np.interp(distance, stops, channel) for channel in DISTANCE_COLOURS.T], axis=1)
