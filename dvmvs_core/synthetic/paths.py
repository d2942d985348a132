# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Choosing paths through a world: clear of its geometry, spaced as keyframes are, with a view worth having.

Clips come in three kinds: walks through a room, with keyframes as the published training rule spaces them; cameras that
hover at arm's length; and cameras that hardly move from the spot, which is where geometry says nothing and only the
image and the past can tell depth.
"""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import NamedTuple

import numpy as np
import torch

from dvmvs_core.synthetic.assembly import draw_weighted
from dvmvs_core.synthetic.raycast import gap_to, gap_to_walls
from dvmvs_core.synthetic.renderer import coarse_view
from dvmvs_core.synthetic.trajectories import (
    CLEARANCE_M,
    LEG_S,
    NEAR_CLEARANCE_M,
    camera_velocity,
    choose_keyframes,
    hover,
    pose_distances,
    sample_style,
    walk,
)
from dvmvs_core.synthetic.world_tensors import SolidFrames, WorldTensors, solid_frames

FRAME_RATE_HZ = 30.0

_BURIED_M = -100.0
"""What lies lower stands for no solid."""
_CANDIDATES = 24
_LOOKED_AT = 16
_COARSE_SIZE = (6, 8)


class ClipKind(Enum):
    """What the camera of a clip does."""

    WALK = "walk"
    NEAR = "near"
    STILL = "still"
    NEAR_AND_STILL = "near and still"


_KINDS = {ClipKind.WALK: 0.57, ClipKind.NEAR: 0.25, ClipKind.STILL: 0.12, ClipKind.NEAR_AND_STILL: 0.06}
"""How often each kind is drawn."""
STILL_PX = 2.0
"""Parallax that clips of cameras which hardly move stay below."""
_PARALLAX_WIDTH = 320
_STEP = 0.25
_USUAL_DEPTH_M = 2.2
"""Median depth of indoor images, about which the wanted one is drawn."""
_FAR_VIEWS = 0.4
_FAR_DEPTH_M = (3.5, 9.0)
"""Share of the walks in halls and corridors that look along them, and the median depth wanted of those."""
_LONG_ROOM_M = 8.0
_NEAR_DEPTH_M = (0.3, 1.0)
_NEAREST_VIEW_M = 0.65
"""Views of walks whose median depth is less show one surface that fills the image."""
_NEAREST_HOVER_M, _FARTHEST_HOVER_M = 0.22, 1.6
"""Bounds of the median depth of every frame at arm's length."""
_MAX_TURN = 0.3
"""Rotation distance of consecutive frames beyond which hardly anything stays in view."""


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
        self.room_length_m = float((world.room_high - world.room_low)[0, :2].max())

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
        """Depths (F, H, W) on a coarse grid over the images of cameras (F, 4, 4), and numbers of what is seen there."""
        rows, columns = _COARSE_SIZE
        coarse = torch.from_numpy(np.diag([columns / width, rows / height, 1.0]) @ K).float()
        count = len(poses)
        frames = WorldTensors(*(part.expand(count, *part.shape[1:]) for part in self._world))
        depth, seen = coarse_view(frames, torch.from_numpy(poses).float(), coarse.expand(count, 3, 3), rows, columns)
        return depth.numpy(), seen.numpy()

    def targets(self, rng: np.random.Generator, count: int) -> np.ndarray | None:
        """Middles (count, 3) of things that a hand could take, or None."""
        middle = self._world.centre[0].numpy().astype(np.float64)
        half = self._world.half[0].numpy()
        low, high = self._world.room_low[0, 0].numpy(), self._world.room_high[0, 0].numpy()
        good = (half.max(1) < 0.25) & (half.max(1) > 0.03) & (middle > low).all(1) & (middle < high).all(1)
        good &= middle[:, 2] > 0.05
        found = middle[good]
        return found[rng.integers(0, len(found), count)] if len(found) else None

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
    rng: np.random.Generator,
    world: WorldTensors,
    K: np.ndarray,
    height: int,
    width: int,
    length: int,
    kind: ClipKind | None = None,
) -> CameraPath | None:
    """Choose the cameras of a training clip.

    Args:
        rng: Source of randomness.
        world: Without a batch axis.
        K: (3, 3) pixels.
        height: Image height.
        width: Image width.
        length: Keyframes wanted.
        kind: What the camera does; drawn by default.

    Returns:
        `length` cameras; None where this world offers none.
    """
    probe = WorldProbe(world)
    drawn = draw_weighted(rng, _KINDS)
    kind = kind or drawn
    near, still = kind in (ClipKind.NEAR, ClipKind.NEAR_AND_STILL), kind in (ClipKind.STILL, ClipKind.NEAR_AND_STILL)
    # The scalings of the distances with which the published rule goes over a scene again and again.
    scale = float(rng.choice([0.3, 0.5, 0.8, 1.0] if near else [0.666, 0.8, 1.0, 1.25, 1.5]))
    found = _hovers(rng, probe, length, scale, still) if near else _walks(rng, probe, length, scale, still)
    if found is None:
        return None
    candidates = []
    stride = int(rng.choice([1, 2, 3, 4]))
    for path in found[: 2 * _LOOKED_AT if near else _LOOKED_AT]:
        if still:
            chosen = _evenly(rng, path, length)
        else:
            order = np.arange(len(path))[:: -stride if rng.random() < 0.5 else stride]
            chosen = choose_keyframes(path[order], length, 0.125 * scale, 0.325 * scale, 0.0625 * scale)
            chosen = None if chosen is None else order[chosen]
        if chosen is not None:
            candidates.append((path, chosen))
    if near:
        wanted_depth = float(np.exp(rng.uniform(*np.log(_NEAR_DEPTH_M))))
    elif rng.random() < _FAR_VIEWS and probe.room_length_m > _LONG_ROOM_M:
        wanted_depth = rng.uniform(*_FAR_DEPTH_M)
    else:
        wanted_depth = _USUAL_DEPTH_M * float(np.exp(rng.normal(0.0, 0.4)))
    wish = _Wish(
        depth_m=wanted_depth,
        # At times nothing but walls and floor is fine: that is what a camera sees that turns away from the furniture.
        crowd=0.0 if rng.random() < 0.1 else rng.uniform(0.4, 0.9),
        nearest_m=_NEAREST_HOVER_M if near else _NEAREST_VIEW_M,
        farthest_m=_FARTHEST_HOVER_M if near else np.inf,
        parallax_px=STILL_PX if still else np.inf,
    )
    return _best_view(probe, candidates, [0, length // 2, length - 1], K, height, width, wish)


def parallax_px(translation_m: np.ndarray, depth_m: np.ndarray, K: np.ndarray, width: int) -> np.ndarray:
    """How far a depth step of 25 % moves a point across an image 320 pixels wide, for sideways translation."""
    focal = K[0, 0] * _PARALLAX_WIDTH / width
    return focal * translation_m / depth_m * (_STEP / (1.0 + _STEP))


def _walks(rng: np.random.Generator, probe: WorldProbe, length: int, scale: float, still: bool) -> np.ndarray | None:
    """Paths (C, T, 4, 4) that somebody walks, or stays on the spot."""
    style = sample_style(rng)
    starts = probe.free_starts(rng, style.height_m, _CANDIDATES)
    if starts is None:
        return None
    if still:
        # On the spot: turning round, or looking one way while the hand trembles.
        turn = style.turn if rng.random() < 0.65 else 0.02
        style = dataclasses.replace(style, speed=rng.uniform(0.0, 0.08), turn=turn, orbit_m=np.inf)
        duration_s = 0.5 + 0.2 * length
    else:
        duration_s = 1.2 + 0.26 * length * scale / style.speed
    paths, smallest = walk(rng, style, starts, min(duration_s, LEG_S), FRAME_RATE_HZ, probe.clearance)
    return paths[smallest >= CLEARANCE_M]


def _hovers(rng: np.random.Generator, probe: WorldProbe, length: int, scale: float, still: bool) -> np.ndarray | None:
    """Paths (C, T, 4, 4) at arm's length of things."""
    targets = probe.targets(rng, 8 * _CANDIDATES)
    if targets is None:
        return None
    speed = rng.uniform(0.0, 0.02) if still else rng.uniform(0.12, 0.5)
    duration_s = 0.5 + 0.2 * length if still else min(1.2 + 0.2 * length * scale / speed, LEG_S)
    paths = hover(rng, targets, speed, duration_s, FRAME_RATE_HZ)
    # Ends and middle first: most paths that are not clear fail there.
    ends = probe.clearance(paths[:, [0, paths.shape[1] // 2, -1], :3, 3].reshape(-1, 3)).reshape(-1, 3)
    paths = paths[ends.min(1) >= NEAR_CLEARANCE_M][: 2 * _CANDIDATES]
    if not len(paths):
        return None
    gaps = probe.clearance(paths[:, :, :3, 3].reshape(-1, 3)).reshape(len(paths), -1)
    return paths[gaps.min(1) >= NEAR_CLEARANCE_M]


def _evenly(rng: np.random.Generator, path: np.ndarray, length: int) -> np.ndarray | None:
    """Evenly spaced poses of a path, as far apart as drawn unless the view turns too far between them."""
    for stride in range(int(rng.integers(1, max(2, len(path) // length))), 0, -1):
        chosen = np.arange(length) * stride
        if chosen[-1] < len(path):
            combined, translation = pose_distances(path[chosen[:-1]], path[chosen[1:]])
            if np.all(combined**2 - translation**2 <= _MAX_TURN**2):
                return chosen
    return None


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
    return _best_view(probe, candidates, looked_at, K, height, width, _Wish(_USUAL_DEPTH_M, 0.6))


@dataclasses.dataclass(frozen=True)
class _Wish:
    """What a path should show.

    Attributes:
        depth_m: Median depth of its frames.
        crowd: Share of neighbouring pixels of a coarse view that show different things, at least.
        nearest_m: Least median depth of any frame.
        farthest_m: Greatest median depth of any frame.
        parallax_px: Most `parallax_px` from one keyframe to the next.
    """

    depth_m: float
    crowd: float
    nearest_m: float = _NEAREST_VIEW_M
    farthest_m: float = np.inf
    parallax_px: float = np.inf


def _best_view(
    probe: WorldProbe,
    candidates: list[tuple[np.ndarray, np.ndarray]],
    looked_at: list[int],
    K: np.ndarray,
    height: int,
    width: int,
    wish: _Wish,
) -> CameraPath | None:
    """The path whose frames `looked_at` come closest to a wish.

    Candidates are paths at 30 Hz (N, 4, 4), each with the indices (T,) of the poses to take from it.
    """
    if not candidates:
        return None
    poses = np.concatenate([path[chosen[looked_at]] for path, chosen in candidates])
    depth, seen = probe.view(poses, K, height, width)
    shape = (len(candidates), len(looked_at))
    medians = np.median(depth, axis=(1, 2)).reshape(shape)
    changes = (seen[:, 1:] != seen[:, :-1]).mean((1, 2)) + (seen[:, :, 1:] != seen[:, :, :-1]).mean((1, 2))
    crowds = 0.5 * changes.reshape(shape).mean(axis=1)
    error = np.abs(np.log(medians / wish.depth_m)).mean(axis=1) + 1.5 * np.clip(wish.crowd - crowds, 0.0, None)
    error[(medians.min(axis=1) < wish.nearest_m) | (medians.max(axis=1) > wish.farthest_m)] = np.inf
    for number, (path, chosen) in enumerate(candidates):
        moved = np.linalg.norm(np.diff(path[chosen, :3, 3], axis=0), axis=1).max(initial=0.0)
        if parallax_px(moved, medians[number].min(), K, width) > wish.parallax_px:
            error[number] = np.inf
    best = int(np.argmin(error))
    if not np.isfinite(error[best]):
        return None
    path, chosen = candidates[best]
    return CameraPath(path[chosen], camera_velocity(path, FRAME_RATE_HZ)[chosen])
