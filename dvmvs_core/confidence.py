# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How far a predicted depth can be trusted, pixel by pixel: the probability that it is within 10 % of the truth.

A logistic regression on cues that do not come from the network's own word. Agreement: the point of a pixel, seen from
the cameras of the last predictions, lies where those predictions said. Matching: in the measurement frames the point
looks as it does here, and more so than points nearer and farther on the same ray, which is a plane sweep about the
prediction. One patch says little, so matching is also averaged over neighbourhoods. Edges: depth that changes at once
is wrong on one side. All is worked out at a quarter of the resolution.

The coefficients lie in weights/confidence.json; `dvmvs weights calibrate` fits them on synthetic worlds.

Symbols: B batch, F cues, P planes, H×W network resolution, h×w a quarter of it, K intrinsics (B, 3, 3), poses
world_T_cam (B, 4, 4).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.errors import WeightsError
from dvmvs_core.foreign import foreign
from dvmvs_core.model.intrinsics import pixel_grid, scale_intrinsics
from dvmvs_core.model.ray_matching import NeighbourhoodMeans, look_up, match_along_rays

WITHIN = 1.1
"""Ratio of prediction and truth, the larger by the smaller, up to which a depth counts as right."""

COEFFICIENTS = Path(__file__).parent / "weights" / "confidence.json"

STEP = 4
"""Pixels of the depth map from one cell to the next."""

PLANES = (1.0, 0.35, 0.5, 0.7, 0.85, 1.18, 1.4, 1.9, 2.7)
"""Inverse depths that are matched, as factors of the predicted one, which comes first."""

FINE, COARSE = (4, 5), (3, 6)
"""The planes beside the prediction, and the next ones."""

NEIGHBOURHOODS = (3, 5, 9)
"""Cells a side over which matching is averaged."""

SHARPNESS = 12.0
"""Weight of a plane in the mean shift grows by e for each 1 / so much of similarity."""

AGREEMENT_SCALE = 0.15
"""Difference of the logarithms of two depths at which agreement has fallen to 1/e."""

EDGE_CELLS = 7
"""Cells a side in which depth edges are looked for."""

MOST_MEASUREMENTS = 3
"""Measurement frames that are matched, the best first: more cost time and say little more."""

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


def choose_confidence(device: torch.device) -> Callable[..., Tensor]:
    """Return the fastest function with the arguments and the result of `estimate_confidence` for a device."""
    if device.type == "cpu":
        try:
            import dvmvs_core.runtime.confidence_kernels  # noqa: F401
        except ImportError:  # numba is missing
            return estimate_confidence
        return compiled_confidence
    return estimate_confidence


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
        K: intrinsics at H×W, pixels.
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
    coefficients = load_coefficients(COEFFICIENTS)
    log_odds = (cues * cues.new_tensor(coefficients.weights).view(1, -1, 1, 1)).sum(dim=1, keepdim=True)
    confidence = torch.sigmoid(log_odds + coefficients.bias)
    fine = functional.interpolate(confidence, depth.shape[1:], mode="bilinear", align_corners=False)
    return (fine * functional.interpolate(in_view[:, None].float(), depth.shape[1:]))[:, 0]


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
    middle = STEP // 2
    cells = depth[:, None, middle::STEP, middle::STEP].float()  # (B, 1, h, w)
    size = cells.shape[-2:]
    pixels = pixel_grid(*size, like=cells) * cells.new_tensor((STEP, STEP, 1.0)).view(3, 1)
    pixels[:2] += middle
    rays = torch.linalg.inv(K) @ pixels  # (B, 3, hw)
    agreement, confirmed = _agreement(cells, rays, K, world_T_ref, predictions)
    reference = matching[:, :, middle // 2 :: STEP // 2, middle // 2 :: STEP // 2].float()
    inverse_depths = cells.new_tensor(PLANES).view(1, -1, 1) / cells.flatten(2)  # (B, P, hw)
    half_K = scale_intrinsics(K, 0.5)
    matched = match_along_rays(
        rays, inverse_depths, half_K, world_T_ref, reference.flatten(2), measurements[:MOST_MEASUREMENTS]
    )
    similarity, seen = (part.view(-1, len(PLANES), *size) for part in matched)
    cues = {"agreement": agreement, "unconfirmed": (~confirmed).float(), "edge": _edge(cells)}
    shifts = torch.log(cells.new_tensor(PLANES)).abs().view(1, -1, 1, 1)
    means = NeighbourhoodMeans(similarity, seen, max(NEIGHBOURHOODS))
    for side in NEIGHBOURHOODS:
        near = means.over(side)  # (B, P, h, w)
        here = near[:, :1]
        cues[f"similarity_{side}"] = here
        cues[f"fine_peak_{side}"] = here - near[:, FINE].amax(dim=1, keepdim=True)
        cues[f"coarse_peak_{side}"] = here - near[:, COARSE].amax(dim=1, keepdim=True)
        cues[f"shift_{side}"] = (torch.softmax(near * SHARPNESS, dim=1) * shifts).sum(dim=1, keepdim=True)
    return torch.cat([cues[name] for name in CUES], dim=1), seen[:, 0] > 0


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
    from dvmvs_core.runtime.bands import in_bands
    from dvmvs_core.runtime.geometry import step_geometry
    from dvmvs_core.runtime.reprojection_kernels import agree_rows
    from dvmvs_core.runtime.sweep import CompiledSweep

    planes, sides = np.array(PLANES, np.float32), np.array(NEIGHBOURHOODS)
    weights, bias = _weight_table(load_coefficients(COEFFICIENTS))
    middle, size, views = STEP // 2, matching.shape[-2:], measurements[:MOST_MEASUREMENTS]
    geometry = step_geometry(world_T_ref, [pose for _, pose in views], K, None, size, exact_sampling=True)
    confidence = torch.empty_like(depth)
    for b in range(len(depth)):
        one, camera = depth[b].contiguous().numpy(), K[b].contiguous().numpy()
        h, w = (len(range(middle, pixels, STEP)) for pixels in one.shape)
        agreement = np.zeros((h, w, 2), np.float32)
        for past, world_T_cam in predictions:
            past_T_ref = np.linalg.inv(world_T_cam[b].double().numpy()) @ world_T_ref[b].double().numpy()
            earlier = (past[b, 0].contiguous().numpy(), past_T_ref.astype(np.float32), camera)
            in_bands(agree_rows, h, one, STEP, *earlier, np.float32(AGREEMENT_SCALE), agreement)
        of_one = slice(b, b + 1)
        sweep = CompiledSweep(
            matching[of_one],
            [looks[of_one] for looks, _ in views],
            geometry.homographies[:, of_one],
            geometry.translations[:, of_one],
        )
        matched = sweep.cosines(one, planes, start=middle // 2, step=STEP // 2)
        sums, rated = np.empty((h + 1, w + 1, 2 * len(PLANES)), np.float32), np.empty((h, w, 2), np.float32)
        kernels.sum_above_left(*(part[0].permute(1, 2, 0).numpy() for part in matched), sums)
        rule = (planes, FINE, COARSE, sides, np.float32(SHARPNESS), EDGE_CELLS, weights, bias)
        in_bands(kernels.rate_rows, h, one, STEP, sums, agreement, *rule, rated)
        in_bands(kernels.confidence_rows, len(one), rated, confidence[b].numpy())
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
    """The weights as `confidence_kernels.rate_rows` reads them, and the bias."""
    named = dict(zip(CUES, coefficients.weights, strict=True))
    cues = ("similarity", "fine_peak", "coarse_peak", "shift")
    rows = [[named.get(f"{cue}_{side}", 0.0) for cue in cues] for side in NEIGHBOURHOODS]
    rows.append([named["agreement"], named["unconfirmed"], named["edge"], 0.0])
    return np.array(rows, np.float32), np.float32(coefficients.bias)


def _agreement(
    cells: Tensor, rays: Tensor, K: Tensor, world_T_ref: Tensor, predictions: Sequence[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Mean agreement (B, 1, h, w) with the earlier predictions that have a point in view, and whether one has."""
    total = count = torch.zeros_like(cells)
    points = _world_points(cells, rays, world_T_ref)
    for depth, world_T_cam in predictions:
        grid, z, in_view = look_up(points, K, world_T_cam, depth.shape[-2:])
        seen = functional.grid_sample(depth.float(), grid, mode="nearest", align_corners=True)[:, 0, 0]
        disagreement = (seen.clamp(min=1e-3).log() - z.clamp(min=1e-3).log()).abs()
        agreement = torch.exp(-disagreement / AGREEMENT_SCALE) * in_view
        total, count = total + agreement.view(cells.shape), count + in_view.view(cells.shape)
    return total / count.clamp(min=1.0), count > 0


def _edge(cells: Tensor) -> Tensor:
    """Logarithm of the largest depth nearby over the smallest."""
    logarithm = cells.log()
    extremes = torch.cat((logarithm, -logarithm), dim=1)
    for kernel in ((1, EDGE_CELLS), (EDGE_CELLS, 1)):
        extremes = functional.max_pool2d(extremes, kernel, 1, (kernel[0] // 2, kernel[1] // 2))
    return extremes.sum(dim=1, keepdim=True)


def _world_points(cells: Tensor, rays: Tensor, world_T_cam: Tensor) -> Tensor:
    """Points (B, 3, hw) in the world of depths (B, 1, h, w) along rays."""
    return world_T_cam[:, :3, :3] @ (rays * cells.flatten(2)) + world_T_cam[:, :3, 3:]
