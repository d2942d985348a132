# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A textured wall that a camera moves past: its images are exact, by the homography of a plane. A rendered room."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from camera_poses import pose_at

pytest.importorskip("numba")

from dvmvs_core.matching.descriptors import Describer
from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.model.lite0 import load_lite0
from dvmvs_core.model.parts import lite0_part
from dvmvs_core.synthetic.clips import SyntheticClips, clip_frame

HEIGHT, WIDTH = 96, 128
K = np.array(((110.0, 0, 63.5), (0, 110.0, 47.5), (0, 0, 1)))


@pytest.fixture(scope="session")
def wall():
    """Views of a wall at 2 m, the last one at the origin, the others up to 25 cm to the side."""
    rng = np.random.default_rng(5)
    texture = sum(
        cv2.resize(rng.uniform(0, 1, (size, size, 3)), (600, 600), interpolation=cv2.INTER_CUBIC)
        for size in (20, 60, 150)
    )
    texture = ((texture - texture.min()) / (texture.max() - texture.min()) * 255).astype(np.float32)
    distance_m, pixels_per_m = 2.0, 150.0
    images, poses = [], []
    for x, y in ((-0.25, 0.0), (0.2, 0.05), (-0.1, 0.15), (0.1, -0.2), (0.0, 0.0)):
        # Pixel to metres on the wall to pixel of the texture.
        to_wall = np.diag((distance_m, distance_m, 1.0)) @ np.linalg.inv(K)
        to_texture = np.array(((pixels_per_m, 0, 300), (0, pixels_per_m, 300), (0, 0, 1)))
        moved = np.array(((1, 0, x), (0, 1, y), (0, 0, 1)))
        image = cv2.warpPerspective(
            texture, to_texture @ moved @ to_wall, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        images.append(np.clip(image, 0, 255).astype(np.uint8))
        poses.append(pose_at(x, y))
    return SimpleNamespace(images=images, poses=poses, K=K, depth_m=distance_m)


@pytest.fixture(scope="session")
def describer():
    """Describes images of the wall, in float32."""
    return Describer(lite0_part(load_lite0(), HEIGHT, WIDTH).run)


@pytest.fixture(scope="session")
def posed_room():
    """Three views of a room, the last the reference with its depth (H, W), and exact poses."""
    size = (256, 320)
    clip = SyntheticClips(*size, 3, seed=3, textures=16, pose_noise=0.0, motion_blur=0.0).batch(1, 0)
    describe = Describer(lite0_part(load_lite0(), *size).run)
    frames = [clip_frame(clip, index) for index in range(3)]
    views = [MatchingView(describe(frame.image), frame.K, frame.world_T_cam) for frame in frames]
    depth = clip.depth[0, -1].numpy()
    assert (depth > 0).all()
    prior = depth[::4, ::4]
    known = {"depth": depth, "prior": prior, "nothing_agrees": np.zeros_like(prior)}
    return SimpleNamespace(views=views[:-1], reference=views[-1], describe=describe, **known)
