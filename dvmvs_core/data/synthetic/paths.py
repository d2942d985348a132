# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Choosing paths through a world: clear of its geometry, spaced as keyframes are, with a view worth having."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from dvmvs_core.data.synthetic.raycast import gap_to, gap_to_walls
from dvmvs_core.data.synthetic.renderer import coarse_view
from dvmvs_core.data.synthetic.trajectories import (
    CLEARANCE_M,
    LEG_S,
    camera_velocity,
    choose_keyframes,
    sample_style,
    walk,
)
from dvmvs_core.data.synthetic.world_tensors import SolidFrames, WorldTensors, solid_frames

FRAME_RATE_HZ = 30.0

_BURIED_M = -100.0
"""What lies lower stands for no solid."""
_CANDIDATES = 24
_LOOKED_AT = 12
_COARSE_SIZE = (6, 8)
_USUAL_DEPTH_M = 2.2
"""Median depth of indoor images, about which the wanted one is drawn."""
_NEAREST_VIEW_M = 0.65
"""Views whose median depth is less show one surface that fills the image."""


class CameraPath(NamedTuple):
    """Cameras one after the other: world_T_cam (T, 4, 4), and their velocity (T, 6) as of `camera_velocity`."""

    world_T_cam: np.ndarray
    velocity: np.ndarray


class WorldProbe:
    """Answers where a world leaves air, and roughly what cameras see of it."""

    def __init__(self, world: WorldTensors) -> None:
        """Prepare a world without a batch axis."""
        self._world = WorldTensors(*(part[None] for part in world))
        frames = solid_frames(world, scaled=False)
        used = world.centre[:, 2] > _BURIED_M
        self._solids = SolidFrames(frames.rows[used], frames.shift[used])
        self._half = world.half[used]

    def clearance(self, points: np.ndarray) -> np.ndarray:
        """Distance (N,) in metres from points (N, 3) to the nearest surface, round solids counted as boxes."""
        where = torch.from_numpy(points.T.astype(np.float32))[None]
        found = gap_to_walls(self._world.room_low, self._world.room_high, where)
        # So many solids at a time that a core's cache holds them.
        size = max(1, 2**15 // len(points))
        for rows, shift, half in zip(*(part.split(size) for part in (*self._solids, self._half)), strict=True):
            found = torch.minimum(found, gap_to(SolidFrames(rows, shift), half, where).amin(0, keepdim=True))
        return found[0].numpy().astype(np.float64)

    def view(self, poses: np.ndarray, K: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Depths (F, N) on a coarse grid over the images of cameras (F, 4, 4), and which of them are solids."""
        rows, columns = _COARSE_SIZE
        coarse = torch.from_numpy(np.diag([columns / width, rows / height, 1.0]) @ K).float()
        count = len(poses)
        frames = WorldTensors(*(part.expand(count, *part.shape[1:]) for part in self._world))
        depth, solid = coarse_view(frames, torch.from_numpy(poses).float(), coarse.expand(count, 3, 3), rows, columns)
        return depth.flatten(1).numpy(), solid.flatten(1).numpy()

    def free_starts(self, rng: np.random.Generator, height_m: float, count: int) -> np.ndarray | None:
        """Points (count, 3) about a height with air around them, or None."""
        low, high = self._world.room_low[0, 0].numpy(), self._world.room_high[0, 0].numpy()
        points = rng.uniform(low + 0.4, np.maximum(high - 0.4, low + 0.41), (160, 3))
        points[:, 2] = np.clip(height_m + rng.normal(0.0, 0.1, 160), 0.4, high[2] - 0.4)
        free = points[self.clearance(points) > CLEARANCE_M + 0.12]
        if len(free) < 3:
            return None
        return free[np.arange(count) % len(free)]


def clip_path(
    rng: np.random.Generator, world: WorldTensors, K: np.ndarray, height: int, width: int, length: int
) -> CameraPath | None:
    """Choose the cameras of a training clip.

    Args:
        rng: Source of randomness.
        world: Without a batch axis.
        K: (3, 3) pixels.
        height: Image height.
        width: Image width.
        length: Keyframes wanted.

    Returns:
        `length` cameras, spaced by the published training rule; None where this world offers none.
    """
    probe = WorldProbe(world)
    style = sample_style(rng)
    starts = probe.free_starts(rng, style.height_m, _CANDIDATES)
    if starts is None:
        return None
    # The scalings of the distances with which the published rule goes over a scene again and again.
    scale = rng.choice([0.666, 0.8, 1.0, 1.25, 1.5])
    duration_s = min(1.2 + 0.26 * length * scale / style.speed, LEG_S)
    paths, smallest = walk(rng, style, starts, duration_s, FRAME_RATE_HZ, probe.clearance)
    stride = int(rng.choice([1, 2, 3, 4]))
    wanted_depth = _USUAL_DEPTH_M * float(np.exp(rng.normal(0.0, 0.5)))
    # At times nothing but walls and floor is fine: that is what a camera sees that turns away from the furniture.
    wanted_solids = 0.0 if rng.random() < 0.15 else rng.uniform(0.1, 0.7)
    candidates = []
    for path in paths[smallest >= CLEARANCE_M][:_LOOKED_AT]:
        order = np.arange(len(path))[:: -stride if rng.random() < 0.5 else stride]
        chosen = choose_keyframes(path[order], length, 0.125 * scale, 0.325 * scale, 0.0625 * scale)
        if chosen is not None:
            candidates.append((path, order[chosen]))
    return _best_view(probe, candidates, [0, length // 2, length - 1], K, height, width, wanted_depth, wanted_solids)


def sequence_path(
    rng: np.random.Generator, world: WorldTensors, K: np.ndarray, height: int, width: int, frames: int
) -> CameraPath | None:
    """Choose the cameras of a brisk 30 Hz walk; arguments and result as of `clip_path`, but without any rule."""
    probe = WorldProbe(world)
    style = sample_style(rng, brisk=True)
    starts = probe.free_starts(rng, style.height_m, _CANDIDATES)
    if starts is None:
        return None
    paths, smallest = walk(rng, style, starts, frames / FRAME_RATE_HZ, FRAME_RATE_HZ, probe.clearance, pauses=True)
    looked_at = list(range(0, frames, max(1, frames // 10)))
    candidates = [(path, np.arange(frames)) for path in paths[smallest >= CLEARANCE_M]]
    return _best_view(probe, candidates, looked_at, K, height, width, _USUAL_DEPTH_M, wanted_solids=0.5)


def _best_view(
    probe: WorldProbe,
    candidates: list[tuple[np.ndarray, np.ndarray]],
    looked_at: list[int],
    K: np.ndarray,
    height: int,
    width: int,
    wanted_depth: float,
    wanted_solids: float,
) -> CameraPath | None:
    """The path whose frames `looked_at` come closest to a median depth, with enough furniture in view.

    Candidates are paths at 30 Hz (N, 4, 4), each with the indices (T,) of the poses to take from it.
    """
    if not candidates:
        return None
    poses = np.concatenate([path[chosen[looked_at]] for path, chosen in candidates])
    depth, solid = probe.view(poses, K, height, width)
    shape = (len(candidates), len(looked_at))
    medians = np.median(depth, axis=1).reshape(shape)
    solids = solid.mean(axis=1).reshape(shape).mean(axis=1)
    error = np.abs(np.log(medians / wanted_depth)).mean(axis=1) + 1.5 * np.clip(wanted_solids - solids, 0.0, None)
    error[medians.min(axis=1) < _NEAREST_VIEW_M] = np.inf
    best = int(np.argmin(error))
    if not np.isfinite(error[best]):
        return None
    path, chosen = candidates[best]
    return CameraPath(path[chosen], camera_velocity(path, FRAME_RATE_HZ)[chosen])
