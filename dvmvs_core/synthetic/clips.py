# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Clips of consecutive keyframes for training, and long sequences for scene folders, from seeds alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.errors import DataError
from dvmvs_core.runtime.devices import to_device
from dvmvs_core.synthetic.camera import develop, metered, sample_development, sample_intrinsics
from dvmvs_core.synthetic.motion_blur import blur_along, blur_motion, image_motion, reach_px
from dvmvs_core.synthetic.paths import FRAME_RATE_HZ, CameraPath, clip_path, sequence_path
from dvmvs_core.synthetic.renderer import Renderer
from dvmvs_core.synthetic.textures import TextureBank, build_texture_bank, plain_textures, shared_texture_bank
from dvmvs_core.synthetic.trajectories import MISALIGNMENTS_DEG, drift, misaligned
from dvmvs_core.synthetic.world_tensors import WorldTensors
from dvmvs_core.synthetic.worlds import sample_world
from dvmvs_core.types import Frame

_SEQUENCE_ATTEMPTS = 60


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


def clip_frame(clip: ClipBatch, index: int) -> Frame:
    """Return one of the frames of a clip (B = 1), a second apart."""
    world_T_cam = clip.world_T_cam[0, index].double().numpy()
    left, _, right = np.linalg.svd(world_T_cam[:3, :3])  # float32 is not quite a rotation
    world_T_cam = world_T_cam.copy()
    world_T_cam[:3, :3] = left @ right
    image = clip.image[0, index].permute(1, 2, 0).contiguous().numpy()
    return Frame(image, clip.K[0].double().numpy(), world_T_cam, stamp_ns=(index + 1) * 10**9, index=index)


def with_misaligned_poses(clip: ClipBatch, rng: np.random.Generator) -> ClipBatch:
    """Turn the poses of a clip (B = 1) by one of MISALIGNMENTS_DEG; its images stay."""
    angle_deg = float(rng.choice(MISALIGNMENTS_DEG))
    world_T_cam = misaligned(rng, clip.world_T_cam[0].numpy(), angle_deg)
    return clip._replace(world_T_cam=torch.from_numpy(world_T_cam).to(clip.world_T_cam)[None])


class Shot(NamedTuple):
    """What is to be filmed, and the randomness that is left for the film: all that one clip is made from."""

    world: WorldTensors
    K: np.ndarray
    path: CameraPath
    rng: np.random.Generator


class SyntheticClips:
    """Endless clips, each from a world of its own.

    `batch(size, index)` depends on nothing but the seed, the sizes and the index, so that any process can make any
    batch. It pickles as its arguments: textures are made where they are first used, which is where clips are rendered.
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
        pose_noise: float = 1.0,
        motion_blur: float = 1.0,
        device: str = "cpu",
        clips_together: int | None = None,
        texture_seed: int | None = None,
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
            pose_noise: Largest scale of the odometry drift that is added to a clip's poses: 1 stands for 4 mm and 0.1
                degrees a keyframe. Each clip draws its own, four in ten of them none.
            motion_blur: Factor on the exposure times, 0 for none.
            device: Where to render.
            clips_together: How many clips of a batch to render at once, which changes nothing but speed; by default one
                on a CPU and all on a GPU.
            texture_seed: Seeds the textures in place of the seed, so that clips of several seeds share a bank.
        """
        if min(height, width) < 8 or length < 1 or textures < 8 or samples < 1:
            raise DataError(
                "clips need at least 8x8 pixels, one keyframe, 8 textures and a sample a pixel; "
                f"got {height}x{width}, length {length}, {textures} textures, {samples} samples"
            )
        if not all(value >= 0 for value in (seed, pose_noise, motion_blur)):
            raise DataError(
                "a clip's seed, pose noise and motion blur must not be negative; "
                f"got seed {seed}, pose noise {pose_noise}, motion blur {motion_blur}"
            )
        self.height, self.width, self.length, self.seed = height, width, length, seed
        self.textures, self.samples, self.shadows = textures, samples, shadows
        self.pose_noise, self.motion_blur, self.device = pose_noise, motion_blur, device
        self.clips_together = clips_together
        self.texture_seed = seed if texture_seed is None else texture_seed
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
        return self.render(self.draw(batch_size, index))

    def draw(self, batch_size: int, index: int) -> list[Shot]:
        """Draw what the clips of a batch will show: work for a CPU, wherever they are rendered."""
        return [self._draw(index * batch_size + item) for item in range(batch_size)]

    def render(self, shots: list[Shot]) -> ClipBatch:
        """Film what was drawn, on the device of the clips; a shot can be filmed once."""
        batch_size = len(shots)
        # One clip fills a core's cache; a GPU wants much work at a time.
        together = self.clips_together or (1 if torch.device(self.device).type == "cpu" else batch_size)
        clips = [
            clip for first in range(0, batch_size, together) for clip in self._render(shots[first : first + together])
        ]
        return ClipBatch(*(torch.stack(parts) for parts in zip(*clips, strict=True)))

    def make_bank(self) -> TextureBank:
        """Make the textures; a subclass may make others."""
        return shared_texture_bank(self.texture_seed, self.textures)

    def draw_world(self, rng: np.random.Generator) -> WorldTensors:
        """Draw the world of a clip, which takes no textures yet but their numbers; a subclass may draw others."""
        return sample_world(rng, self.textures, plain_textures(self.textures))

    def draw_path(self, rng: np.random.Generator, world: WorldTensors, K: np.ndarray) -> CameraPath | None:
        """Draw the cameras of a clip, or None where this world offers none; a subclass may draw others."""
        return clip_path(rng, world, K, self.height, self.width, self.length)

    def _draw(self, number: int) -> Shot:
        rng = np.random.default_rng([self.seed, 11, number])
        while True:
            world = self.draw_world(rng)
            K = sample_intrinsics(rng, self.height, self.width)
            path = self.draw_path(rng, world, K)
            if path is not None:
                return Shot(world, K, path, rng)

    def _render(self, shots: list[Shot]) -> Iterator[ClipBatch]:
        """Render clips together and develop each by itself."""
        count = self.length

        device = torch.device(self.device)

        def here(values: np.ndarray) -> Tensor:
            return to_device(torch.from_numpy(values).float(), device)

        # Together, so that a GPU is sent a few large tensors.
        worlds = [
            to_device(torch.stack(parts), device).repeat_interleave(count, 0)
            for parts in zip(*(shot.world for shot in shots), strict=True)
        ]
        poses = [here(shot.path.world_T_cam) for shot in shots]
        intrinsics = [here(shot.K) for shot in shots]
        linear, depth = self._ready_renderer()(
            WorldTensors(*worlds),
            torch.cat(poses),
            torch.stack(intrinsics).repeat_interleave(count, 0),
            self.height,
            self.width,
            self.samples,
            self.shadows,
        )
        cameras = [sample_development(shot.rng) for shot in shots]
        depths = depth.split(count)
        ways = [
            image_motion(z, K, here(shot.path.velocity)) * (self.motion_blur * camera.exposure_s)
            for shot, camera, z, K in zip(shots, cameras, depths, intrinsics, strict=True)
        ]
        reaches = _numbers(torch.stack([reach_px(way) for way in ways]))
        parts = zip(shots, cameras, intrinsics, linear.split(count), depths, ways, reaches, strict=True)
        for shot, camera, K, light, z, way, reach in parts:
            image = develop(blur_along(light, way, reach), camera, shot.rng)
            noise = self.pose_noise * max(0.0, shot.rng.uniform(-2.0 / 3.0, 1.0))
            yield ClipBatch(image, z, here(drift(shot.rng, shot.path.world_T_cam, noise)), K)

    def _ready_renderer(self) -> Renderer:
        if self._renderer is None:
            self._renderer = Renderer(self.make_bank().to(self.device))
        return self._renderer


def _numbers(values: Tensor) -> list[float]:
    """Values (N,) on the host, which waits for them once."""
    return values.tolist()


def render_sequence(
    seed: int, frames: int, height: int, width: int, samples: int = 1, textures: int = 64, every: int = 1
) -> tuple[Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]], np.ndarray]:
    """Render a smooth 30 Hz hand-held walk through one world.

    Args:
        seed: Seeds everything.
        frames: Length.
        height: Image height.
        width: Image width.
        samples: Colour rays per pixel side.
        textures: Size of the texture bank.
        every: Film one of so many steps of the walk: 2 gives 15 Hz.

    Returns:
        An iterator of (image (H, W, 3) uint8 RGB, depth (H, W) float32 metres, world_T_cam (4, 4) float64), and
        K (3, 3) float64.

    Raises:
        DataError: Where no frame is asked for, frames too small, or more than any path found has.
    """
    if frames < 1 or min(height, width) < 8 or samples < 1 or seed < 0 or every < 1:
        raise DataError(
            "a sequence needs at least one frame of 8x8 pixels, a sample a pixel, a positive step and a seed that is"
            f" not negative; got {frames} frames of {height}x{width}, {samples} samples, every {every}, seed {seed}"
        )
    rng = np.random.default_rng([seed, 12])
    bank = build_texture_bank(seed, textures)
    for _ in range(_SEQUENCE_ATTEMPTS):
        world = sample_world(rng, bank.count, bank.plain_count)
        K = sample_intrinsics(rng, height, width)
        path = sequence_path(rng, world, K, height, width, frames * every)
        if path is not None:
            path = CameraPath(path.world_T_cam[::every], path.velocity[::every])
            return _render_path(Renderer(bank), world, path, K, rng, height, width, samples), K
    raise DataError(
        f"no walk of {frames} frames ({frames / FRAME_RATE_HZ:.0f} s) stays clear of the furniture in any of"
        f" {_SEQUENCE_ATTEMPTS} worlds; ask for fewer frames or another seed"
    )


def _render_path(
    renderer: Renderer,
    world: WorldTensors,
    path: CameraPath,
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
    for world_T_cam, velocity in zip(*path, strict=True):
        pose = torch.from_numpy(world_T_cam).float()[None]
        linear, depth = renderer(tensors, pose, intrinsics, height, width, samples)
        motion = torch.from_numpy(velocity).float()[None]
        linear = blur_motion(linear, depth, intrinsics[0], motion, camera.exposure_s)
        first = metered(linear).mean() if first is None else first
        image = develop(linear, camera, rng, reference=first)[0]
        yield image.permute(1, 2, 0).contiguous().numpy(), depth[0].numpy(), world_T_cam
