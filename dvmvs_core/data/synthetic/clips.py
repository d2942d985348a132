"""Clips of consecutive keyframes for training, and long sequences for scene folders, from seeds alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.data.synthetic.camera import develop, sample_development, sample_intrinsics
from dvmvs_core.data.synthetic.paths import clip_path, sequence_path
from dvmvs_core.data.synthetic.renderer import Renderer
from dvmvs_core.data.synthetic.textures import build_texture_bank
from dvmvs_core.data.synthetic.trajectories import drift
from dvmvs_core.data.synthetic.world_tensors import WorldTensors
from dvmvs_core.data.synthetic.worlds import sample_world
from dvmvs_core.errors import DataError


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

    `batch(size, index)` depends on nothing but the seed, the sizes and the index, so that any process can make any
    batch. It pickles as its arguments: textures and compiled stages are made where they are first used.
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
        if min(height, width) < 8 or length < 1 or textures < 8 or samples < 1 or seed < 0:
            raise DataError(
                "clips need at least 8x8 pixels, one keyframe, 8 textures, a sample a pixel, and a seed that is not "
                f"negative; got {height}x{width}, length {length}, {textures} textures, {samples} samples, seed {seed}"
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
            path = clip_path(rng, world, K, self.height, self.width, self.length)
            if path is not None:
                break
        count = self.length
        frames = WorldTensors(*(part.to(self.device).expand(count, *part.shape) for part in world))
        poses = torch.from_numpy(path).float().to(self.device)
        intrinsics = torch.from_numpy(K).float().to(self.device)
        linear, depth = renderer(
            frames, poses, intrinsics.expand(count, 3, 3), self.height, self.width, self.samples, self.shadows
        )
        image = develop(linear, sample_development(rng), rng)
        if self.pose_noise > 0.0:
            poses = torch.from_numpy(drift(rng, path, self.pose_noise)).float().to(self.device)
        return ClipBatch(image, depth, poses, intrinsics)

    def _ready_renderer(self) -> Renderer:
        if self._renderer is None:
            bank = build_texture_bank(self.seed, self.textures).to(self.device)
            self._renderer = Renderer(bank, compile=self.compile)
        return self._renderer


def render_sequence(
    seed: int, frames: int, height: int, width: int, samples: int = 1, compile: bool = False, textures: int = 64
) -> tuple[Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]], np.ndarray]:
    """Render a smooth 30 Hz hand-held walk through one world.

    Args:
        seed: Seeds everything.
        frames: Length.
        height: Image height.
        width: Image width.
        samples: Colour rays per pixel side.
        compile: Whether to render under torch.compile, which pays for more than a few hundred frames.
        textures: Size of the texture bank.

    Returns:
        An iterator of (image (H, W, 3) uint8 RGB, depth (H, W) float32 metres, world_T_cam (4, 4) float64), and
        K (3, 3) float64.

    Raises:
        DataError: Where no frame is asked for, or frames too small.
    """
    if frames < 1 or min(height, width) < 8 or samples < 1 or seed < 0:
        raise DataError(
            "a sequence needs at least one frame of 8x8 pixels, a sample a pixel, and a seed that is not negative; "
            f"got {frames} frames of {height}x{width}, {samples} samples, seed {seed}"
        )
    rng = np.random.default_rng([seed, 12])
    bank = build_texture_bank(seed, textures)
    path = None
    while path is None:
        world = sample_world(rng, bank.count, bank.plain_count)
        K = sample_intrinsics(rng, height, width)
        path = sequence_path(rng, world, K, height, width, frames)
    return _render_path(Renderer(bank, compile), world, path, K, rng, height, width, samples), K


def _render_path(
    renderer: Renderer,
    world: WorldTensors,
    path: np.ndarray,
    K: np.ndarray,
    rng: np.random.Generator,
    height: int,
    width: int,
    samples: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    camera = sample_development(rng, strength=0.4)
    tensors = WorldTensors(*(part[None] for part in world))
    intrinsics = torch.from_numpy(K).float()[None]
    first = None
    for world_T_cam in path:
        pose = torch.from_numpy(world_T_cam).float()[None]
        linear, depth = renderer(tensors, pose, intrinsics, height, width, samples)
        first = linear.mean() if first is None else first
        image = develop(linear, camera, rng, reference=first)[0]
        yield image.permute(1, 2, 0).contiguous().numpy(), depth[0].numpy(), world_T_cam
