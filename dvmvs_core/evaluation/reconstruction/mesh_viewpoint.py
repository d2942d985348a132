# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where a mesh is best seen from: all of it from above, and its richest parts from beside the cameras that saw them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from dvmvs_core.evaluation.reconstruction.mesh import Mesh
from dvmvs_core.evaluation.reconstruction.mesh_caster import FIELD_OF_VIEW, MeshCaster

PICTURE_SIZE = (720, 960)
"""Height and width of one picture."""

ELEVATION = np.radians(40.0)
"""Height of the viewpoint above the horizon."""

COARSE_M = 0.1
"""Detail that the choice of the viewpoint looks at."""

SHOWN = (0.5, 99.5)
"""Percentiles of the surface between which the picture is framed: a few stray triangles may fall outside."""

FRAMING_STEPS = 8

GLANCE = (60, 80)
"""Height and width of the small pictures by which viewpoints are judged."""

CLOSE_DETAIL_M = 0.05
"""Detail that the choice of close views looks at."""

STEP_BACK_M, STEP_UP_M, LOOK_DOWN = 0.6, 0.3, 0.25
"""A close view is taken so far behind and above a camera, and tilted down by so much, so that it shows what the camera
stood before, and not exactly what it saw."""

GRAIN, NEIGHBOURS = (5, 5), (15, 15)
"""Sides, in pixels of a glance, of the squares over which normals are averaged, lest noise count as shape, and then
compared."""

CAMERAS = 24
"""How many cameras, spread over the sequence, the choice of close views asks at most."""

APART_M = 1.0
"""Least distance between the middles of what two close views show."""


@dataclass(frozen=True, eq=False)
class Viewpoint:
    """Where a picture is taken from.

    Attributes:
        world_T_cam: (4, 4) pose; z forward, x right, y down.
        up: (3,) unit vector against gravity in the world frame.
    """

    world_T_cam: np.ndarray
    up: np.ndarray


def choose_viewpoint(mesh: Mesh, world_T_cams: np.ndarray) -> Viewpoint:
    """Return a viewpoint above the scene that shows most of its surface.

    Twelve directions are tried; the one wins whose small picture is covered the most.

    Args:
        mesh: with at least one triangle.
        world_T_cams: (N, 4, 4) poses that the mesh was seen from.
    """
    up = find_up(mesh, world_T_cams)
    coarse = mesh.coarse(COARSE_M)
    best, best_share = None, -1.0
    for azimuth in np.arange(12) * (2 * np.pi / 12):
        viewpoint = _viewpoint(coarse, up, azimuth)
        share = MeshCaster(coarse, viewpoint.world_T_cam, GLANCE).facing_share()
        if share > best_share:
            best, best_share = viewpoint, share
    return best


def find_up(mesh: Mesh, world_T_cams: np.ndarray) -> np.ndarray:
    """Return the direction against gravity (3,): the one that floors and tables face, near the cameras' own up.

    Cameras are held upright but look down on things, so their mean up leans forward; the normals of what lies
    flat correct it.
    """
    up = -world_T_cams[:, :3, 1].mean(axis=0)
    up /= max(np.linalg.norm(up), 1e-9)
    areas = mesh.area_vectors()
    sizes = np.maximum(np.linalg.norm(areas, axis=1), 1e-12)
    for degrees in (45, 30, 20, 10, 10):
        near = areas[areas @ up / sizes > np.cos(np.radians(degrees))].sum(axis=0)
        if np.linalg.norm(near) > 0:
            up = near / np.linalg.norm(near)
    return up


def choose_close_views(mesh: Mesh, world_T_cams: np.ndarray, up: np.ndarray, count: int) -> list[Viewpoint]:
    """Return viewpoints beside the cameras where the surface fills the picture and has the most shape, best first.

    Args:
        mesh: with at least one triangle.
        world_T_cams: (N, 4, 4) poses that the mesh was seen from.
        up: (3,) unit vector against gravity.
        count: how many at most; fewer where the cameras saw one place only.
    """
    coarse = mesh.coarse(CLOSE_DETAIL_M)
    candidates = []
    for world_T_cam in world_T_cams[:: math.ceil(len(world_T_cams) / CAMERAS)]:
        viewpoint = _beside(world_T_cam, up)
        caster = MeshCaster(coarse, viewpoint.world_T_cam, GLANCE)
        if caster.hit.any():
            candidates.append((_richness(caster), np.median(caster.points, axis=0), viewpoint))
    chosen: list[tuple[np.ndarray, Viewpoint]] = []
    for _, middle, viewpoint in sorted(candidates, key=lambda candidate: -candidate[0]):
        if len(chosen) < count and all(np.linalg.norm(middle - other) > APART_M for other, _ in chosen):
            chosen.append((middle, viewpoint))
    return [viewpoint for _, viewpoint in chosen]


def _viewpoint(mesh: Mesh, up: np.ndarray, azimuth: float) -> Viewpoint:
    """The viewpoint in one horizontal direction from where what faces it just fills the picture."""
    aside = np.cross(up, (0.0, 0.0, 1.0) if abs(up[2]) < 0.9 else (0.0, 1.0, 0.0))
    aside /= np.linalg.norm(aside)
    outward = np.cos(azimuth) * aside + np.sin(azimuth) * np.cross(up, aside)
    backward = np.cos(ELEVATION) * outward + np.sin(ELEVATION) * up
    right = np.cross(up, backward)
    right /= np.linalg.norm(right)
    rotation = _world_R_cam(right, -backward)
    some = slice(None, None, max(len(mesh.triangles) // 20_000, 1))
    corners, normals = mesh.corners()[some], mesh.area_vectors()[some]
    half = np.tan(FIELD_OF_VIEW / 2) * np.array((1.0, PICTURE_SIZE[0] / PICTURE_SIZE[1]))
    low, high = np.percentile(corners.reshape(-1, 3), SHOWN, axis=0)
    distance = np.linalg.norm(high - low)
    eye = (low + high) / 2 + distance * backward
    for _ in range(FRAMING_STEPS):
        towards = corners - eye
        in_front = (towards @ rotation[:, 2] > 0.1 * distance).all(axis=1)
        shown = in_front & (np.einsum("nx,nx->n", towards[:, 0], normals) < 0)
        if not shown.any():
            break
        in_view = (towards[shown] @ rotation).reshape(-1, 3)
        low, high = np.percentile(in_view[:, :2] / in_view[:, 2:], SHOWN, axis=0)
        distance = np.median(in_view[:, 2])
        closer = 1 - 1.04 * ((high - low) / 2 / half).max()
        eye = eye + rotation @ (distance * np.append((low + high) / 2, np.clip(closer, -0.5, 0.5)))
    return Viewpoint(_world_T_cam(rotation, eye), up)


def _beside(world_T_cam: np.ndarray, up: np.ndarray) -> Viewpoint:
    """The upright viewpoint a step behind a camera and above it."""
    forward = world_T_cam[:3, 2]
    eye = world_T_cam[:3, 3] - STEP_BACK_M * forward + STEP_UP_M * up
    forward = forward - LOOK_DOWN * up
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 0.1:  # it looks straight down: the camera knows which way is right
        right = world_T_cam[:3, 0] - (world_T_cam[:3, 0] @ forward) * forward / (forward @ forward)
    forward, right = forward / np.linalg.norm(forward), right / np.linalg.norm(right)
    return Viewpoint(_world_T_cam(_world_R_cam(right, forward), eye), up)


def _world_R_cam(right: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) of a camera by two of its axes, unit vectors in the world."""
    return np.stack((right, np.cross(forward, right), forward), axis=1)


def _world_T_cam(world_R_cam: np.ndarray, eye: np.ndarray) -> np.ndarray:
    world_T_cam = np.eye(4)
    world_T_cam[:3, :3], world_T_cam[:3, 3] = world_R_cam, eye
    return world_T_cam


def _richness(caster: MeshCaster) -> float:
    """How much a picture shows: how much normals vary among neighbours, and, above all, how few holes there are."""
    known = caster.hit.astype(np.float32)
    normals = np.zeros((*known.shape, 3), np.float32)
    normals[caster.hit] = caster.normals
    smooth = cv2.blur(normals, GRAIN)
    smooth *= (known / np.maximum(np.linalg.norm(smooth, axis=-1), 1e-6))[..., None]
    bundled = (
        np.linalg.norm(cv2.blur(smooth, NEIGHBOURS), axis=-1)[caster.hit] / cv2.blur(known, NEIGHBOURS)[caster.hit]
    )
    return float(known.mean() ** 3 * (1 - bundled).mean())
