# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Regularises matched depth: where to trust it, what stands in its place elsewhere, and where the edges are.

The depth of a cell is a weighted mean of candidates, each of which was measured or follows from what was measured
around it, plus a correction. The network learns weights and correction from the scores of matching, geometry and what
the image shows. Without training it returns matched depth.

It is trained on rendered worlds, and must not learn what holds only there:

- It is not told how far away things are, only how depths differ within the image: rooms have sizes of their own.
- A correction needs something measured in the image that it can be anchored to. Where a camera hardly moves, nothing
  but the candidates is left: corrected, the error of a camera that turns was 0.33 instead of 0.27. Nor has a cell that
  parallax tells nothing of: poses of recordings err more than those of worlds.
- The network's own depth is no candidate: with it that error was 0.33 instead of 0.27, with no gain in worlds.

Symbols: B batch, H×W network resolution, h×w = H/2×W/2 cells centred at pixels 2x, q×r = H/4×W/4 cells.

Sources: learned regularisation of cost volumes, Kendall et al., "End-to-End Learning of Geometry and Context for Deep
Stereo Regression", ICCV 2017; convex upsampling, Teed and Deng, "RAFT", ECCV 2020.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from dvmvs_core.errors import WeightsError
from dvmvs_core.foreign import foreign
from dvmvs_core.model.lite0 import LEVEL_CHANNELS, SamePadConvolution, scaled_level
from dvmvs_core.model.part_files import load_part
from dvmvs_core.preprocess import normalised_tensor

WEIGHTS = Path(__file__).parents[1] / "weights" / "regulariser.safetensors"

WINDOW = 10
"""Planes on each side of the matched one whose scores are shown."""

EVIDENCE = 3
"""Cues of `RegulariserInputs.evidence`."""

FITS = 2
"""Candidates that follow from what was measured around a cell, see `RegulariserInputs.fits`."""

NO_ANCHOR, ANCHOR = 0.05, 0.15
"""Mean of the first cue of evidence up to which nothing is corrected, and from which on corrections count in full.

Chosen by the recording of a camera that turns; in worlds, corrections help everywhere.
"""

LITTLE_PARALLAX_PX = 2.0
"""Parallax of a 25 % depth step at which a cell is corrected by all but 1/e. The value is that of the prior.

That cells with little parallax are corrected less was decided by a recording, `3dmatch-fragment-1`. The weights have
since been trained with it.
"""

_CANDIDATES = 2 + FITS  # matched, fits, the median of all that is matched
_NEIGHBOURS = 9
_GROUPS = 8
_CAUTION = -2.0  # log odds that a correction is needed, before training
_TRUST = 4.0  # softmax weight of matched depth over that of each other candidate, before training


class RegulariserInputs(NamedTuple):
    """What the regulariser is given; all depths are logarithms less the median of log matched depth.

    Attributes:
        image: (B, 3, H, W) normalised.
        matched: (B, 1, h, w) matched depth.
        network: (B, 1, h, w) depth of the network.
        margin: (B, 1, h, w) of the best plane over the others.
        views: (B, 1, h, w) views that see it, over 3.
        prior: (B, 1, q, r) depth that matching started from.
        agreement: (B, 1, q, r) of the past with the prior, 0…1.
        parallax: (B, 1, q, r) logarithm of 1 + pixels that a depth step of 25 % moves the point.
        fits: (B, FITS, q, r) depth of planes fitted to what was measured around, of two reaches.
        evidence: (B, EVIDENCE, q, r) how clearly images alone speak for the matched plane.
        rays: (B, 2, q, r) x and y of the viewing rays at z = 1.
        scores: (B, 2·WINDOW + 1, q, r) after semi-global matching, of the planes about the matched one.
        images_alone: (B, 2·WINDOW + 1, q, r) the same before prior and semi-global matching.
        level4: (B, 24, q, r) EfficientNet-Lite0's map at 1/4, over its standard deviation.
        level8: (B, 40, q/2, r/2) at 1/8.
        level16: (B, 112, q/4, r/4) at 1/16.
        level32: (B, 320, q/8, r/8) at 1/32.
    """

    image: Tensor
    matched: Tensor
    network: Tensor
    margin: Tensor
    views: Tensor
    prior: Tensor
    agreement: Tensor
    parallax: Tensor
    fits: Tensor
    evidence: Tensor
    rays: Tensor
    scores: Tensor
    images_alone: Tensor
    level4: Tensor
    level8: Tensor
    level16: Tensor
    level32: Tensor


def example_inputs(height: int, width: int) -> RegulariserInputs:
    """Return inputs (B = 1) of the right shapes for images of that size, all 0."""
    channels = (3, *(1,) * 7, FITS, EVIDENCE, 2, *(2 * WINDOW + 1,) * 2, *LEVEL_CHANNELS)
    strides = (1, *(2,) * 4, *(4,) * 8, 4, 8, 16, 32)
    return RegulariserInputs(
        *(torch.zeros(1, c, height // s, width // s) for c, s in zip(channels, strides, strict=True))
    )


def prepared(inputs: RegulariserInputs) -> RegulariserInputs:
    """Return inputs whose image holds 0…255 and whose maps are Lite0's own as the network takes them."""
    image = normalised_tensor(inputs.image.permute(0, 2, 3, 1))
    levels = [scaled_level(level) for level in inputs[-4:]]
    return RegulariserInputs(image, *inputs[1:-4], *levels)


class Regularised(NamedTuple):
    """What the regulariser returns.

    Attributes:
        log_depth: (B, 1, H, W) less what the depths of the inputs are relative to.
        coarse: (B, 1, h, w) the same before it is upsampled.
        log_odds: (B, 1, h, w) of being within 10 % of the truth.
    """

    log_depth: Tensor
    coarse: Tensor
    log_odds: Tensor


class Regulariser(nn.Module):
    """U-Net over the cells at a quarter of the resolution, with Lite0's maps on the way down.

    Args:
        widths: channels at 1/4, 1/8, 1/16 and 1/32, multiples of 8.
        upsampling_width: channels of the layer that learns the weights of the upsampling.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (48, 64, 96, 128), upsampling_width: int = 64) -> None:
        super().__init__()
        quarter, eighth, sixteenth, bottom = widths
        lite4, lite8, lite16, lite32 = LEVEL_CHANNELS
        pixels = 3 * 16
        inputs = pixels + 4 * 4 + 1 + 3 + FITS + EVIDENCE + 2 + lite4 + 2 * (2 * WINDOW + 1)
        self.stem = nn.Sequential(nn.Conv2d(inputs, quarter, 1), nn.ReLU())
        self.encode4 = ResidualBlock(quarter, normalised=False)
        self.down8 = DownBlock(quarter, lite8, eighth)
        self.down16 = DownBlock(eighth, lite16, sixteenth)
        self.squeeze32 = nn.Conv2d(lite32, bottom // 2, 1)
        self.down32 = DownBlock(sixteenth, bottom // 2, bottom)
        self.up16 = UpBlock(bottom, sixteenth)
        self.up8 = UpBlock(sixteenth, eighth)
        self.up4 = UpBlock(eighth, quarter, normalised=False)
        self.cells = nn.Conv2d(quarter, 4 * (_CANDIDATES + 3), 3, padding=1)
        nn.init.zeros_(self.cells.weight)
        nn.init.zeros_(self.cells.bias)
        self.upsampling = nn.Sequential(
            nn.Conv2d(quarter + pixels, upsampling_width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(upsampling_width, 4 * _NEIGHBOURS * 4, 1),
        )
        nn.init.normal_(self.upsampling[-1].weight, std=1e-3)
        with torch.no_grad():
            self.cells.bias[:4] = _TRUST
            self.cells.bias[-8:-4] = _CAUTION
            weights = (_linear_weights() + 0.01).log().flatten()
            self.upsampling[-1].bias.copy_(weights.repeat_interleave(4))

    def forward(self, inputs: RegulariserInputs) -> Regularised:
        """Return depth and the log odds that it is right."""
        pixels = functional.pixel_unshuffle(inputs.image, 4)
        matched = functional.pixel_unshuffle(inputs.matched, 2)
        mean = matched.mean(dim=1, keepdim=True)
        parts = (
            pixels,
            matched - mean,
            mean,
            functional.pixel_unshuffle(inputs.network - inputs.matched, 2),
            functional.pixel_unshuffle(inputs.margin, 2),
            functional.pixel_unshuffle(inputs.views, 2),
            inputs.prior - mean,
            inputs.agreement,
            inputs.parallax,
            inputs.fits - mean,
            inputs.evidence,
            inputs.rays,
            inputs.level4,
            inputs.scores,
            inputs.images_alone,
        )
        at4 = self.encode4(self.stem(torch.cat(parts, dim=1)))
        at8 = self.down8(at4, inputs.level8)
        at16 = self.down16(at8, inputs.level16)
        at32 = self.down32(at16, self.squeeze32(inputs.level32))
        features = self.up4(self.up8(self.up16(at32, at16), at8), at4)

        values = functional.pixel_shuffle(self.cells(features).float(), 2)  # (B, _CANDIDATES + 3, h, w)
        weights, log_odds, needed, change = values.split((_CANDIDATES, 1, 1, 1), dim=1)
        fits = functional.interpolate(inputs.fits, scale_factor=2.0, mode="bilinear")
        candidates = torch.cat((inputs.matched, fits, torch.zeros_like(inputs.matched)), dim=1)
        coarse = (weights.softmax(dim=1) * candidates).sum(dim=1, keepdim=True)
        trusted = anchored(inputs.evidence) * _measured(inputs.parallax)
        coarse = coarse + trusted * needed.sigmoid() * change

        between = self.upsampling(torch.cat((features, pixels), dim=1)).float()
        between = functional.pixel_shuffle(between, 2).unflatten(1, (_NEIGHBOURS, 4)).softmax(dim=1)
        log_depth = functional.pixel_shuffle((between * _neighbours(coarse)).sum(dim=1), 2)
        return Regularised(log_depth, coarse, log_odds)


def anchored(evidence: Tensor) -> Tensor:
    """Return how well a keyframe is measured (B, 1, 1, 1), from 0, where images say nothing of depth, to 1.

    Args:
        evidence: (B, EVIDENCE, q, r) of `RegulariserInputs`.
    """
    clear = evidence[:, :1].mean(dim=(2, 3), keepdim=True)
    return ((clear - NO_ANCHOR) / (ANCHOR - NO_ANCHOR)).clamp(0, 1)


def _measured(parallax: Tensor) -> Tensor:
    """How far parallax can measure each cell (B, 1, h, w), 0…1, of `RegulariserInputs.parallax`."""
    pixels = functional.interpolate(parallax.float(), scale_factor=2.0, mode="bilinear").exp() - 1
    return 1 - (-pixels / LITTLE_PARALLAX_PX).exp()


def load_regulariser(path: Path = WEIGHTS) -> Regulariser:
    """Return the regulariser with trained weights, in evaluation mode.

    Raises:
        WeightsError: if the file is missing, broken or not of this network.
    """
    return load_part(Regulariser(), path, "the regulariser's weights", "dvmvs train regulariser")


def regulariser_metadata(path: Path) -> dict[str, Any]:
    """Return what `save_part` was told of weights that can be loaded; nothing where it was told nothing.

    Raises:
        WeightsError: if the file is missing or broken.
    """
    with foreign(f"cannot read what {path} says of itself", WeightsError), safe_open(path, framework="pt") as file:
        return dict(json.loads((file.metadata() or {}).get("metadata", "{}")))


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions and a skip connection.

    Args:
        channels: that come in and go out.
        normalised: whether a group norm follows the first.
    """

    def __init__(self, channels: int, normalised: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(_GROUPS, channels) if normalised else nn.Identity()
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape."""
        return (x + self.second(self.norm(self.first(x)).relu())).relu()


class DownBlock(nn.Module):
    """Halves the resolution, and joins the image features of the new one.

    The stride-2 convolution pads at the right and the bottom, as Lite0's do: both have their cells at the same pixels.

    Args:
        inputs: channels that come in.
        image_channels: of the image features.
        outputs: channels that go out.
    """

    def __init__(self, inputs: int, image_channels: int, outputs: int) -> None:
        super().__init__()
        self.down = SamePadConvolution(inputs, outputs, 3, stride=2)
        self.norm = nn.GroupNorm(_GROUPS, outputs)
        self.join = nn.Conv2d(outputs + image_channels, outputs, 3, padding=1)
        self.join_norm = nn.GroupNorm(_GROUPS, outputs)
        self.block = ResidualBlock(outputs)

    def forward(self, x: Tensor, image_features: Tensor) -> Tensor:
        """Return (B, outputs, n, m) of (B, inputs, 2n, 2m) and (B, image_channels, n, m)."""
        x = self.norm(self.down(x)).relu()
        return self.block(self.join_norm(self.join(torch.cat((x, image_features), dim=1))).relu())


class UpBlock(nn.Module):
    """Doubles the resolution, and adds what the way down had there.

    Args:
        inputs: channels that come in.
        outputs: channels of the skip connection, and that go out.
        normalised: whether a group norm is used.
    """

    def __init__(self, inputs: int, outputs: int, normalised: bool = True) -> None:
        super().__init__()
        self.lift = nn.Conv2d(inputs, outputs, 1)
        self.block = ResidualBlock(outputs, normalised)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return (B, outputs, 2n, 2m) of (B, inputs, n, m) and the skip connection (B, outputs, 2n, 2m)."""
        return self.block((functional.interpolate(self.lift(x), scale_factor=2.0) + skip).relu())


def _neighbours(maps: Tensor) -> Tensor:
    """The nine neighbours (B, 9, 1, h, w) of every cell of (B, 1, h, w), row by row; beyond the border the nearest."""
    height, width = maps.shape[-2:]
    padded = functional.pad(maps, (1, 1, 1, 1), "replicate")
    return torch.stack([padded[..., y : y + height, x : x + width] for y in range(3) for x in range(3)], dim=1)


def _linear_weights() -> Tensor:
    """Weights (9, 4) of the neighbours for the four pixels of a cell, row by row, that interpolate linearly."""
    line = torch.tensor(((0.0, 0.0), (1.0, 0.5), (0.0, 0.5)))  # the cell before, this one, the next
    return torch.einsum("ai,bj->abij", line, line).reshape(_NEIGHBOURS, 4)
