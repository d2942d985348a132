"""Clips of consecutive keyframes for training, and long sequences for scene folders, from seeds alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.data.synthetic.camera import develop, sample_intrinsics
from dvmvs_core.data.synthetic.raycast import Renderer, WorldTensors, clearance, coarse_depth, solid_frames
from dvmvs_core.data.synthetic.textures import build_texture_bank
from dvmvs_core.data.synthetic.trajectories import (
    CLEARANCE_M,
    choose_keyframes,
    sample_style,
    walk,
)
from dvmvs_core.data.synthetic.worlds import sample_world
from dvmvs_core.errors import DataError

_RATE_HZ = 30.0
_CANDIDATES = 20
_PROBES = 6
_PROBE_SIZE = (6, 8)


class ClipBatch(NamedTuple):
    """A batch of B clips of T consecutive keyframes.

    Attributes:
        image: (B, T, 3, H, W) uint8 RGB.
        depth: (B, T, H, W) float32 z-depth in metres, 0 where there is none.
        world_T_cam: (B, T, 4, 4) float32.
        K: (B, 3, 3) float32 pixels; (0, 0) is the centre of the top-left pixel.
    """

    image: Tensor
    depth: Tensor
    world_T_cam: Tensor
    K: Tensor


class SyntheticClips:
    """Endless clips, each from a world of its own.

    `batch(size, index)` depends on nothing but the seed, the sizes and the index, so that any process can make any batch. It
    pickles as its arguments: textures and compiled stages are made where they are first used.
    """

    def __init__(
        self,
        height: int,
        width: int,
        length: int,
        seed: int = 0,
        textures: int = 384,
        samples: int = 1,
        shadows: bool = True,
        pose_noise: float = 0.0,
        compile: bool = True,
        device: str = "cpu",
    ) -> None:
        """Describe the clips; nothing is made yet.

        Args:
            height: Image height.
            width: Image width.
            length: Keyframes of a clip.
            seed: Seeds worlds, paths, cameras and textures.
            textures: Size of the texture bank (about 12 ms each, once).
            samples: Colour rays per pixel side.
            shadows: Whether the main light casts shadows (a third of the time).
            pose_noise: Scale of an odometry's drift added to the poses: 1 stands for 4 mm and 0.1 degrees a keyframe.
            compile: Whether to render under torch.compile (needs a C++ compiler).
            device: Where to render.
        """
        if min(height, width) < 8 or length < 1 or textures < 8:
            raise DataError(
                f"clips need height and width of at least 8, length of at least 1 and at least 8 textures; "
                f"got {height}x{width}, length {length}, {textures} textures"
            )
        self.height, self.width, self.length, self.seed = height, width, length, seed
        self.textures, self.samples, self.shadows = textures, samples, shadows
        self.pose_noise, self.compile, self.device = pose_noise, compile, device
        self._renderer: Renderer | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_renderer": None}

    def __iter__(self) -> Iterator[ClipBatch]:
        """Clips one at a time, for ever."""
        index = 0
        while True:
            yield self.batch(1, index)
            index += 1

    def batch(self, batch_size: int, index: int) -> ClipBatch:
        """Make one batch.

        Args:
            batch_size: B.
            index: Its number; the same number is the same batch.
        """
        clips = [self._clip(index * batch_size + item) for item in range(batch_size)]
        return ClipBatch(*(torch.stack(parts) for parts in zip(*clips, strict=True)))

    def _clip(self, number: int) -> ClipBatch:
        renderer = self._ready_renderer()
        rng = np.random.default_rng([self.seed, 11, number])
        bank = renderer.bank
        while True:
            world = sample_world(rng, bank.count, bank.plain_count)
            K = sample_intrinsics(rng, self.height, self.width)
            path = _clip_path(rng, world, K, self.height, self.width, self.length)
            if path is not None:
                break
        count = self.length
        frames = WorldTensors(*(part.to(self.device).expand(count, *part.shape) for part in world))
        poses = torch.from_numpy(path).float().to(self.device)
        intrinsics = torch.from_numpy(K).float().to(self.device)
        linear, depth = renderer(
            frames, poses, intrinsics.expand(count, 3, 3), self.height, self.width, self.samples, self.shadows
        )
        image = develop(linear, rng)
        if self.pose_noise > 0.0:
            drifted = _drift(rng, path, self.pose_noise)
            poses = torch.from_numpy(drifted).float().to(self.device)
        return ClipBatch(image, depth, poses, intrinsics)

    def _ready_renderer(self) -> Renderer:
        if self._renderer is None:
            bank = build_texture_bank(self.seed, self.textures).to(self.device)
            self._renderer = Renderer(bank, compile=self.compile)
        return self._renderer


def _clip_path(
    rng: np.random.Generator, world: WorldTensors, K: np.ndarray, height: int, width: int, length: int
) -> np.ndarray | None:
    """Keyframe poses (T, 4, 4) of a clear path with a view worth having, or None where a world offers none."""
    distance = _WorldProbe(world)
    style = sample_style(rng)
    starts = _free_starts(rng, world, distance, style.height_m, _CANDIDATES)
    if starts is None:
        return None
    # The published rule, with its published scalings of the distances.
    scale = rng.choice([0.666, 0.8, 1.0, 1.25, 1.5])
    duration = min(1.2 + length * 0.2 * scale / style.speed * 1.3, 12.0)
    paths, smallest = walk(rng, style, starts, duration, _RATE_HZ, distance)
    stride = int(rng.choice([1, 2, 3, 4]))
    wanted = float(np.exp(rng.normal(np.log(2.3), 0.4)))
    best, best_error = None, np.inf
    for path in paths[smallest >= CLEARANCE_M][:_PROBES]:
        path = path[::-1][::stride] if rng.random() < 0.5 else path[::stride]
        chosen = choose_keyframes(path, length, 0.125 * scale, 0.325 * scale, 0.0625 * scale)
        if chosen is None:
            continue
        poses = path[chosen]
        depths = distance.depths(poses[[0, len(poses) // 2, -1]], K, height, width)
        if np.median(depths, axis=1).min() < 0.55:
            continue
        error = abs(np.log(np.median(depths) / wanted))
        if error < best_error:
            best, best_error = poses, error
    return best


def _free_starts(
    rng: np.random.Generator, world: WorldTensors, distance: _WorldProbe, height_m: float, count: int
) -> np.ndarray | None:
    """Points (count, 3) with air around them, or None."""
    low, high = world.room_low[0].numpy(), world.room_high[0].numpy()
    points = rng.uniform(low + 0.4, np.maximum(high - 0.4, low + 0.41), (160, 3))
    points[:, 2] = np.clip(height_m + rng.normal(0.0, 0.1, 160), 0.4, high[2] - 0.4)
    free = points[distance(points) > CLEARANCE_M + 0.12]
    if len(free) < 3:
        return None
    return free[np.arange(count) % len(free)]


class _WorldProbe:
    """Clearance and coarse depth of one world, for choosing paths."""

    def __init__(self, world: WorldTensors) -> None:
        self._world = WorldTensors(*(part[None] for part in world))
        self._frames = solid_frames(self._world, scaled=False)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        found = clearance(
            self._frames,
            self._world.half,
            self._world.room_low,
            self._world.room_high,
            torch.from_numpy(points.T.astype(np.float32))[None],
        )
        return found[0].numpy().astype(np.float64)

    def depths(self, poses: np.ndarray, K: np.ndarray, height: int, width: int) -> np.ndarray:
        """Depths (F, N) on a coarse grid over the image."""
        rows, columns = _PROBE_SIZE
        scale = np.diag([columns / width, rows / height, 1.0])
        coarse = torch.from_numpy(scale @ K).float().expand(len(poses), 3, 3)
        frames = WorldTensors(*(part.expand(len(poses), *part.shape[1:]) for part in self._world))
        found = coarse_depth(frames, torch.from_numpy(poses).float(), coarse, rows, columns)
        return found.flatten(1).numpy()


def _drift(rng: np.random.Generator, poses: np.ndarray, scale: float) -> np.ndarray:
    """Add an odometry's random walk to poses (T, 4, 4)."""
    noisy = poses.copy()
    offset, angles = np.zeros(3), np.zeros(3)
    for index in range(1, len(poses)):
        offset += rng.normal(0.0, 0.004 / np.sqrt(3.0), 3) * scale
        angles += rng.normal(0.0, np.deg2rad(0.1) / np.sqrt(3.0), 3) * scale
        turn = _small_rotation(angles)
        noisy[index, :3, :3] = turn @ poses[index, :3, :3]
        noisy[index, :3, 3] = poses[index, :3, 3] + offset
    return noisy


def _small_rotation(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix of a rotation vector (radians), by Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * skew + (1.0 - np.cos(angle)) * skew @ skew


def render_sequence(
    seed: int, frames: int, height: int, width: int, samples: int = 1, compile: bool = True, textures: int = 96
) -> tuple[Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]], np.ndarray]:
    """Render a smooth 30 Hz hand-held walk through one world.

    Args:
        seed: Seeds everything.
        frames: Length.
        height: Image height.
        width: Image width.
        samples: Colour rays per pixel side.
        compile: Whether to render under torch.compile.
        textures: Size of the texture bank.

    Returns:
        (iterator of (image (H, W, 3) uint8 RGB, depth (H, W) float32 metres, world_T_cam (4, 4) float64), K (3, 3) float64).
    """
    rng = np.random.default_rng([seed, 12])
    bank = build_texture_bank(seed, textures)
    while True:
        world = sample_world(rng, bank.count, bank.plain_count)
        K = sample_intrinsics(rng, height, width)
        path = _sequence_path(rng, world, K, frames, height, width)
        if path is not None:
            break
    return _render_frames(Renderer(bank, compile), world, K, path, rng, height, width, samples), K


def _sequence_path(
    rng: np.random.Generator, world: WorldTensors, K: np.ndarray, frames: int, height: int, width: int
) -> np.ndarray | None:
    distance = _WorldProbe(world)
    style = sample_style(rng, brisk=True)
    starts = _free_starts(rng, world, distance, style.height_m, _CANDIDATES)
    if starts is None:
        return None
    paths, smallest = walk(rng, style, starts, frames / _RATE_HZ, _RATE_HZ, distance)
    best, best_score = None, -np.inf
    for path in paths[smallest >= CLEARANCE_M]:
        depths = distance.depths(path[:: max(1, frames // 8)], K, height, width)
        medians = np.median(depths, axis=1)
        if medians.min() < 0.8:
            continue
        score = -float(np.abs(np.log(medians / 2.4)).mean())
        if score > best_score:
            best, best_score = path, score
    return best


def _render_frames(
    renderer: Renderer,
    world: WorldTensors,
    K: np.ndarray,
    path: np.ndarray,
    rng: np.random.Generator,
    height: int,
    width: int,
    samples: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    chunk = 2
    intrinsics = torch.from_numpy(K).float().expand(chunk, 3, 3)
    tensors = WorldTensors(*(part.expand(chunk, *part.shape) for part in world))
    camera_seed = int(rng.integers(2**62))
    for first in range(0, len(path), chunk):
        poses = path[first : first + chunk]
        padded = np.concatenate([poses, np.repeat(poses[-1:], chunk - len(poses), axis=0)])
        linear, depth = renderer(tensors, torch.from_numpy(padded).float(), intrinsics, height, width, samples)
        images = develop(linear, np.random.default_rng(camera_seed), strength=0.5)
        for offset in range(len(poses)):
            image = images[offset].permute(1, 2, 0).contiguous().numpy()
            yield image, depth[offset].numpy(), poses[offset]
