# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What small cameras do to their images: exposure that wanders, vignetting, noise, sharpening, JPEG.

Everything is one pass over all frames of a batch; the clips differ in numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from kornia.enhance import jpeg_codec_differentiable
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from dvmvs_core.runtime.devices import to_device

if TYPE_CHECKING:
    from dvmvs_core.synthetic.clips import ClipBatch

_WITHOUT = 0.25
"""Share of clips that keep their images as they are."""
_JPEG = 0.5
"""Share of clips with defects that were compressed."""
_CHROMA_GRAIN = 4
"""Pixels across which the colour of noise hardly changes, since cameras smooth it."""
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Defects:
    """The defects of one clip's camera.

    Args:
        gain: of all frames; highlights that pass 1 are clipped.
        wander: deviation of the gain's logarithm from one frame to the next.
        vignetting: light lost half-way to the corners.
        noise: deviation at middle grey, of a full scale of 1; the brighter a pixel, the more.
        chroma_noise: deviation of the noise of colours.
        fine_halo: how much sharpening exaggerates a pixel's difference from its neighbours.
        wide_halo: the same for neighbours up to 3 pixels away.
        jpeg_quality: 1 to 100, or 0 for none.
        seed: of noise and gains.
    """

    gain: float = 1.0
    wander: float = 0.0
    vignetting: float = 0.0
    noise: float = 0.0
    chroma_noise: float = 0.0
    fine_halo: float = 0.0
    wide_halo: float = 0.0
    jpeg_quality: float = 0.0
    seed: int = 0


def draw_defects(rng: np.random.Generator) -> Defects:
    """Draw the camera of one clip; one in four has no defects."""
    seed = int(rng.integers(2**31))
    if rng.random() < _WITHOUT:
        return Defects(seed=seed)
    return Defects(
        gain=float(np.exp(rng.uniform(-0.1, 0.25))),
        wander=rng.choice([0.0, rng.uniform(0.0, 0.06)]),
        vignetting=rng.choice([0.0, rng.uniform(0.0, 0.25)]),
        noise=float(np.exp(rng.uniform(np.log(0.001), np.log(0.014)))),
        chroma_noise=rng.choice([0.0, rng.uniform(0.0, 0.02)]),
        fine_halo=rng.uniform(-0.5, 0.5),
        wide_halo=rng.choice([0.0, rng.uniform(0.0, 0.3)]),
        jpeg_quality=rng.uniform(25.0, 95.0) if rng.random() < _JPEG else 0.0,
        seed=seed,
    )


def with_defects(clip: ClipBatch, random: np.random.Generator) -> ClipBatch:
    """Return a clip (B = 1) as a real camera would have recorded it: images of a renderer match too well."""
    image = apply_defects(clip.image.float() / 255, [draw_defects(random)])
    return clip._replace(image=(image * 255).round().clamp(0, 255).byte())


def apply_defects(image: Tensor, drawn: Sequence[Defects]) -> Tensor:
    """Give clips the defects that were drawn for them.

    Args:
        image: (B, T, 3, H, W), 0…1.
        drawn: one of each clip.

    Returns:
        Like `image`.
    """
    flawed = [number for number, each in enumerate(drawn) if each != Defects(seed=each.seed)]
    if not flawed:
        return image
    clips, frames, _, height, width = image.shape
    device = image.device
    steps = np.stack([np.random.default_rng(each.seed).normal(0.0, each.wander, frames) for each in drawn])
    numbers = np.concatenate([np.array([astuple(each)[:-2] for each in drawn]), np.cumsum(steps, 1)], 1)
    table = to_device(torch.from_numpy(numbers.astype(np.float32)), device)
    gain, _, vignetting, noise, chroma, fine, wide = (column.view(-1, 1, 1, 1, 1) for column in table[:, :7].unbind(1))
    # One a clip, so that what a clip gets depends on no other clip of its batch.
    generators = [torch.Generator(device).manual_seed(each.seed) for each in drawn]

    def randn(*shape: int) -> Tensor:
        return torch.stack([torch.randn(shape, generator=each, device=device) for each in generators])

    y = torch.linspace(-1.0, 1.0, height, device=device)[:, None]
    x = torch.linspace(-1.0, 1.0, width, device=device)
    changed = image * (gain * table[:, 7:].exp().view(clips, frames, 1, 1, 1)) * (1.0 - vignetting * (x * x + y * y))
    changed = changed.clamp(0.0, 1.0)
    grain = noise * (0.4 + 1.2 * changed.sqrt()) * randn(frames, 1, height, width)
    small = randn(frames, 3, -(-height // _CHROMA_GRAIN), -(-width // _CHROMA_GRAIN)).flatten(0, 1)
    luma = to_device(torch.tensor(_LUMA), device).view(3, 1, 1)
    small = small - (luma * small).sum(1, keepdim=True)
    tint = interpolate(small, (height, width), mode="bilinear", align_corners=False).view(image.shape)
    changed = changed + grain + chroma * tint
    flat = changed.flatten(0, 1)
    near = avg_pool2d(flat, 3, 1, 1, count_include_pad=False).view(image.shape)
    far = avg_pool2d(flat, 7, 1, 3, count_include_pad=False).view(image.shape)
    changed = (changed + fine * (changed - near) + wide * (changed - far)).clamp(0.0, 1.0)
    # A clip without defects keeps its values to the last bit.
    chosen = to_device(torch.tensor(flawed), device)
    result = image.index_copy(0, chosen, changed.index_select(0, chosen).to(image.dtype))
    return _compressed(result, [each.jpeg_quality for each in drawn])


def _compressed(image: Tensor, quality: Sequence[float]) -> Tensor:
    """JPEG and back, for the clips whose quality is not 0."""
    chosen = [number for number, value in enumerate(quality) if value > 0]
    if not chosen:
        return image
    where = to_device(torch.tensor(chosen), image.device)
    values = to_device(torch.tensor([quality[number] for number in chosen]), image.device)
    frames = image.index_select(0, where)
    coded = jpeg_codec_differentiable(frames.flatten(0, 1), values.repeat_interleave(image.shape[1]))
    return image.index_copy(0, where, coded.view(frames.shape).to(image.dtype))
