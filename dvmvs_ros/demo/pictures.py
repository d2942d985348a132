# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Pictures of a demo: a strip of keyframes beside their depth, and the cloud as it looks from the side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dvmvs_core.atomic import replacing
from dvmvs_core.data.sequence import Sequence
from dvmvs_core.evaluation.pictures import depth_strip, encode_png
from dvmvs_core.evaluation.score import resize_truth
from dvmvs_core.geometry import backproject
from dvmvs_core.preprocess import Preprocessor
from dvmvs_ros.demo.report import Recording

ROWS = 4
SUPERSAMPLING = 2
VIEW_SIZE = (540, 960)
BACKGROUND = np.array((24, 26, 31), np.uint8)
SIDE_RAD, ABOVE_RAD = 0.5, 0.3
"""How far the view of the cloud turns around it, to the right and upwards."""

DISTANCE = 1.6
"""Distance of the view from the cloud's middle, as a multiple of the camera's."""

FILLED = 0.92
"""Share of the picture that the cloud fills, in the direction where it is tighter."""

PYRAMID_LENGTH = 0.22
"""Length of the camera's pyramid, as a share of the median depth."""

PYRAMID_EDGES = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1))
PYRAMID_COLOUR = (255, 176, 32)


def write_pictures(recording: Recording, sequence: Sequence, strip: Path, cloud: Path) -> None:
    """Write the strip, and the cloud of the strip's second keyframe seen from the side.

    Args:
        recording: what the recorder received.
        sequence: what was played; images and sensor depth are taken from it.
        strip: png to write.
        cloud: png to write.
    """
    stamps = sorted(recording.depths)
    chosen = {stamps[i] for i in np.linspace(0, len(stamps) - 1, 2 * ROWS + 1).astype(int)[1::2]}
    rows, clouds = [], []
    for item in sequence.items():
        stamp_ns = item.frame.stamp_ns
        if stamp_ns not in chosen:
            continue
        depth, K = recording.depths[stamp_ns], recording.intrinsics[stamp_ns]
        image = _resized(item.frame.image, item.frame.K, depth.shape)
        truth = item.sensor_depth
        if truth is not None:
            truth = resize_truth(truth, item.frame.K, depth.shape, K)
        rows.append(depth_strip(image, depth, truth))
        clouds.append((image, depth, K))
    _write(strip, np.vstack(rows))
    _write(cloud, draw_cloud(*clouds[len(clouds) // 2]))


def draw_cloud(image: np.ndarray, depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Draw the coloured points of one depth map from beside the camera, and the camera itself.

    Args:
        image: (h, w, 3) uint8 RGB.
        depth: (h, w) metres, 0 = invalid.
        K: (3, 3) intrinsics.

    Returns:
        RGB picture of `VIEW_SIZE`.
    """
    size = tuple(side * SUPERSAMPLING for side in VIEW_SIZE)
    known = depth[depth > 0]
    keep = (depth > 0) & (depth < np.percentile(known, 98)) & ~_is_edge(depth)
    points = backproject(depth, K)[keep]
    pyramid = _pyramid(K, depth.shape, PYRAMID_LENGTH * float(np.median(known)))
    view = _View.from_the_side(np.vstack((points, pyramid)), np.median(points, axis=0), size)
    picture = np.tile(BACKGROUND, (*size, 1))
    _splat(picture, view, points, image[keep], points[:, 2] / K[0, 0])
    _draw_camera(picture, image, view.project(pyramid)[0])
    return cv2.resize(picture, VIEW_SIZE[::-1], interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class _View:
    """A virtual pinhole camera: its pose in the frame of the points, its focal length and principal point in pixels."""

    view_T_cam: np.ndarray
    focal: float
    centre: np.ndarray

    @classmethod
    def from_the_side(cls, points: np.ndarray, pivot: np.ndarray, size: tuple[int, int]) -> _View:
        """Look at `pivot` from the right and above, so that all but stray points fill a picture of (height, width)."""
        turn = cv2.Rodrigues(np.array((0.0, SIDE_RAD, 0.0)))[0]
        tilt = cv2.Rodrigues(np.array((ABOVE_RAD, 0.0, 0.0)))[0]
        view_T_cam = np.eye(4)
        view_T_cam[:3, :3] = tilt @ turn
        view_T_cam[:3, 3] = np.array((0.0, 0.0, DISTANCE * np.linalg.norm(pivot))) - tilt @ turn @ pivot
        unit, _ = cls(view_T_cam, 1.0, np.zeros(2)).project(points)
        low, high = np.percentile(unit[:-5], 1, axis=0), np.percentile(unit[:-5], 99, axis=0)
        low, high = np.minimum(low, unit[-5:].min(axis=0)), np.maximum(high, unit[-5:].max(axis=0))
        extent = np.array(size[::-1])
        focal = float((FILLED * extent / (high - low)).min())
        return cls(view_T_cam, focal, extent / 2 - focal * (low + high) / 2)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels (N, 2) and distances along the view's axis (N,)."""
        seen = points @ self.view_T_cam[:3, :3].T + self.view_T_cam[:3, 3]
        away = np.maximum(seen[:, 2], 1e-3)
        return seen[:, :2] / away[:, None] * self.focal + self.centre, away


def _splat(picture: np.ndarray, view: _View, points: np.ndarray, colours: np.ndarray, spacing: np.ndarray) -> None:
    """Paint each point as a square as large as its distance to the next, far points first."""
    pixels, away = view.project(points)
    order = np.argsort(-away)
    corner, colours = pixels[order].round().astype(int), colours[order]
    side = np.clip(np.ceil(1.4 * view.focal * spacing / away)[order], 1, 12).astype(int)
    height, width = picture.shape[:2]
    # One scatter a pixel of the largest square: later writes win, so near points cover far ones in each.
    for y in range(side.max()):
        for x in range(side.max()):
            u, v = corner[:, 0] + x - side // 2, corner[:, 1] + y - side // 2
            drawn = (x < side) & (y < side) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
            picture[v[drawn], u[drawn]] = colours[drawn]


def _draw_camera(picture: np.ndarray, image: np.ndarray, corners: np.ndarray) -> None:
    """Draw the camera as its pyramid of view, with its image on the base: `corners` are the tip and the base's four."""
    height, width = image.shape[:2]
    border = np.array(((0, 0), (width, 0), (width, height), (0, height)), np.float32)
    picture_T_image = cv2.getPerspectiveTransform(border, corners[1:].astype(np.float32))
    size = picture.shape[1::-1]
    covered = cv2.warpPerspective(np.full((height, width), 255, np.uint8), picture_T_image, size) > 127
    picture[covered] = cv2.warpPerspective(image, picture_T_image, size, flags=cv2.INTER_AREA)[covered]
    for i, j in PYRAMID_EDGES:
        start, end = corners[i].round().astype(int), corners[j].round().astype(int)
        cv2.line(picture, start.tolist(), end.tolist(), PYRAMID_COLOUR, 2 * SUPERSAMPLING, cv2.LINE_AA)


def _pyramid(K: np.ndarray, size: tuple[int, int], length_m: float) -> np.ndarray:
    """The camera's centre and the four corners of its image at a distance: (5, 3)."""
    height, width = size
    corners = np.array(((0, 0, 1), (width, 0, 1), (width, height, 1), (0, height, 1)), dtype=np.float64)
    return np.vstack((np.zeros(3), length_m * corners @ np.linalg.inv(K).T))


def _is_edge(depth: np.ndarray) -> np.ndarray:
    """Pixels between two surfaces: their points float in the air and belong to neither."""
    inverse = (1.0 / np.where(depth > 0, depth, np.inf)).astype(np.float32)
    steepness = np.hypot(cv2.Sobel(inverse, -1, 1, 0), cv2.Sobel(inverse, -1, 0, 1))
    return steepness > 0.25 * inverse


def _resized(image: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resized = Preprocessor(K, image.shape[:2], size).image(image)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)


def _write(path: Path, picture: np.ndarray) -> None:
    with replacing(path) as unfinished:
        unfinished.write_bytes(encode_png(picture))
