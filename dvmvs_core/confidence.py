"""How far a predicted depth can be trusted, pixel by pixel.

Two cues that do not come from the network's own word. Agreement: the point of a pixel, seen from the cameras of the
last predictions, lies where those predictions said. Matching: the measurement frames look alike there. Both are worked
out at half resolution, where the matching maps are, with one sample a pixel and frame: a small part of a plane sweep.

Symbols: B batch, H×W network resolution, h×w half of it, K intrinsics (B, 3, 3), poses world_T_cam (B, 4, 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from dvmvs_core.model.intrinsics import pixel_grid, scale_intrinsics

AGREEMENT_SCALE = 0.05
"""Relative depth disagreement at which agreement has fallen to 1/e."""

AGREEMENT_SHARE = 0.7
"""Weight of agreement; matching has the rest. Plain walls agree without matching, repeated patterns match wrongly."""


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
        matching: (B, C, h, w) matching map of the reference frame.
        measurements: (matching map, pose) of each measurement frame.
        predictions: (depth (B, 1, H, W) metres, pose) of each earlier prediction; may be empty.

    Returns:
        (B, H, W) in 0…1. A pixel that no measurement frame and no earlier prediction has in view gets 0.
    """
    half = depth[:, None, ::2, ::2]  # (B, 1, h, w): pixel x of half resolution is pixel 2x of full
    points = _world_points(half, scale_intrinsics(K, 0.5), world_T_ref)
    agreement = _mean_over_views(_agreement(points, K, *prediction) for prediction in predictions)
    similarity = _mean_over_views(
        _similarity(points, scale_intrinsics(K, 0.5), matching, *measurement) for measurement in measurements
    )
    confidence = (1.0 - AGREEMENT_SHARE) * similarity
    if predictions:
        confidence = confidence + AGREEMENT_SHARE * agreement
    confidence = confidence.view(half.shape)
    return functional.interpolate(confidence, depth.shape[1:], mode="bilinear", align_corners=False)[:, 0]


def _agreement(points: Tensor, K: Tensor, depth: Tensor, world_T_cam: Tensor) -> tuple[Tensor, Tensor]:
    """Agreement (B, hw) of points with another depth map, and where it has them in view."""
    grid, z, in_view = _look_up(points, K, world_T_cam, depth.shape[-2:])
    seen = functional.grid_sample(depth, grid, mode="nearest", align_corners=True)[:, 0, 0]
    disagreement = (seen - z).abs() / z.clamp(min=1e-6)
    return torch.exp(-disagreement / AGREEMENT_SCALE), in_view


def _similarity(
    points: Tensor, half_K: Tensor, reference: Tensor, measurement: Tensor, world_T_meas: Tensor
) -> tuple[Tensor, Tensor]:
    """Cosine (B, hw) of matching maps at the points, at least 0, and where the measurement frame has them in view."""
    grid, _, in_view = _look_up(points, half_K, world_T_meas, measurement.shape[-2:])
    warped = functional.grid_sample(measurement, grid, align_corners=True)[:, :, 0]  # (B, C, hw)
    return functional.cosine_similarity(reference.flatten(2), warped, dim=1).clamp(min=0.0), in_view


def _mean_over_views(views) -> Tensor | float:
    """Mean (B, hw) of (value, in view) pairs over the views that see a point; 0 where none does."""
    total = count = 0.0
    for value, in_view in views:
        total = total + value * in_view
        count = count + in_view.float()
    return total / count.clamp(min=1.0) if isinstance(count, Tensor) else total


def _world_points(depth: Tensor, K: Tensor, world_T_cam: Tensor) -> Tensor:
    """Points (B, 3, hw) in the world of a depth map (B, 1, h, w)."""
    rays = torch.linalg.inv(K) @ pixel_grid(*depth.shape[-2:], like=depth)
    return world_T_cam[:, :3, :3] @ (rays * depth.flatten(2)) + world_T_cam[:, :3, 3:]


def _look_up(points: Tensor, K: Tensor, world_T_cam: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Where a camera sees points (B, 3, N) of the world.

    Returns:
        Sampling grid (B, 1, N, 2) over its image of `size`, depth (B, N) in it, and which points are in view (B, N).
    """
    height, width = size
    cam_T_world = torch.linalg.inv(world_T_cam)
    pixels = K @ (cam_T_world[:, :3, :3] @ points + cam_T_world[:, :3, 3:])
    z = pixels[:, 2]
    span = pixels.new_tensor([width - 1, height - 1]).view(1, 2, 1) / 2
    grid = pixels[:, :2] / z[:, None].clamp(min=1e-6) / span - 1
    in_view = (z > 0) & (grid.abs() <= 1).all(dim=1)
    return grid.transpose(1, 2)[:, None], z, in_view
