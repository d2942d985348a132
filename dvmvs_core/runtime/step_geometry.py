# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""All geometry of one step, worked out on the host and sent to the device as one tensor.

Symbols: B batch, M measurement frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class StepGeometry(NamedTuple):
    """What a step needs to know of poses and intrinsics, float32.

    Attributes:
        K: (B, 3, 3) intrinsics at full resolution.
        cam_T_previous: (B, 4, 4) from the last keyframe's camera to the current one.
        previous_T_cam: (B, 4, 4) its inverse.
        homographies: (M, B, 3, 3) K R K⁻¹ of the plane sweep, to the pixels that are sampled.
        translations: (M, B, 3) K t of the plane sweep.
    """

    K: Tensor
    cam_T_previous: Tensor
    previous_T_cam: Tensor
    homographies: Tensor
    translations: Tensor

    def packed(self) -> Tensor:
        """All of it as one tensor (B, numbers)."""
        batch = len(self.K)
        by_batch = [*self[:3], self.homographies.transpose(0, 1), self.translations.transpose(0, 1)]
        return torch.cat([x.reshape(batch, -1) for x in by_batch], dim=1)

    @classmethod
    def unpacked(cls, packed: Tensor, frames: int) -> StepGeometry:
        """What `packed` gave for that many measurement frames, as views."""
        K, cam_T_previous, previous_T_cam, homographies, translations = packed.split(
            (9, 16, 16, 9 * frames, 3 * frames), dim=1
        )
        return cls(
            K.reshape(-1, 3, 3),
            cam_T_previous.reshape(-1, 4, 4),
            previous_T_cam.reshape(-1, 4, 4),
            homographies.reshape(-1, frames, 3, 3).transpose(0, 1),
            translations.reshape(-1, frames, 3).transpose(0, 1),
        )


def step_geometry(
    world_T_ref: Tensor,
    world_T_meas: Sequence[Tensor],
    K: Tensor,
    previous_world_T_cam: Tensor | None,
    half_size: tuple[int, int],
    exact_sampling: bool,
) -> StepGeometry:
    """The geometry of one step.

    Args:
        world_T_ref: (B, 4, 4), like all that follow on the CPU.
        world_T_meas: (B, 4, 4) of each measurement frame.
        K: (B, 3, 3) at full resolution.
        previous_world_T_cam: (B, 4, 4) of the last keyframe; None where nothing is remembered.
        half_size: (h, w) of the matching maps.
        exact_sampling: as in `cost_volume`: without it, pixel u lands on u·(w-1)/w.
    """
    height, width = half_size
    ref, intrinsics = world_T_ref.double().numpy(), K.double().numpy()
    previous = ref if previous_world_T_cam is None else previous_world_T_cam.double().numpy()
    cam_T_previous = np.linalg.inv(ref) @ previous
    half_K = np.diag((0.5, 0.5, 1.0)) @ intrinsics
    sampled = np.eye(3) if exact_sampling else np.diag(((width - 1) / width, (height - 1) / height, 1.0))
    to_pixels = sampled @ half_K  # (B, 3, 3)
    meas_T_ref = np.stack([np.linalg.inv(T.double().numpy()) @ ref for T in world_T_meas])  # (M, B, 4, 4)
    homographies = to_pixels @ meas_T_ref[..., :3, :3] @ np.linalg.inv(half_K)
    translations = (to_pixels @ meas_T_ref[..., :3, 3:])[..., 0]
    arrays = (intrinsics, cam_T_previous, np.linalg.inv(cam_T_previous), homographies, translations)
    return StepGeometry(*(torch.from_numpy(a.astype(np.float32)) for a in arrays))
