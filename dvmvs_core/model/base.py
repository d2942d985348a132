# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`base`: depth from the scores of fixed descriptors, from past predictions, and from what the image shows.

Matching is not learned. The network learns what matching cannot do: which scores to trust, what blank surfaces and
places without parallax look like, and where the edges are. Without any training its depth is that of the scores.

Symbols: B batch, D planes (0 is the nearest), H×W network resolution, h×w = H/4×W/4 cells of the score volume.

Sources: plane sweep and recurrent memory, Düzçeker et al., "DeepVideoMVS", CVPR 2021; the encoder, EfficientNet-Lite0
(see `lite0`); convex upsampling, RAFT (see `score_head`); depth carried from frame to frame as an input, Liu et al.,
"Neural RGB→D Sensing", CVPR 2019.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dvmvs_core.config import BaseConfig
from dvmvs_core.model.convlstm import LSTMFusion, LSTMState
from dvmvs_core.model.depth_hint import DepthHint
from dvmvs_core.model.fixed_descriptors import LEVEL_CHANNELS, FixedFeatures, fixed_features
from dvmvs_core.model.hidden_state import warp_hidden_state_by
from dvmvs_core.model.intrinsics import grid_intrinsics, inverse, pixel_grid
from dvmvs_core.model.lite0 import SamePadConvolution, load_lite0
from dvmvs_core.model.score_head import ConvexUpsampling, ScoreAggregation, best_plane_position
from dvmvs_core.model.score_volume import VOLUME_OFFSET, VOLUME_STRIDE, ScoreVolume, log_planes

ENCODER_PREFIX = "encoder."
"""Of the names of the tensors that come with the package."""

MEMORY_STRIDE = 32
"""Pixels between two cells of the memory; cell x is centred on pixel 32x + 31."""

_CELL_CHANNELS = 14
_GROUPS = 8
_HINT_WIDTH = 1.5  # planes
_MAX_COUNT = 5.0
_MIDDLE_M = 2.0


class BasePrediction(NamedTuple):
    """What `base` predicts of a reference frame.

    Attributes:
        depth: (B, H, W) metres.
        coarse_log_depth: (B, h, w) log depth of the volume's cells, before it is upsampled.
        logits: (B, D, h, w) of the planes.
        log_error: (B, h, w) logarithm of the error that the network expects of the log depth of a cell.
    """

    depth: Tensor
    coarse_log_depth: Tensor
    logits: Tensor
    log_error: Tensor


class BaseNet(nn.Module):
    """Depth of a reference frame from scores, past predictions and memory.

    Stateless: whoever calls it keeps the memory and the past predictions.

    Args:
        config: sizes, depth range and widths.
    """

    def __init__(self, config: BaseConfig) -> None:
        super().__init__()
        self.config = config
        planes = log_planes(config.min_depth_m, config.max_depth_m, config.depth_hypotheses)
        self.register_buffer("planes", planes, persistent=False)
        self.nearest_plane, self.plane_step = float(planes[0]), float(planes[1] - planes[0])
        quarter, eighth, sixteenth, bottom = config.widths
        lite4, lite8, lite16, lite32 = LEVEL_CHANNELS
        self.encoder = load_lite0()

        inputs = 3 * config.depth_hypotheses + lite4 + 3 * VOLUME_STRIDE**2 + _CELL_CHANNELS
        self.stem = nn.Sequential(nn.Conv2d(inputs, quarter, 1), nn.ReLU())
        self.encode4 = ResidualBlock(quarter, normalised=False)
        self.down8 = DownBlock(quarter, lite8, eighth)
        self.down16 = DownBlock(eighth, lite16, sixteenth)
        self.squeeze32 = nn.Conv2d(lite32, bottom // 2, 1)
        self.down32 = DownBlock(sixteenth, bottom // 2, bottom)
        self.lstm_fusion = LSTMFusion(bottom)
        self.up16 = UpBlock(bottom, sixteenth)
        self.up8 = UpBlock(sixteenth, eighth)
        self.up4 = UpBlock(eighth, quarter, normalised=False)

        self.aggregation = ScoreAggregation(quarter)
        self.plane_logits = nn.Conv2d(quarter, config.depth_hypotheses, 3, padding=1)
        self.cell_values = nn.Conv2d(quarter, 4, 3, padding=1)
        for head in (self.plane_logits, self.cell_values):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        # Softmax factors of patch scores, Lite0's scores and the hint, as logarithms.
        factors = {"patch": 8.0, "maps": 8.0, "hint": 2.0}
        self.log_factors = nn.ParameterDict({name: torch.tensor(value).log() for name, value in factors.items()})
        self.upsampling = ConvexUpsampling(quarter, config.upsampling_width)

    def extract(self, image: Tensor) -> FixedFeatures:
        """Features of a normalised image (B, 3, H, W), whether as reference or as measurement frame."""
        return fixed_features(self.encoder, image)

    def carry(self, state: LSTMState, previous_T_cam: Tensor, hint: DepthHint, K: Tensor) -> LSTMState:
        """The memory as the current camera would have left it.

        Args:
            state: what the last call returned.
            previous_T_cam: (B, 4, 4) from the current camera to that of the last call.
            hint: past predictions in the current view; the hidden state is 0 where there are none.
            K: (B, 3, 3) at full resolution.
        """
        ratio = MEMORY_STRIDE // VOLUME_STRIDE
        here = (slice(None), slice(None), slice(ratio - 1, None, ratio), slice(ratio - 1, None, ratio))
        depth = torch.where(hint.count > 0, hint.log_depth.exp(), 0.0)[here]
        grid_K = grid_intrinsics(K.float(), MEMORY_STRIDE, MEMORY_STRIDE - 1)
        return state._replace(hidden=warp_hidden_state_by(previous_T_cam, state.hidden, depth, grid_K))

    def forward(
        self,
        image: Tensor,
        features: FixedFeatures,
        scores: ScoreVolume,
        hint: DepthHint,
        K: Tensor,
        state: LSTMState | None,
    ) -> tuple[BasePrediction, LSTMState]:
        """Predicts depth and the memory for the next keyframe.

        Args:
            image: normalised image of the reference frame, (B, 3, H, W).
            features: its features, from `extract`.
            scores: its matching scores.
            hint: past predictions in its view.
            K: (B, 3, 3) at full resolution.
            state: the memory, carried to its view; None at the start and after tracking was lost.
        """
        bump = self._hint_bump(hint)
        pixels = functional.pixel_unshuffle(image, VOLUME_STRIDE)
        cells = self._cells(features, scores, hint, K)
        contrast = [part - part.mean(dim=1, keepdim=True) for part in (scores.patch, scores.maps)]
        x = self.encode4(self.stem(torch.cat([*contrast, bump, features.levels[0], pixels, cells], dim=1)))
        skip8 = self.down8(x, features.levels[1])
        skip16 = self.down16(skip8, features.levels[2])
        state = self.lstm_fusion(self.down32(skip16, self.squeeze32(features.levels[3])), state)
        x = self.up4(self.up8(self.up16(state.hidden.to(skip16.dtype), skip16), skip8), x)

        values = self.cell_values(x).float()
        matching_gain, hint_gain = values[:, :2].clamp(-4, 4).exp().split(1, dim=1)
        patch_factor, maps_factor, hint_factor = (self.log_factors[name].exp() for name in ("patch", "maps", "hint"))
        matched = matching_gain * (patch_factor * contrast[0] + maps_factor * contrast[1])
        logits = self.aggregation(matched, x) + hint_gain * hint_factor * bump + self.plane_logits(x).float()
        position = best_plane_position(logits) + 1.5 * torch.tanh(values[:, 2])
        coarse = self.nearest_plane + self.plane_step * position
        log_depth = self.upsampling(coarse, x, image)
        depth = log_depth.clamp(math.log(self.config.min_depth_m), math.log(self.config.max_depth_m)).exp()
        return BasePrediction(depth, coarse, logits, values[:, 3] - 3.0), state

    def _hint_bump(self, hint: DepthHint) -> Tensor:
        """The hint over the planes (B, D, h, w): 1 at its depth if it is certain, 0 far from it and without one."""
        width = _HINT_WIDTH * self.plane_step + hint.spread
        off = (self.planes.view(1, -1, 1, 1) - hint.log_depth) / width
        return torch.exp(-0.5 * off.square()) * hint.count / (hint.count + 1)

    def _cells(self, features: FixedFeatures, scores: ScoreVolume, hint: DepthHint, K: Tensor) -> Tensor:
        """What else is known of every cell, (B, _CELL_CHANNELS, h, w)."""
        height, width = scores.patch.shape[-2:]
        grid_K = grid_intrinsics(K.float(), VOLUME_STRIDE, VOLUME_OFFSET)
        with torch.autocast(K.device.type, enabled=False):
            rays = inverse(grid_K) @ pixel_grid(height, width, like=grid_K)
        known = (hint.count > 0).float()
        texture = functional.avg_pool2d(features.patches.square().sum(dim=1, keepdim=True), 2)
        return torch.cat(
            [
                *(part.mean(dim=1, keepdim=True) for part in (scores.patch, scores.maps)),
                *(part.amax(dim=1, keepdim=True) for part in (scores.patch, scores.maps)),
                scores.visible,
                (scores.parallax + 0.1).log(),
                (scores.visible > 0).float(),
                texture,
                known * (hint.log_depth - math.log(_MIDDLE_M)),
                10 * hint.spread,
                hint.count.clamp(max=_MAX_COUNT) / _MAX_COUNT,
                known,
                rays[:, :2].unflatten(2, (height, width)),
            ],
            dim=1,
        )


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside the identity.

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

    def forward(self, x: Tensor, image_features: Tensor) -> Tensor:
        """Return (B, outputs, n, m) of (B, inputs, 2n, 2m) and (B, image_channels, n, m)."""
        x = self.norm(self.down(x)).relu()
        return self.join_norm(self.join(torch.cat([x, image_features.to(x.dtype)], dim=1))).relu()


class UpBlock(nn.Module):
    """Doubles the resolution, and adds what the way down had there.

    Args:
        inputs: channels that come in.
        outputs: channels of the skip connection, and that go out.
        normalised: whether group norms are used.
    """

    def __init__(self, inputs: int, outputs: int, normalised: bool = True) -> None:
        super().__init__()
        self.lift = nn.Conv2d(inputs, outputs, 1)
        self.blocks = nn.Sequential(ResidualBlock(outputs, normalised))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return (B, outputs, 2n, 2m) of (B, inputs, n, m) and the skip connection (B, outputs, 2n, 2m)."""
        return self.blocks((functional.interpolate(self.lift(x), scale_factor=2.0) + skip).relu())
