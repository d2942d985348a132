# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Colours for a mesh, taken from the few images that show each vertex best.

Fusion gives a vertex the mean colour of all frames, and every error of depth and pose blurs it. Here each vertex takes
the colours of those images alone in which it is near, faces the camera, lies in the open and is not smeared by motion.

Source of the weights: Waechter et al., "Let There Be Color! Large-Scale Texturing of 3D Reconstructions", ECCV 2014,
section 3: what is near, seen straight on and sharp; here per vertex, and the mean of a few, since exposures differ.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.ndimage import map_coordinates

from dvmvs_core.evaluation.prediction.depth_pictures import encode_jpeg
from dvmvs_core.evaluation.reconstruction.mesh import Mesh
from dvmvs_core.evaluation.reconstruction.open3d_loader import load_open3d
from dvmvs_core.evaluation.reconstruction.raycasting import raycasting_scene
from dvmvs_core.geometry import points_in_view

if TYPE_CHECKING:
    from open3d.t.geometry import RaycastingScene

IMAGES = 4
"""How many images give a vertex its colour."""

JPEG_QUALITY = 95
"""Of images that wait to be painted with: a recording may hold thousands."""

HIDDEN_M = 0.03
"""Surface so far before a vertex hides it; what is nearer is the vertex's own."""

LEAST_FACING = 0.1
"""Cosine between normal and line of sight of a vertex that an image shows."""

NEIGHBOURING_IMAGES = 8
"""Images before and after that an image's sharpness is compared with."""

MOST_SHARPNESS = 1.5
"""Beyond that, an image has more texture than its neighbours rather than less blur."""


@dataclass(frozen=True, eq=False)
class _Image:
    """An image to paint with: JPEG, intrinsics, pose, and the variance of its Laplacian, which motion blur lowers."""

    jpeg: bytes
    K: np.ndarray
    world_T_cam: np.ndarray
    contrast: float


class MeshPainter:
    """Holds the images of a recording and paints a mesh with them."""

    def __init__(self) -> None:
        self._images: list[_Image] = []

    def add(self, image: np.ndarray, K: np.ndarray, world_T_cam: np.ndarray) -> None:
        """Take an image.

        Args:
            image: (h, w, 3) uint8 RGB.
            K: (3, 3) intrinsics.
            world_T_cam: (4, 4) finite pose.
        """
        contrast = cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var()
        self._images.append(_Image(encode_jpeg(image, JPEG_QUALITY), K, world_T_cam, float(contrast)))

    def paint(self, mesh: Mesh) -> Mesh:
        """Return the mesh with the colours of the best images; what none of them shows keeps its own.

        Raises:
            PackageError: if Open3D is missing.
        """
        best = np.zeros((len(mesh.vertices), IMAGES))
        colours = np.zeros((len(mesh.vertices), IMAGES, 3))
        if len(mesh.triangles):
            scene = raycasting_scene(mesh.vertices, mesh.triangles)
            for image, sharpness in zip(self._images, self._sharpness(), strict=True):
                _offer(image, sharpness, mesh, scene, best, colours)
        total = best.sum(axis=1, keepdims=True)
        mean = (best[..., None] * colours).sum(axis=1) / np.maximum(total, 1e-12)
        painted = np.where(total > 0, np.rint(mean), mesh.colours)
        return dataclasses.replace(mesh, colours=painted.astype(np.uint8))

    def _sharpness(self) -> np.ndarray:
        """Contrast of each image against its neighbours in time, which mostly show the same."""
        contrast = np.array([image.contrast for image in self._images])
        usual = [
            np.median(contrast[max(0, i - NEIGHBOURING_IMAGES) : i + NEIGHBOURING_IMAGES + 1])
            for i in range(len(contrast))
        ]
        return np.clip(contrast / np.maximum(usual, 1e-9), 1e-3, MOST_SHARPNESS)


def _in_the_open(scene: RaycastingScene, eye: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which points (N, 3) of a scene's surface nothing hides from an eye (3,)."""
    towards = points - eye
    distance = np.linalg.norm(towards, axis=1, keepdims=True)
    rays = np.concatenate((np.broadcast_to(eye, points.shape), towards / distance), axis=1).astype(np.float32)
    hit = scene.cast_rays(load_open3d().core.Tensor(rays))["t_hit"].numpy()
    return hit > distance[:, 0] - HIDDEN_M


def _offer(
    image: _Image, sharpness: float, mesh: Mesh, scene: RaycastingScene, best: np.ndarray, colours: np.ndarray
) -> None:
    """Give the image's colours to the vertices that it shows better than the worst of the images they have.

    Args:
        image: what to paint with.
        sharpness: of the image against others, 1 = as usual.
        mesh: of V vertices.
        scene: the mesh, to cast rays at.
        best: (V, `IMAGES`) weights of the images so far, 0 = none; changed.
        colours: (V, `IMAGES`, 3) of these images; changed.
    """
    pixels = cv2.cvtColor(cv2.imdecode(np.frombuffer(image.jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    shown, where = points_in_view(mesh.vertices, image.K, image.world_T_cam, pixels.shape[:2])
    eye = image.world_T_cam[:3, 3]
    towards = mesh.vertices[shown] - eye
    distance = np.linalg.norm(towards, axis=1)
    facing = -np.einsum("nx,nx->n", towards, mesh.normals[shown]) / np.maximum(distance, 1e-9)
    weight = facing / np.maximum(distance, 1e-9) * sharpness
    worst = best[shown].argmin(axis=1)
    better = (facing > LEAST_FACING) & (weight > best[shown, worst])
    better[better] = _in_the_open(scene, eye, mesh.vertices[shown[better]])

    vertex, place = shown[better], worst[better]
    best[vertex, place] = weight[better]
    rows_and_columns = where[better].T[::-1]
    channels = pixels.astype(np.float32).transpose(2, 0, 1)
    colours[vertex, place] = np.stack(
        [map_coordinates(channel, rows_and_columns, order=1) for channel in channels], axis=-1
    )
