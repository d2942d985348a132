# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Fusing depth images of known pose into one surface, as a truncated signed distance function (TSDF) on voxels.

Every voxel keeps the running mean of min(1, (d − z) / truncation) over the frames that see it, where d is the depth at
its pixel and z its own; frames in which it is farther than the truncation behind the surface do not count. The
surface is where the mean crosses 0. Voxels exist only near surfaces.

Source: Curless and Levoy, "A Volumetric Method for Building Complex Models from Range Images", 1996.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dvmvs_core.errors import ConfigError
from dvmvs_core.evaluation.reconstruction.mesh import Mesh
from dvmvs_core.evaluation.reconstruction.open3d_loader import load_open3d
from dvmvs_core.geometry import inverse_pose

BLOCK = 16
"""Voxels along each side of the blocks that the volume is made of."""

FIRST_BLOCKS = 1000
"""Room for so many blocks at the start; the volume grows."""


@dataclass(frozen=True)
class FusionConfig:
    """How depth becomes a surface.

    Attributes:
        voxel_size_m: side of a voxel.
        truncation_voxels: distance from the surface, in voxels, at which the function is cut off.
        max_depth_m: depth beyond it is left out, since its error grows with the square of the distance.
        min_views: surface that fewer frames have seen is left out: nothing contradicts what only one has seen.

    Raises:
        ConfigError: if a value is out of range.
    """

    voxel_size_m: float = 0.015
    truncation_voxels: float = 5.0
    max_depth_m: float = 5.0
    min_views: int = 4

    def __post_init__(self) -> None:
        """Refuse what cannot give a surface."""
        for name, lowest in (("voxel_size_m", 1e-3), ("truncation_voxels", 1.0), ("max_depth_m", 0.1)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= lowest):
                raise ConfigError(f"{name} must be a number of at least {lowest:g}; got {value:g}")
        if self.min_views < 1:
            raise ConfigError(f"min_views must be at least 1; got {self.min_views}")


class TsdfVolume:
    """A growing volume that depth images are fused into.

    Args:
        config: voxel size, truncation, range.

    Attributes:
        frames: number of depth images so far.

    Raises:
        PackageError: if Open3D is missing.
    """

    def __init__(self, config: FusionConfig) -> None:
        self._o3d = load_open3d()
        core = self._o3d.core
        self._config = config
        self._grid = self._o3d.t.geometry.VoxelBlockGrid(
            attr_names=("tsdf", "weight", "color"),
            # Floats, since running means in 16-bit integers drift.
            attr_dtypes=(core.float32, core.float32, core.float32),
            attr_channels=((1,), (1,), (3,)),
            voxel_size=config.voxel_size_m,
            block_resolution=BLOCK,
            block_count=FIRST_BLOCKS,
            device=core.Device("CPU:0"),
        )
        self.frames = 0

    def integrate(self, depth: np.ndarray, image: np.ndarray, K: np.ndarray, world_T_cam: np.ndarray) -> None:
        """Fuse one depth image.

        Args:
            depth: (h, w) metres along the optical axis; 0 = none.
            image: (h, w, 3) uint8 RGB.
            K: (3, 3) intrinsics of both.
            world_T_cam: (4, 4) finite pose.
        """
        self.frames += 1
        limit = float(self._config.max_depth_m)  # Open3D refuses an int
        depth = np.where((depth > 0) & (depth <= limit), depth, 0).astype(np.float32)
        if not depth.any():
            return
        core, geometry = self._o3d.core, self._o3d.t.geometry
        cam_T_world = inverse_pose(world_T_cam)
        pose = core.Tensor(cam_T_world)
        depth_image = geometry.Image(core.Tensor(depth))
        colour_image = geometry.Image(core.Tensor(np.ascontiguousarray(image, dtype=np.float32) / 255))
        truncation = float(self._config.truncation_voxels)
        touched = self._grid.compute_unique_block_coordinates(
            depth_image, core.Tensor(np.asarray(K, np.float64)), pose, 1.0, limit, truncation
        )
        # Open3D cuts the fraction off a pixel coordinate, where 0 is the centre of the first pixel: half a pixel more
        # makes it the nearest one.
        nearest_K = np.array(K, dtype=np.float64)
        nearest_K[:2, 2] += 0.5
        blocks = self._with_blocks_in_view(touched.numpy(), K, cam_T_world, depth.shape)
        self._grid.integrate(
            core.Tensor(blocks),
            depth_image,
            colour_image,
            core.Tensor(nearest_K),
            core.Tensor(nearest_K),
            pose,
            1.0,
            limit,
            truncation,
        )

    def mesh(self) -> Mesh:
        """Return the surface so far; it may be empty."""
        nothing = Mesh(*(np.zeros((0, 3), dtype) for dtype in (np.float32, np.float32, np.uint8, np.int32)))
        if not self._grid.hashmap().size():
            return nothing
        extracted = self._grid.extract_triangle_mesh(weight_threshold=self._config.min_views - 1)
        if "indices" not in extracted.triangle or not len(extracted.triangle.indices):
            return nothing
        colours = np.clip(np.rint(extracted.vertex.colors.numpy() * 255), 0, 255)
        return Mesh(
            vertices=extracted.vertex.positions.numpy().astype(np.float32),
            normals=extracted.vertex.normals.numpy().astype(np.float32),
            colours=colours.astype(np.uint8),
            triangles=extracted.triangle.indices.numpy().astype(np.int32),
        )

    def _with_blocks_in_view(
        self, touched: np.ndarray, K: np.ndarray, cam_T_world: np.ndarray, size: tuple[int, int]
    ) -> np.ndarray:
        """Return the touched blocks (N, 3) and every known one in view: what a frame looks through is free space.

        Without the latter, a surface that one wrong depth image has put into the air would stay for ever.
        """
        hashmap = self._grid.hashmap()
        known = hashmap.key_tensor().numpy()[hashmap.active_buf_indices().numpy()]
        side = BLOCK * self._config.voxel_size_m
        centres = (known + 0.5) * side @ cam_T_world[:3, :3].T + cam_T_world[:3, 3]
        height, width = size
        radius = side * math.sqrt(3) / 2
        planes = np.array(
            (
                (K[0, 0], 0, K[0, 2] + 0.5),  # right of the left border of the image, and so on
                (-K[0, 0], 0, width - 0.5 - K[0, 2]),
                (0, K[1, 1], K[1, 2] + 0.5),
                (0, -K[1, 1], height - 0.5 - K[1, 2]),
                (0, 0, 1),
            )
        )
        planes /= np.linalg.norm(planes, axis=1, keepdims=True)
        seen = (centres @ planes.T > -radius).all(axis=1)
        return np.unique(np.concatenate((touched, known[seen])).astype(np.int32), axis=0)
