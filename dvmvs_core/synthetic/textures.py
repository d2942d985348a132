# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A bank of procedural, mip-mapped textures, made once from a seed and kept in memory.

Each texture is a periodic square of colours in 0..1. Every mip level is a 2x2 box average of the one above, so that a
ray caster which picks the level by a pixel's footprint reads band-limited colours. All levels of all textures lie in
one flat int32 tensor of packed 8-bit RGB: one gather reads one texel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

PLAIN_SHARE = 0.2
"""Share of nearly uniform textures."""


@dataclass(frozen=True)
class TextureBank:
    """Packed textures.

    Attributes:
        texels: (N * texels_per_texture,) int32, 8-bit red, green and blue in bits 0, 8 and 16.
        size: Side of the finest level, a power of two.
        count: Number of textures.
        plain_count: The first this many are plain.
    """

    texels: torch.Tensor
    size: int
    count: int
    plain_count: int

    @property
    def levels(self) -> int:
        """Mip levels, the finest being `size` and the coarsest 1 texel wide."""
        return self.size.bit_length()

    @property
    def texels_per_texture(self) -> int:
        """Texels of all levels of one texture."""
        return (4 * self.size * self.size - 1) // 3

    def to(self, device: torch.device | str) -> TextureBank:
        """Return the bank with its texels on a device."""
        return TextureBank(self.texels.to(device), self.size, self.count, self.plain_count)


def build_texture_bank(seed: int, count: int = 192, size: int = 256, plain_share: float = PLAIN_SHARE) -> TextureBank:
    """Make a bank of textures.

    Args:
        seed: Seeds every texture.
        count: Number of textures, at least 2.
        size: Side in texels, a power of two.
        plain_share: Share of nearly uniform textures.

    Returns:
        The bank, on the CPU.
    """
    plain_count = plain_textures(count, plain_share)
    packed = []
    for index in range(count):
        rng = np.random.default_rng([seed, 7001, index])
        painter = _plain if index < plain_count else _PAINTERS[(index - plain_count) % len(_PAINTERS)]
        packed.append(_pack_levels(painter(rng, size)))
    texels = torch.from_numpy(np.concatenate(packed))
    return TextureBank(texels, size, count, plain_count)


@functools.lru_cache(maxsize=2)
def shared_texture_bank(seed: int, count: int) -> TextureBank:
    """Return a bank that all clips of a process share: those trained on, and those held out."""
    return build_texture_bank(seed, count)


def plain_textures(count: int, plain_share: float = PLAIN_SHARE) -> int:
    """Return how many of a bank's textures are nearly uniform."""
    return max(1, round(count * plain_share))


def of_kinds(kinds: Sequence[int], plain_count: int, count: int) -> np.ndarray:
    """Numbers of a bank's textures whose kind is among some, as `PRINTS` and `WOVEN` name them."""
    numbers = np.arange(plain_count, count)
    return numbers[np.isin((numbers - plain_count) % len(_PAINTERS), kinds)]


def _pack_levels(image: np.ndarray) -> np.ndarray:
    """Pack a (S, S, 3) texture in 0..1 and its mip levels, finest first."""
    parts = []
    level = np.clip(image, 0.0, 1.0).astype(np.float32)
    while True:
        quantised = (level * 255.0 + 0.5).astype(np.int32)
        parts.append((quantised[..., 0] | quantised[..., 1] << 8 | quantised[..., 2] << 16).ravel())
        if level.shape[0] == 1:
            return np.concatenate(parts)
        level = 0.25 * (level[::2, ::2] + level[1::2, ::2] + level[::2, 1::2] + level[1::2, 1::2])


def _noise(rng: np.random.Generator, size: int, falloff: float, stretch: float = 1.0, low: float = 1.0) -> np.ndarray:
    """Periodic (S, S) noise with amplitude falling as 1 / frequency^falloff, zero mean and unit deviation."""
    horizontal = np.fft.rfftfreq(size) * size
    vertical = np.fft.fftfreq(size) * size
    frequency = np.sqrt((horizontal[None, :] * stretch) ** 2 + (vertical[:, None] / stretch) ** 2)
    spectrum = rng.standard_normal((size, size // 2 + 1, 2)).astype(np.float32)
    amplitude = np.where(frequency >= low, np.maximum(frequency, 1.0) ** -falloff, 0.0)
    field = np.fft.irfft2((spectrum[..., 0] + 1j * spectrum[..., 1]) * amplitude, s=(size, size))
    return ((field - field.mean()) / (field.std() + 1e-9)).astype(np.float32)


def _colour(rng: np.random.Generator, saturation: float | None = None) -> np.ndarray:
    """A random surface colour: mostly greys, browns and beiges, at times a strong one."""
    if saturation is None:
        saturation = rng.choice([0.05, 0.25, 0.7], p=[0.35, 0.4, 0.25])
    hue = rng.choice([rng.uniform(0.02, 0.14), rng.uniform(0.0, 1.0)], p=[0.55, 0.45])
    value = rng.uniform(0.04, 0.97)
    phase = (hue + np.array([0.0, 2.0 / 3.0, 1.0 / 3.0])) * 2.0 * np.pi
    tint = 0.5 + 0.5 * np.cos(phase)
    return (value * (1.0 - saturation * (1.0 - tint))).astype(np.float32)


def _ramp(rng: np.random.Generator, field: np.ndarray) -> np.ndarray:
    """Colour a scalar field between two random colours."""
    first, second = _colour(rng), _colour(rng)
    weight = np.clip(0.5 + 0.28 * field, 0.0, 1.0)[..., None]
    return first * (1.0 - weight) + second * weight


def _plain(rng: np.random.Generator, size: int) -> np.ndarray:
    base = _colour(rng, saturation=rng.uniform(0.0, 0.2)) * 0.5 + 0.45
    field = _noise(rng, size, rng.uniform(0.0, 1.2))
    return base + rng.uniform(0.006, 0.035) * field[..., None]


def _clouds(rng: np.random.Generator, size: int) -> np.ndarray:
    return _ramp(rng, rng.uniform(0.4, 1.3) * _noise(rng, size, rng.uniform(0.6, 1.8)))


def _speckle(rng: np.random.Generator, size: int) -> np.ndarray:
    field = _noise(rng, size, rng.uniform(0.0, 0.5), low=float(rng.integers(4, 24)))
    return _ramp(rng, np.tanh(rng.uniform(0.5, 3.0) * (field - rng.uniform(-0.8, 0.8))))


def _marble(rng: np.random.Generator, size: int) -> np.ndarray:
    ramp = np.arange(size) / size
    angle = 2 * np.pi * (rng.integers(1, 5) * ramp[None, :] + rng.integers(-3, 4) * ramp[:, None])
    return _ramp(rng, 1.6 * np.sin(angle + rng.uniform(0.8, 3.0) * _noise(rng, size, 1.6)))


def _wood(rng: np.random.Generator, size: int) -> np.ndarray:
    grain = _noise(rng, size, 1.1, stretch=rng.uniform(2.5, 5.0))
    rings = np.sin(2 * np.pi * rng.integers(2, 6) * np.arange(size)[:, None] / size + 1.5 * grain)
    base = np.array([0.55, 0.38, 0.22], np.float32) * rng.uniform(0.45, 1.55) + rng.uniform(-0.05, 0.05, 3)
    image = base * (1.0 + 0.1 * rings[..., None] + rng.uniform(0.05, 0.15) * grain[..., None])
    planks = int(rng.integers(0, 7))
    for plank in range(planks):
        top, bottom = plank * size // planks, (plank + 1) * size // planks
        image[top:bottom] = np.roll(image[top:bottom], int(rng.integers(size)), axis=1) * rng.uniform(0.8, 1.15)
        image[top : top + 2] *= 0.45
    return image


def _stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    position = np.arange(size) / size
    phase = rng.integers(2, 14) * position[None, :] + rng.choice([0, 0, rng.integers(1, 8)]) * position[:, None]
    wave = np.sin(2 * np.pi * phase)
    sharp = np.tanh(rng.uniform(1.0, 8.0) * (wave - rng.uniform(-0.7, 0.7)))
    return _ramp(rng, 1.6 * sharp + 0.25 * _noise(rng, size, 1.0))


def _tiles(rng: np.random.Generator, size: int) -> np.ndarray:
    rows, columns = rng.integers(2, 9, 2)
    y, x = np.mgrid[0:size, 0:size] / size
    shift = rng.choice([0.0, 0.5]) * (np.floor(y * rows) % 2) if rows % 2 == 0 else 0.0
    across, down = x * columns + shift, y * rows
    tile = (np.floor(across) % columns + columns * np.floor(down)).astype(int)
    tint = rng.uniform(0.0, 0.9) * rng.standard_normal(rows * columns)
    image = _ramp(rng, tint[tile] + 0.4 * _noise(rng, size, 1.2))
    joint = rng.uniform(0.02, 0.07)
    near_joint = np.minimum(np.abs(across % 1 - 0.5), np.abs(down % 1 - 0.5))
    edge = np.maximum(np.abs(across % 1 - 0.5), np.abs(down % 1 - 0.5)) > 0.5 - joint
    image[edge & (near_joint <= 0.5)] = _colour(rng)
    return image


def _checks(rng: np.random.Generator, size: int) -> np.ndarray:
    x = np.sin(2 * np.pi * rng.integers(1, 7) * np.arange(size) / size + 0.3)
    y = np.sin(2 * np.pi * rng.integers(1, 7) * np.arange(size) / size + 0.3)
    field = np.tanh(6.0 * x)[None, :] * np.tanh(6.0 * y)[:, None]
    return _ramp(rng, 1.5 * field + 0.3 * _noise(rng, size, 1.0))


def _wrapped(size: int, points: np.ndarray, draw: Callable[[np.ndarray], None]) -> None:
    """Draw points (N, 2) at every wrap-around offset at which they touch the square."""
    for dx in (-size, 0, size):
        for dy in (-size, 0, size):
            moved = points + np.array([dx, dy])
            if (moved.max(axis=0) >= 0).all() and (moved.min(axis=0) < size).all():
                draw(np.round(moved).astype(np.int32))


def _polygons(rng: np.random.Generator, size: int) -> np.ndarray:
    image = _clouds(rng, size) * 0.4 + _colour(rng) * 0.6
    image = np.ascontiguousarray(image, dtype=np.float32)
    for _ in range(int(rng.integers(8, 45))):
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
        radius = size * rng.uniform(0.03, 0.22) * rng.uniform(0.5, 1.0, len(angles))
        points = rng.uniform(0, size, 2) + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        colour = tuple(float(c) for c in _colour(rng))
        _wrapped(size, points, lambda moved, c=colour: cv2.fillPoly(image, [moved], c, lineType=cv2.LINE_8))
    return cv2.GaussianBlur(image, (3, 3), 0.6) + 0.03 * _noise(rng, size, 0.6)[..., None]


def _glyphs(rng: np.random.Generator, size: int) -> np.ndarray:
    """Lines of print: what posters, books, labels and screens look like from a distance."""
    paper, ink = _colour(rng, 0.1) * 0.3 + 0.65, _colour(rng) * 0.4
    image = np.ascontiguousarray(np.broadcast_to(paper, (size, size, 3)), dtype=np.float32)
    y = int(rng.integers(4, 20))
    while y < size - 6:
        scale = float(rng.choice([0.3, 0.4, 0.5, 0.9, 1.6], p=[0.25, 0.25, 0.25, 0.15, 0.1]))
        height = int(22 * scale) + 3
        if rng.random() < 0.15 and y + 60 < size:
            left, right = np.sort(rng.integers(0, size, 2))
            patch = _ramp(rng, _noise(rng, size, 1.4))[y : y + 56, left:right]
            image[y : y + 56, left:right] = patch
            y += 60
            continue
        text = "".join(chr(c) for c in rng.integers(40, 122, int(size / (18 * scale)) + 1))
        text = text[: max(2, int(len(text) * rng.uniform(0.3, 1.0)))]
        colour = tuple(float(c) for c in ink)
        thickness = 1 if scale < 0.8 else 2
        _print(image, text, (6, y + height - 4), int(rng.integers(0, 8)), scale, colour, thickness)
        y += height + int(rng.integers(1, 8))
    return image


def _books(rng: np.random.Generator, size: int) -> np.ndarray:
    """Rows of upright coloured bars: shelves seen from the front."""
    image = np.full((size, size, 3), 0.08, np.float32)
    rows = int(rng.integers(1, 4))
    for row in range(rows):
        top, bottom = row * size // rows, (row + 1) * size // rows
        x = 0
        while x < size:
            width = int(rng.integers(5, 26))
            head = top + int((bottom - top) * rng.uniform(0.05, 0.35))
            image[head : bottom - 5, x : x + width - 1] = _colour(rng)
            if rng.random() < 0.6:
                band = int(rng.integers(head, bottom - 8))
                image[band : band + int(rng.integers(3, 14)), x : x + width - 1] = _colour(rng)
            x += width
        image[bottom - 5 : bottom] = _colour(rng, 0.2)
    return image


def _strokes(rng: np.random.Generator, size: int) -> np.ndarray:
    image = np.ascontiguousarray(np.broadcast_to(_colour(rng), (size, size, 3)), dtype=np.float32)
    for _ in range(int(rng.integers(10, 60))):
        points = rng.uniform(0, size, 2) + np.cumsum(rng.normal(0, size * 0.07, (4, 2)), axis=0)
        colour = tuple(float(c) for c in _colour(rng))
        width = int(rng.integers(1, 7))
        _wrapped(
            size,
            points,
            lambda moved, c=colour, w=width: cv2.polylines(image, [moved], False, c, w, cv2.LINE_8),
        )
    return cv2.GaussianBlur(image, (3, 3), 0.5)


def _blend(rng: np.random.Generator, size: int) -> np.ndarray:
    first, second = rng.choice(len(_BASIC), 2, replace=False)
    mask = 1.0 / (1.0 + np.exp(-4.0 * _noise(rng, size, 1.7)))[..., None]
    return mask * _BASIC[first](rng, size) + (1.0 - mask) * _BASIC[second](rng, size)


def _collage(rng: np.random.Generator, size: int) -> np.ndarray:
    """What photographs and packages look like from a distance: shaded patches, shapes, and print over them."""
    image = np.ascontiguousarray(_ramp(rng, 1.2 * _noise(rng, size, 1.5)), dtype=np.float32)
    for _ in range(int(rng.integers(6, 22))):
        x, y = rng.integers(0, size, 2)
        half = np.maximum(4, size * rng.uniform(0.03, 0.22, 2)).astype(int)
        colour = tuple(float(c) for c in _colour(rng))
        if rng.random() < 0.5:
            cv2.rectangle(image, (int(x - half[0]), int(y - half[1])), (int(x + half[0]), int(y + half[1])), colour, -1)
        else:
            axes = (int(half[0]), int(half[1]))
            cv2.ellipse(image, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    image *= 1.0 + 0.25 * _noise(rng, size, 1.0)[..., None]
    for _ in range(int(rng.integers(2, 9))):
        text = "".join(chr(c) for c in rng.integers(40, 122, int(rng.integers(3, 14))))
        at = (int(rng.integers(0, size * 3 // 4)), int(rng.integers(12, size)))
        scale = float(rng.choice([0.4, 0.7, 1.4]))
        colour = tuple(float(c) for c in _colour(rng))
        _print(image, text, at, int(rng.integers(0, 8)), scale, colour, 1 if scale < 0.8 else 3)
    return image


def _print(
    image: np.ndarray, text: str, at: tuple[int, int], font: int, scale: float, colour: tuple[float, ...], width: int
) -> None:
    """Draw text of one colour in a float image; OpenCV 5 draws it in bytes only."""
    ink = np.zeros(image.shape[:2], np.uint8)
    cv2.putText(ink, text, at, font, scale, 255, width, cv2.LINE_8)
    image[ink > 0] = colour


def _weave(rng: np.random.Generator, size: int) -> np.ndarray:
    """Cloth, carpet and wicker: fine threads across each other, uneven."""
    threads = rng.choice([16, 24, 32, 48, 64], 2)
    ramp = 2 * np.pi * np.arange(size) / size
    field = np.sin(threads[0] * ramp)[None, :] * np.sin(threads[1] * ramp)[:, None]
    return _ramp(rng, rng.uniform(0.5, 1.4) * field + 0.5 * _noise(rng, size, 0.2) + 0.5 * _noise(rng, size, 1.3))


_BASIC = (_clouds, _speckle, _wood, _tiles, _polygons, _glyphs, _stripes, _marble, _checks, _books, _strokes)
_PAINTERS = (*_BASIC, _blend, _speckle, _wood, _collage, _weave, _glyphs, _collage)
PRINTS = tuple(kind for kind, painter in enumerate(_PAINTERS) if painter in (_polygons, _glyphs, _collage, _strokes))
"""Kinds of textures that posters and packages have."""
WOVEN = tuple(kind for kind, painter in enumerate(_PAINTERS) if painter in (_weave, _speckle, _stripes, _checks))
"""Kinds of textures that cloth has."""
