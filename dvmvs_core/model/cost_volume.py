# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Plane sweep: how well each depth hypothesis explains the measurement frames.

For every pixel p of the reference frame and every fronto-parallel plane at depth d, the measurement frame is
sampled where the plane's point would be seen, and compared with the reference frame:

    q = K R K⁻¹ p + K t / d        cost(d, p) = mean over channels of ref(p) · meas(q_xy / q_z)

with R, t of meas_T_ref and K at half resolution. Higher = better match.

Symbols: B batch, C channels of the matching maps, D depth hypotheses (plane 0 is the FARTHEST), h×w half
resolution.
Source: Düzçeker et al., "DeepVideoMVS", CVPR 2021, section 3.1; Collins, "Plane sweep", CVPR 1996. Quirks of
the public implementation that released weights depend on are kept and pinned by
test_convention_model_cost_volume.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dvmvs_core.model.pinhole import inverse, pixel_grid, scale_intrinsics
from dvmvs_core.model.warping import warp_to_rays

# Planes sampled at once: few enough for the samples to stay in cache, which on CPUs beats all at once.
_PLANES_AT_ONCE = 4
# On a GPU, so many that the samples take 64 MiB: all 64 planes of the paper would take 160.
_SAMPLES_AT_ONCE = 2**24


def inverse_depth_planes(min_depth_m: float, max_depth_m: float, hypotheses: int) -> Tensor:
    """Inverse depths (D,) in 1/m, evenly spaced from 1/max_depth_m (plane 0) up to 1/min_depth_m."""
    # On the CPU even in an outline of a network: torch takes seconds to import what plans a linspace.
    return torch.linspace(1 / max_depth_m, 1 / min_depth_m, hypotheses, dtype=torch.float64, device="cpu").float()


def cost_volume(
    reference: Tensor,
    measurements: Sequence[Tensor],
    world_T_ref: Tensor,
    world_T_meas: Sequence[Tensor],
    K: Tensor,
    inverse_depths: Tensor,
    mask_out_of_view: bool = False,
    exact_sampling: bool = False,
) -> Tensor:
    """Cost volume of a reference frame, averaged over its measurement frames.

    Differentiable in the matching maps.

    Args:
        reference: Matching map of the reference frame, (B, C, h, w).
        measurements: Matching maps of the measurement frames, each (B, C, h, w); at least one.
        world_T_ref: Pose of the reference frame, (B, 4, 4).
        world_T_meas: Poses of the measurement frames, each (B, 4, 4).
        K: Intrinsics at full resolution, (B, 3, 3).
        inverse_depths: (D,) in 1/m.
        mask_out_of_view: Leave samples that a measurement frame cannot see out of the mean. Otherwise, as
            published, samples out of view count as zeros and samples behind the camera are taken.
        exact_sampling: Sample where q points, instead of at the published u·(w-1)/w.

    Returns:
        (B, D, h, w) float32; higher = better match.
    """
    if not measurements:
        raise ValueError("a cost volume needs at least one measurement frame; got none")
    sampled_size = None if exact_sampling else reference.shape[-2:]
    geometry = sweep_geometry(world_T_ref, world_T_meas, K, sampled_size)
    return plane_sweep(reference, measurements, *geometry, inverse_depths, mask_out_of_view)


def plane_sweep(
    reference: Tensor,
    measurements: Sequence[Tensor],
    homographies: Sequence[Tensor],
    translations: Sequence[Tensor],
    inverse_depths: Tensor,
    mask_out_of_view: bool,
) -> Tensor:
    """`cost_volume` from the geometry of the sweep; on a GPU without a wait of the host.

    Args:
        reference: (B, C, h, w) matching map of the reference frame.
        measurements: (B, C, h, w) of each measurement frame.
        homographies: (B, 3, 3) of each, from `sweep_geometry`.
        translations: (B, 3) of each, from there too.
        inverse_depths: (D,) in 1/m, on the device of the maps.
        mask_out_of_view: as in `cost_volume`.
    """
    batch, channels, height, width = reference.shape
    at_once = _PLANES_AT_ONCE if reference.device.type == "cpu" else _SAMPLES_AT_ONCE // reference.numel()
    chunks = inverse_depths.split(max(1, at_once))
    with torch.autocast(reference.device.type, enabled=False):
        own = reference.float().view(batch, channels, 1, -1)
        pixels = pixel_grid(height, width, like=own)
        total = count = 0.0
        for measurement, homography, translation in zip(measurements, homographies, translations, strict=True):
            costs, in_view = [], []
            for planes in chunks:
                warped, visible = warp_to_rays(
                    measurement.float(), homography @ pixels, translation, planes.view(1, -1, 1)
                )  # (B, C, d, hw)
                costs.append((own * warped).mean(dim=1) * (visible if mask_out_of_view else 1))  # (B, d, hw)
                in_view.append(visible)
            total = total + torch.cat(costs, dim=1)
            count = count + torch.cat(in_view, dim=1) if mask_out_of_view else count + 1
        mean = total / (count.clamp(min=1) if mask_out_of_view else count)
        return mean.view(batch, -1, height, width)


def sweep_geometry(
    world_T_ref: Tensor, world_T_meas: Sequence[Tensor], K: Tensor, published_size: tuple[int, int] | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Return K R K⁻¹ (B, 3, 3) and K t (B, 3), at half resolution, of the way to each measurement frame.

    Args:
        world_T_ref: Pose of the reference frame, (B, 4, 4).
        world_T_meas: Poses of the measurement frames, each (B, 4, 4).
        K: Intrinsics at full resolution, (B, 3, 3).
        published_size: (h, w) of the matching maps, to sample at the published u·(w-1)/w and v·(h-1)/h; None to
            sample where q points.
    """
    with torch.autocast(K.device.type, enabled=False):
        half_K = scale_intrinsics(K.float(), 0.5)
        to_ray = inverse(half_K)
        to_pixels = half_K
        if published_size is not None:
            scales = [1 - 1 / side for side in reversed(published_size)]
            to_pixels = torch.cat([half_K[:, :1] * scales[0], half_K[:, 1:2] * scales[1], half_K[:, 2:]], dim=1)
        meas_T_ref = [inverse(pose.float()) @ world_T_ref.float() for pose in world_T_meas]
        homographies = [to_pixels @ transform[:, :3, :3] @ to_ray for transform in meas_T_ref]
        return homographies, [(to_pixels @ transform[:, :3, 3:])[..., 0] for transform in meas_T_ref]
