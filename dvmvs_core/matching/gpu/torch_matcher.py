# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`matching.matcher.Matcher` with all its tensors on one device, and three steps that a GPU replays as graphs.

The host waits for the device once a keyframe, for the prior depth, by which it chooses the views. Their number and that
of past depths are filled up to fixed ones, so that each step has one graph. What is kept of keyframes stays on the
device, in the types that the CPU has.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dvmvs_core.confidence import load_coefficients
from dvmvs_core.config import MatchingConfig
from dvmvs_core.matching.blindness import blindness
from dvmvs_core.matching.descriptors import Descriptors
from dvmvs_core.matching.gpu.describing import describe_image
from dvmvs_core.matching.gpu.kernels import Kernels, choose_kernels
from dvmvs_core.matching.gpu.packed import packed_cameras, packed_views, unpacked_views
from dvmvs_core.matching.gpu.regularising import FittedPlanes, median, rays, regulariser_maps, score_windows
from dvmvs_core.matching.gpu.scores import (
    Best,
    best_planes,
    box_means,
    doubled,
    jump_penalties,
    quarter_means,
    upsampled,
)
from dvmvs_core.matching.gpu.torch_confidence import device_confidence
from dvmvs_core.matching.gpu.torch_prior import parallax, penalties, prior_depth, views_of_depth, weighed
from dvmvs_core.matching.keyframe import MatchedDepth, MatchingView
from dvmvs_core.matching.matched_confidence import CUES, coefficients_path
from dvmvs_core.matching.matcher import MIN_WEIGHT, SURE_MARGIN
from dvmvs_core.matching.measured_around import FARTHEST_M
from dvmvs_core.matching.pose_correction import corrected_views
from dvmvs_core.matching.relative_view import HALF, PRETRAINED, QUARTER
from dvmvs_core.matching.self_calibration import SelfCalibration, known_from
from dvmvs_core.matching.straight_views import StraightViews
from dvmvs_core.matching.view_selection import views_to_match
from dvmvs_core.model.lite0 import Lite0, load_lite0
from dvmvs_core.model.regulariser import Regulariser, RegulariserInputs, load_regulariser, prepared
from dvmvs_core.runtime.cuda_graph import CudaGraphs
from dvmvs_core.runtime.tf32 import tf32_convolutions

_FULL, _CELLS, _QUARTERS = 1, 2, 4

_FIELDS = {
    "depth": _FULL,
    "confidence": _FULL,
    "measured_depth": _CELLS,
    "network_depth": _CELLS,
    "margin": _CELLS,
    "views": _CELLS,
    "log_odds": _CELLS,
    "prior": _QUARTERS,
    "agreement": _QUARTERS,
    "parallax": _QUARTERS,
    "blindness": _QUARTERS,
    "past": _QUARTERS,
}
"""What the last step gives, and how many pixels a side its cells have."""


@dataclass(frozen=True, eq=False)
class MatchedOnDevice(MatchedDepth):
    """What was matched, as tensors on the device.

    Attributes:
        past: (3, q, r) float32 as later keyframes fuse it: matched or settled depth, its weight, the network's depth.
    """

    past: Tensor | None = None

    def settled(self, depth: Tensor) -> MatchedOnDevice:
        """As of `MatchedDepth`, on the device."""
        past = torch.cat([depth[None, ::_CELLS, ::_CELLS], self.past[1:]])
        return replace(self, measured_depth=depth, past=past)

    def moved(self, move: Callable[[Tensor, int], Tensor]) -> MatchedOnDevice:
        """As of `MatchedDepth`, on the device."""
        return replace(self, past=move(self.past, _QUARTERS))


class TorchMatcher:
    """Matches keyframes against past ones. Not thread-safe.

    Args:
        config: how.
        height: H of the images.
        width: W.
        device: where; on a CPU, for tests, without graphs.
        kernels: the fused stages; by default those that suit the device.

    Raises:
        WeightsError: if weights or coefficients are missing or damaged.
    """

    def __init__(
        self, config: MatchingConfig, height: int, width: int, device: torch.device, kernels: Kernels | None = None
    ) -> None:
        self.config = config
        self.device = device
        self._size = (height, width)
        self._kernels = kernels or choose_kernels(device)
        self._lite0, self._regulariser = _networks(device)
        steps = np.linspace(np.log(config.min_depth_m), np.log(config.max_depth_m), config.planes)
        self._nearest, self._step = float(steps[0]), float(steps[1] - steps[0])
        reach = config.fine_reach * self._step
        fine_changes = np.linspace(-reach, reach, max(2, config.fine_planes))
        self._fine_nearest, self._fine_step = float(fine_changes[0]), float(fine_changes[1] - fine_changes[0])
        coefficients = load_coefficients(coefficients_path(config.preset), CUES)
        self._bias = float(coefficients.bias)
        # Sent now, since a graph can hold no upload.
        self._log_depths, self._inverse_depths, self._fine_changes, self._weights = (
            torch.from_numpy(np.asarray(x, dtype=np.float32)).to(device)
            for x in (steps, np.exp(-steps), fine_changes, coefficients.weights)
        )
        self._fitted_planes = FittedPlanes(height // _QUARTERS, width // _QUARTERS, device)
        self._describe = CudaGraphs(self.describe_step, device)
        self._straight = StraightViews(self.describe)
        self._prior = CudaGraphs(self.prior_step, device)
        self._match = CudaGraphs(self.match_step, device)

    @torch.inference_mode()
    def describe(self, image: Tensor) -> Descriptors:
        """Return the descriptors of an image (H, W, 3) of 0…255 on the device, as tensors there.

        Grey levels are on their way to pinned memory: they are there once the host has waited for the prior depth.
        """
        patches, maps, colours, rounded, grey, *levels = self._describe(image)
        return Descriptors(patches, maps, colours, rounded, grey.to("cpu", non_blocking=True), tuple(levels))

    @torch.inference_mode()
    def match(self, reference: MatchingView, past: Sequence[MatchingView], network_depth: Tensor) -> MatchedDepth:
        """Return the depth of a keyframe as tensors on the device; the arguments are those of `Matcher.match`."""
        calibration, given = known_from(past), reference
        reference, *past = (calibration.applied(view) for view in (reference, *past[-self.config.window :]))
        prior, agreement = self._fused(reference, past, network_depth, given)
        prior_on_host, agreement_on_host = torch.stack((prior, agreement)).cpu().numpy()
        views = views_to_match(reference, past, prior_on_host, self.config.views)
        if not views:
            return self._unmatched(network_depth, prior, agreement, calibration)
        views = self._described(views, given)
        views, calibration = corrected_views(reference, views, prior_on_host, agreement_on_host, calibration)
        filled = [*views, *(reference for _ in range(self.config.views - len(views)))]
        others = [torch.stack([getattr(v.descriptors, kind) for v in filled]) for kind in ("patches", "maps")]
        d = reference.descriptors
        own = (d.patches, d.maps, d.colours, d.image, *d.levels)
        pose_error_px = calibration.pose_error_px(reference, views)
        packed = self._sent(packed_views(reference, views, self.config.views, pose_error_px))
        (flat,) = self._match(packed, network_depth, prior, agreement, *own, *others)
        return replace(self._matched(flat), calibration=calibration, pose_error_px=pose_error_px)

    def _described(self, views: list[MatchingView], like: MatchingView) -> list[MatchingView]:
        straight = self._straight.described(views, like)
        if self.device.type == "cuda" and any(new is not old for new, old in zip(straight, views, strict=True)):
            torch.cuda.current_stream(self.device).synchronize()  # grey levels that are new are on their way
        return straight

    def _fused(
        self, reference: MatchingView, past: Sequence[MatchingView], network_depth: Tensor, given: MatchingView
    ) -> tuple[Tensor, Tensor]:
        """Prior depth (q, r) and its agreement (q, r); `given` is the reference with the intrinsics that it has."""
        count = self.config.past_depths
        recent = [view for view in past if view.matched][-count:] if count else []
        recent = self._straight.with_depth(recent, given)
        missing = network_depth.new_zeros(3, *(side // _QUARTERS for side in self._size))
        depths = torch.stack([*(view.matched.past for view in recent), *(missing,) * (max(count, 1) - len(recent))])
        packed = self._sent(packed_cameras(reference, recent, max(count, 1)))
        return self._prior(packed, network_depth, depths)

    def _sent(self, packed: Tensor) -> Tensor:
        return packed.pin_memory() if self.device.type == "cuda" else packed

    def describe_step(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the fields of descriptors in their order, the levels last."""
        return describe_image(image, self._lite0)

    def prior_step(self, packed: Tensor, network_depth: Tensor, past: Tensor) -> tuple[Tensor, ...]:
        """Return the prior (q, r) and its agreement (q, r).

        Args:
            packed: of `packed_cameras`.
            network_depth: (H, W) metres.
            past: (N, 3, q, r), see `prior_depth`.
        """
        return prior_depth(packed, network_depth[::_QUARTERS, ::_QUARTERS], past, self._kernels.median_bins)

    def match_step(
        self,
        packed: Tensor,
        network_depth: Tensor,
        prior: Tensor,
        agreement: Tensor,
        patches: Tensor,
        maps: Tensor,
        colours: Tensor,
        image: Tensor,
        *others: Tensor,
    ) -> tuple[Tensor]:
        """Return all that is matched, flat and in the order of `_FIELDS`.

        Args:
            packed: of `packed_views`.
            network_depth: (H, W) metres.
            prior: (q, r) metres.
            agreement: (q, r).
            patches: (h, w, PATCH_CHANNELS) int8.
            maps: (q, r, MAP_CHANNELS) int8.
            colours: (h, w, 3) uint8.
            image: (H, W, 3) uint8.
            others: the four levels; patches and maps of the views (M, ...).
        """
        c = self.config
        *levels, view_patches, view_maps = others
        matrices, K, pose_error_px = unpacked_views(packed)
        to_half, to_quarter, to_maps = matrices
        network = network_depth[::_CELLS, ::_CELLS]
        moved = parallax(prior, to_quarter, QUARTER.step, float(QUARTER.margin))
        planes = self._inverse_depths.expand(*maps.shape[:2], c.planes)
        total, counts = self._kernels.sweep(maps, view_maps, to_maps, planes, float(PRETRAINED.margin))
        map_scores = box_means(total / counts.clamp(min=1), (c.map_neighbourhood,))
        penalty = penalties(prior, agreement, moved, self._log_depths, c)
        colours = colours.float()
        swept = self._patch_scores(patches, view_patches, to_half, self._starts(map_scores, counts, penalty, colours))
        scores = box_means(swept, c.neighbourhoods) * (1 - c.map_weight) + upsampled(map_scores) * c.map_weight
        scores = weighed(scores, doubled(counts), c.doubt)
        alone = quarter_means(scores).clamp(-1, 1)
        scores = scores - doubled(penalty)
        jumps = jump_penalties(colours, c.jump_penalty, c.next_penalty, c.edge)
        best = self._best(scores, jumps)
        depth = self._depth(best)
        if c.fine_planes:
            depth = self._swept_finely(patches, view_patches, to_half, depth, colours)
        views = doubled(counts).gather(-1, best.plane[..., None])[..., 0]
        full, log_odds, evidence = self._regularised(
            image, K, levels, depth, network, best, views, prior, agreement, moved, alone
        )
        found = {
            "depth": full,
            "measured_depth": depth,
            "network_depth": network,
            "margin": best.margin,
            "views": views_of_depth(full[::_CELLS, ::_CELLS], to_half, float(HALF.margin)),
            "log_odds": log_odds,
            "prior": prior,
            "agreement": agreement,
            "parallax": moved,
            "blindness": blindness(moved, agreement, evidence, c.prior_parallax_px, pose_error_px),
        }
        found["confidence"] = device_confidence(found, pose_error_px, self._weights, self._bias)
        found["past"] = _as_past(depth, best.margin, network)
        return (torch.cat([found[name].reshape(-1) for name in _FIELDS]),)

    def _starts(self, maps: Tensor, counts: Tensor, penalty: Tensor, colours: Tensor) -> Tensor:
        """First of the planes (h, w, 1) that patches are swept at."""
        c = self.config
        if c.patch_planes >= c.planes:
            return torch.zeros_like(colours[..., :1], dtype=torch.int64)
        scores = weighed(maps, counts, c.doubt) - penalty
        jumps = jump_penalties(colours[1::2, 1::2], c.jump_penalty, c.next_penalty, c.edge)
        position = self._best(scores, jumps).position
        starts = (position.round().long() - c.patch_planes // 2).clamp(0, c.planes - c.patch_planes)
        return doubled(starts)[..., None]

    def _patch_scores(self, patches: Tensor, view_patches: Tensor, to_half: Tensor, starts: Tensor) -> Tensor:
        """Scores (h, w, P) of patches, 0 at planes where they are not swept."""
        c = self.config
        window = min(c.patch_planes, c.planes)
        planes = starts + torch.arange(window, device=starts.device)
        depths = self._inverse_depths[planes]
        total, counts = self._kernels.sweep(patches, view_patches, to_half, depths, float(HALF.margin))
        if window < c.planes:
            total = total - counts * (total.sum(dim=-1, keepdim=True) / counts.sum(dim=-1, keepdim=True).clamp(min=1))
        scores = total / counts.clamp(min=1)
        return scores.new_zeros(*scores.shape[:2], c.planes).scatter(-1, planes, scores)

    def _best(self, scores: Tensor, jumps: Tensor) -> Best:
        return best_planes(scores, jumps, self.config.next_penalty, self._kernels.paths)

    def _depth(self, best: Best) -> Tensor:
        return (best.position * self._step + self._nearest).exp()

    def _swept_finely(
        self, patches: Tensor, view_patches: Tensor, to_half: Tensor, depth: Tensor, colours: Tensor
    ) -> Tensor:
        """Depth (h, w) of a second, finer sweep of patches around that of the first."""
        c = self.config
        depths = (-self._fine_changes).exp() / depth[..., None]
        total, counts = self._kernels.sweep(patches, view_patches, to_half, depths, float(HALF.margin))
        scores = box_means(total / counts.clamp(min=1), c.fine_neighbourhoods)
        scores = scores - c.fine_bias * self._fine_changes.abs()
        jumps = jump_penalties(colours, c.jump_penalty, c.fine_next_penalty, c.edge)
        position = best_planes(scores, jumps, c.fine_next_penalty, self._kernels.paths).position
        return depth * (position * self._fine_step + self._fine_nearest).exp()

    def _regularised(
        self,
        image: Tensor,
        K: Tensor,
        levels: Sequence[Tensor],
        depth: Tensor,
        network: Tensor,
        best: Best,
        views: Tensor,
        prior: Tensor,
        agreement: Tensor,
        moved: Tensor,
        alone: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Depth (H, W) metres, log odds (h, w) and evidence (EVIDENCE, q, r)."""
        log_depth = depth.log()
        log_cells = quarter_means(log_depth[..., None])[..., 0]
        windows, windows_alone, clear = score_windows((log_cells - self._nearest) / self._step, best.agreed, alone)
        fits, weight = self._fitted_planes(log_cells, clear[..., 0], moved)
        offset = median(log_depth)
        evidence = torch.cat((clear.permute(2, 0, 1), weight[None]))
        maps = regulariser_maps(
            log_depth,
            network.log(),
            best.margin,
            views,
            prior,
            agreement,
            moved,
            fits,
            evidence,
            rays(K, *prior.shape),
            offset,
        )
        windows = (part.permute(2, 0, 1)[None] for part in (windows, windows_alone))
        inputs = RegulariserInputs(image.permute(2, 0, 1)[None].float(), *maps, *windows, *levels)
        with tf32_convolutions():  # an H200 takes 0.86 ms in place of 1.27, and log depth changes by 1e-5 at most
            answer = self._regulariser(prepared(inputs))
        full = (answer.log_depth[0, 0] + offset).exp().clamp(self.config.min_depth_m, FARTHEST_M)
        return full, answer.log_odds[0, 0], evidence

    def _matched(self, flat: Tensor) -> MatchedOnDevice:
        height, width = self._size
        shapes = {name: (height // side, width // side) for name, side in _FIELDS.items()}
        shapes["past"] = (3, *shapes["past"])
        parts = flat.split([math.prod(shape) for shape in shapes.values()])
        named = {name: part.view(shapes[name]) for name, part in zip(_FIELDS, parts, strict=True)}
        return MatchedOnDevice(**named)

    def _unmatched(
        self, network_depth: Tensor, prior: Tensor, agreement: Tensor, calibration: SelfCalibration
    ) -> MatchedOnDevice:
        """As the CPU's: the network's depth, where no past keyframe sees what the keyframe sees."""
        own = network_depth[::_CELLS, ::_CELLS].contiguous()
        none = torch.zeros_like(own)
        return MatchedOnDevice(
            depth=network_depth.clone(),
            measured_depth=own,
            network_depth=own,
            prior=prior,
            agreement=agreement,
            parallax=torch.zeros_like(prior),
            margin=none,
            views=none,
            blindness=1 - agreement,
            confidence=torch.zeros_like(network_depth),
            past=_as_past(own, none, own),
            calibration=calibration,
        )


def _as_past(depth: Tensor, margin: Tensor, network: Tensor) -> Tensor:
    weight = (margin / SURE_MARGIN).clamp(MIN_WEIGHT, 1)
    return torch.stack([part[::2, ::2] for part in (depth, weight, network)])


@functools.cache
def _networks(device: torch.device) -> tuple[Lite0, Regulariser]:
    """What is trained, on a device: once for all matchers of a process."""
    return load_lite0().to(device), load_regulariser().to(device)
