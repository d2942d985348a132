# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How far a predicted depth can be trusted, pixel by pixel: the probability that it is within 10 % of the truth.

A logistic regression on cues that do not come from the network itself. Agreement: the last predictions have the same
depth for the point of a pixel, as their cameras see it. Matching: in the measurement frames the descriptor of the point
is that of the pixel, more so than descriptors of points nearer and farther on the same ray, which is a plane sweep
around the prediction. One patch says little, so matching is also averaged over neighbourhoods. Edges: depth that
changes at once is wrong on one side. All of it is computed at a quarter of the resolution.

The coefficients are in weights/confidence.json; `dvmvs weights calibrate` fits them on synthetic worlds.

Symbols: B batch, F cues, P planes, H×W network resolution, h×w a quarter of it, K intrinsics (B, 3, 3), poses
world_T_cam (B, 4, 4).
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.errors import WeightsError
from dvmvs_core.foreign import foreign
from dvmvs_core.model.pinhole import pixel_grid
from dvmvs_core.model.ray_matching import NeighbourhoodMeans, match_at_pixels
from dvmvs_core.model.warping import sampling_grid

WITHIN = 1.1
"""Ratio of prediction and truth, the larger by the smaller, up to which a depth counts as right."""

COEFFICIENTS = Path(__file__).parent / "weights" / "confidence.json"

STEP = 4
"""Pixels of the depth map from one cell to the next."""

PLANES = (1.0, 0.35, 0.5, 0.7, 0.85, 1.18, 1.4, 1.9, 2.7)
"""Inverse depths that are matched, as factors of the predicted one, which comes first."""

FINE, COARSE = (4, 5), (3, 6)
"""The planes next to the prediction, and the next ones."""

NEIGHBOURHOODS = (3, 5, 9)
"""Cells a side over which matching is averaged."""

SHARPNESS = 12.0
"""Weight of a plane in the mean shift grows by e for each 1 / so much of similarity."""

AGREEMENT_SCALE = 0.15
"""Difference of the logarithms of two depths at which agreement has fallen to 1/e."""

EDGE_CELLS = 7
"""Cells a side in which depth edges are looked for."""

MAX_MEASUREMENTS = 3
"""Measurement frames that are matched, the best first: more cost time and say little more."""

MAX_PREDICTIONS = 3
"""Earlier predictions that a new one is compared with, the last ones."""

CUES = (
    "agreement",
    "unconfirmed",
    "similarity_5",
    "fine_peak_9",
    "coarse_peak_3",
    "coarse_peak_9",
    "shift_5",
    "shift_9",
    "edge",
)


@dataclass(frozen=True)
class Coefficients:
    """Of the logistic regression.

    Attributes:
        bias: log odds of a pixel whose cues are 0.
        weights: log odds that 1 of each cue adds, in the order of `CUES`.
    """

    bias: float
    weights: tuple[float, ...]


class ConfidenceGeometry(NamedTuple):
    """Where cameras see the rays of the reference frame, float32.

    Attributes:
        to_ray: (B, 3, 3) K⁻¹.
        measurements: (M, B, 3, 4) K [R | t] at half resolution, from the reference frame to each measurement frame.
        predictions: (N, B, 3, 4) K [R | t] to the camera of each earlier prediction.
    """

    to_ray: Tensor
    measurements: Tensor
    predictions: Tensor

    def packed(self) -> Tensor:
        """All of it as one tensor (1 + M + N, B, 3, 4)."""
        return torch.cat([functional.pad(self.to_ray, (0, 1))[None], self.measurements, self.predictions])

    @classmethod
    def unpacked(cls, packed: Tensor, measurements: int) -> ConfidenceGeometry:
        """What `packed` gave for that many measurement frames, as views."""
        return cls(packed[0, :, :, :3], packed[1 : 1 + measurements], packed[1 + measurements :])


def estimate_confidence(
    depth: Tensor,
    K: Tensor,
    world_T_ref: Tensor,
    matching: Tensor,
    measurements: Sequence[tuple[Tensor, Tensor]],
    predictions: Sequence[tuple[Tensor, Tensor]],
) -> Tensor:
    """Return the confidence of a depth map.

    Args:
        depth: (B, H, W) metres, of the reference frame.
        K: intrinsics at H×W, pixels; poses and intrinsics are on the CPU.
        world_T_ref: pose of the reference frame.
        matching: (B, C, H/2, W/2) matching map of the reference frame.
        measurements: (matching map, pose) of each measurement frame, the best first.
        predictions: (depth (B, 1, H, W) metres, pose) of each earlier prediction; may be empty.

    Returns:
        (B, H, W) in 0…1. A pixel that no measurement frame has in view gets 0.

    Raises:
        WeightsError: if the coefficients are damaged.
    """
    cues, in_view = confidence_cues(depth, K, world_T_ref, matching, measurements, predictions)
    return _confidence(cues, in_view, depth.shape[1:])


def confidence_cues(
    depth: Tensor,
    K: Tensor,
    world_T_ref: Tensor,
    matching: Tensor,
    measurements: Sequence[tuple[Tensor, Tensor]],
    predictions: Sequence[tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:
    """Return what confidence is estimated from; the arguments are those of `estimate_confidence`.

    Returns:
        The cues (B, F, h, w) in the order of `CUES`, and which cells a measurement frame has in view (B, h, w).
    """
    measurements = measurements[:MAX_MEASUREMENTS]
    geometry = confidence_geometry(K, world_T_ref, [T for _, T in measurements], [T for _, T in predictions])
    return _cues(
        depth,
        matching,
        [others for others, _ in measurements],
        [past for past, _ in predictions],
        ConfidenceGeometry(*(part.to(depth.device) for part in geometry)),
    )


def confidence_geometry(
    K: Tensor, world_T_ref: Tensor, world_T_meas: Sequence[Tensor], world_T_past: Sequence[Tensor]
) -> ConfidenceGeometry:
    """Return the geometry of intrinsics (B, 3, 3) and poses (B, 4, 4), worked out on the CPU in float64."""
    intrinsics, ref = K.double().numpy(), world_T_ref.double().numpy()

    def projections(matrix: np.ndarray, poses: Sequence[Tensor]) -> Tensor:
        found = [matrix @ (np.linalg.inv(pose.double().numpy()) @ ref)[:, :3] for pose in poses]
        stacked = np.stack(found) if found else np.zeros((0, len(ref), 3, 4))
        return torch.from_numpy(stacked.astype(np.float32))

    return ConfidenceGeometry(
        torch.from_numpy(np.linalg.inv(intrinsics).astype(np.float32)),
        projections(np.diag((0.5, 0.5, 1.0)) @ intrinsics, world_T_meas),
        projections(intrinsics, world_T_past),
    )


def confidence_step(packed: Tensor, depth: Tensor, matching: Tensor, *maps: Tensor) -> tuple[Tensor]:
    """Confidence as a CUDA graph can hold it.

    Args:
        packed: of `ConfidenceGeometry`, for M measurement frames and MAX_PREDICTIONS predictions.
        depth: (B, H, W) metres.
        matching: (B, C, H/2, W/2) of the reference frame.
        maps: matching map of each measurement frame, then each earlier prediction (B, 1, H, W).
    """
    frames = len(maps) - MAX_PREDICTIONS
    cues, in_view = _cues(depth, matching, maps[:frames], maps[frames:], ConfidenceGeometry.unpacked(packed, frames))
    return (_confidence(cues, in_view, depth.shape[1:]),)


def _cues(
    depth: Tensor,
    matching: Tensor,
    measurements: Sequence[Tensor],
    predictions: Sequence[Tensor],
    geometry: ConfidenceGeometry,
) -> tuple[Tensor, Tensor]:
    """`confidence_cues` from maps and geometry, without a wait of the host."""
    middle = STEP // 2
    cells = depth[:, None, middle::STEP, middle::STEP].float()  # (B, 1, h, w)
    size = cells.shape[-2:]
    x, y, one = pixel_grid(*size, like=cells)
    rays = geometry.to_ray @ torch.stack((x * STEP + middle, y * STEP + middle, one))  # (B, 3, hw)
    agreement, confirmed = _agreement(cells, rays, predictions, geometry.predictions)
    reference = matching[:, :, middle // 2 :: STEP // 2, middle // 2 :: STEP // 2].float()
    inverse_depth = 1.0 / cells.flatten(2)
    # Plain numbers, since a tensor of them would have to be sent to the device first.
    inverse_depths = torch.cat([inverse_depth * factor for factor in PLANES], dim=1)  # (B, P, hw)
    matched = match_at_pixels(
        inverse_depths,
        reference.flatten(2),
        ((others, P[..., :3] @ rays, P[..., 3]) for others, P in zip(measurements, geometry.measurements, strict=True)),
    )
    similarity, count = (part.view(-1, len(PLANES), *size) for part in matched)
    cues = {"agreement": agreement, "unconfirmed": (~confirmed).float(), "edge": _edge(cells)}
    means = NeighbourhoodMeans(similarity, count, max(NEIGHBOURHOODS))
    for side in NEIGHBOURHOODS:
        near = means.over(side)  # (B, P, h, w)
        planes = near.split(1, dim=1)
        weights = torch.softmax(near * SHARPNESS, dim=1).split(1, dim=1)
        cues[f"similarity_{side}"] = planes[0]
        cues[f"fine_peak_{side}"] = planes[0] - torch.maximum(*(planes[i] for i in FINE))
        cues[f"coarse_peak_{side}"] = planes[0] - torch.maximum(*(planes[i] for i in COARSE))
        cues[f"shift_{side}"] = _weighted_sum(weights, [abs(math.log(factor)) for factor in PLANES])
    return torch.cat([cues[name] for name in CUES], dim=1), count[:, 0] > 0


def _confidence(cues: Tensor, in_view: Tensor, size: Sequence[int]) -> Tensor:
    coefficients = load_coefficients(COEFFICIENTS)
    confidence = torch.sigmoid(_weighted_sum(cues.split(1, dim=1), coefficients.weights) + coefficients.bias)
    fine = functional.interpolate(confidence, size, mode="bilinear", align_corners=False)
    return (fine * functional.interpolate(in_view[:, None].float(), size))[:, 0]


def _weighted_sum(maps: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = torch.zeros_like(maps[0])
    for part, weight in zip(maps, weights, strict=True):
        total = torch.add(total, part, alpha=weight)
    return total


def compiled_confidence(
    depth: Tensor,
    K: Tensor,
    world_T_ref: Tensor,
    matching: Tensor,
    measurements: Sequence[tuple[Tensor, Tensor]],
    predictions: Sequence[tuple[Tensor, Tensor]],
) -> Tensor:
    """As `estimate_confidence`, on a CPU with numba: half the work, and no threads woken but those of the kernels."""
    from dvmvs_core.runtime import confidence_kernels as kernels
    from dvmvs_core.runtime.reprojection_kernels import agree_rows
    from dvmvs_core.runtime.step_geometry import step_geometry
    from dvmvs_core.runtime.sweep import CompiledSweep
    from dvmvs_core.runtime.threads import parallel_rows

    planes, sides = np.array(PLANES, np.float32), np.array(NEIGHBOURHOODS)
    weights, bias = _weight_table(load_coefficients(COEFFICIENTS))
    middle, size, views = STEP // 2, matching.shape[-2:], measurements[:MAX_MEASUREMENTS]
    geometry = step_geometry(world_T_ref, [pose for _, pose in views], K, None, size, exact_sampling=True)
    confidence = torch.empty_like(depth)
    for b in range(len(depth)):
        one, camera = depth[b].contiguous().numpy(), K[b].contiguous().numpy()
        h, w = (len(range(middle, pixels, STEP)) for pixels in one.shape)
        agreement = np.zeros((h, w, 2), np.float32)
        for past, world_T_cam in predictions:
            past_T_ref = np.linalg.inv(world_T_cam[b].double().numpy()) @ world_T_ref[b].double().numpy()
            earlier = (past[b, 0].contiguous().numpy(), past_T_ref.astype(np.float32), camera)
            parallel_rows(agree_rows, h, one, STEP, *earlier, np.float32(AGREEMENT_SCALE), agreement)
        of_one = slice(b, b + 1)
        sweep = CompiledSweep(
            matching[of_one],
            [others[of_one] for others, _ in views],
            geometry.homographies[:, of_one],
            geometry.translations[:, of_one],
        )
        matched = sweep.cosines(one, planes, start=middle // 2, step=STEP // 2)
        sums, estimated = np.empty((h + 1, w + 1, 2 * len(PLANES)), np.float32), np.empty((h, w, 2), np.float32)
        kernels.sum_above_left(*(part[0].permute(1, 2, 0).numpy() for part in matched), sums)
        rule = (planes, FINE, COARSE, sides, np.float32(SHARPNESS), EDGE_CELLS, weights, bias)
        parallel_rows(kernels.estimate_confidence_rows, h, one, STEP, sums, agreement, *rule, estimated)
        parallel_rows(kernels.confidence_rows, len(one), estimated, confidence[b].numpy())
    return confidence


@functools.cache
def load_coefficients(path: Path, cues: tuple[str, ...] = CUES) -> Coefficients:
    """Read the coefficients of some cues; once for each file.

    Raises:
        WeightsError: if the file is missing, or is of other cues.
    """
    with foreign(f"{path} must hold the coefficients of confidence", WeightsError, "; install it again"):
        stored = json.loads(path.read_text())
        bias, weights = float(stored["bias"]), {name: float(value) for name, value in stored["weights"].items()}
    if set(weights) != set(cues):
        raise WeightsError(
            f"{path} must weigh {', '.join(cues)}; got {', '.join(weights)}. Run dvmvs weights calibrate"
        )
    return Coefficients(bias, tuple(weights[name] for name in cues))


def _weight_table(coefficients: Coefficients) -> tuple[np.ndarray, np.float32]:
    """The weights as `confidence_kernels.estimate_confidence_rows` reads them, and the bias."""
    named = dict(zip(CUES, coefficients.weights, strict=True))
    cues = ("similarity", "fine_peak", "coarse_peak", "shift")
    rows = [[named.get(f"{cue}_{side}", 0.0) for cue in cues] for side in NEIGHBOURHOODS]
    rows.append([named["agreement"], named["unconfirmed"], named["edge"], 0.0])
    return np.array(rows, np.float32), np.float32(coefficients.bias)


def _agreement(
    cells: Tensor, rays: Tensor, predictions: Sequence[Tensor], projections: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean agreement (B, 1, h, w) with the earlier predictions that have a point in view, and whether one has."""
    total = count = torch.zeros_like(cells)
    points = rays * cells.flatten(2)
    for depth, P in zip(predictions, projections, strict=True):
        pixels = P[..., :3] @ points + P[..., 3:]
        z = pixels[:, 2]
        grid, in_view = sampling_grid(pixels[:, :2, None], z[:, None], depth.shape[-2:])
        past = functional.grid_sample(depth.float(), grid, mode="nearest", align_corners=True)[:, 0, 0]
        disagreement = (past.clamp(min=1e-3).log() - z.clamp(min=1e-3).log()).abs()
        agreement = torch.exp(-disagreement / AGREEMENT_SCALE) * in_view[:, 0]
        total, count = total + agreement.view(cells.shape), count + in_view.view(cells.shape)
    return total / count.clamp(min=1.0), count > 0


def _edge(cells: Tensor) -> Tensor:
    """Logarithm of the largest depth nearby over the smallest."""
    logarithm = cells.log()
    extremes = torch.cat((logarithm, -logarithm), dim=1)
    for kernel in ((1, EDGE_CELLS), (EDGE_CELLS, 1)):
        extremes = functional.max_pool2d(extremes, kernel, 1, (kernel[0] // 2, kernel[1] // 2))
    return extremes.sum(dim=1, keepdim=True)
