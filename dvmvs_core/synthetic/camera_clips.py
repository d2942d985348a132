# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Synthetic clips as an engine gets them: frame by frame, from a camera with defects."""

from __future__ import annotations

import numpy as np

from dvmvs_core.synthetic.clips import ClipBatch
from dvmvs_core.synthetic.defects import apply_defects, draw_defects
from dvmvs_core.types import Frame


def with_defects(clip: ClipBatch, random: np.random.Generator) -> ClipBatch:
    """Return a clip (B = 1) as a real camera would have recorded it: images of a renderer match too well."""
    image = apply_defects(clip.image.float() / 255, [draw_defects(random)])
    return clip._replace(image=(image * 255).round().clamp(0, 255).byte())


def clip_frame(clip: ClipBatch, index: int) -> Frame:
    """Return one of the frames of a clip (B = 1), a second apart."""
    world_T_cam = clip.world_T_cam[0, index].double().numpy()
    left, _, right = np.linalg.svd(world_T_cam[:3, :3])  # float32 is not quite a rotation
    world_T_cam = world_T_cam.copy()
    world_T_cam[:3, :3] = left @ right
    image = clip.image[0, index].permute(1, 2, 0).contiguous().numpy()
    return Frame(image, clip.K[0].double().numpy(), world_T_cam, stamp_ns=(index + 1) * 10**9, index=index)
