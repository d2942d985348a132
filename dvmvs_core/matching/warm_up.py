# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Compiling the loops of matching while something else starts, such as the network's own compiler.

On an empty cache that takes seconds, half of them in LLVM without the interpreter's lock. Who needs a loop meanwhile
waits until it is compiled.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from dvmvs_core.captured_steps import compiled_propagate_fuse_sharpen
from dvmvs_core.config import MatchingConfig
from dvmvs_core.matching.descriptors import Describer
from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.matching.matcher import Matcher
from dvmvs_core.matching.pose_correction import corrected_views
from dvmvs_core.matching.regularise import unregularised
from dvmvs_core.matching.self_calibration import SelfCalibration
from dvmvs_core.model.lite0 import LEVEL_CHANNELS

_SIDE = 32


@functools.cache
def start_compiling(config: MatchingConfig) -> threading.Thread:
    """Compile what matching by a configuration needs, or load it from disk, in a thread; once a process."""
    thread = threading.Thread(target=_compile, args=(config,), name="dvmvs-compiler")
    thread.start()
    return thread


def _compile(config: MatchingConfig) -> None:
    try:
        match_noise(config)
    except RuntimeError as error:
        # What a process says of new work when it ends, as after Ctrl-C; it needs no loops any more.
        if "after shutdown" not in str(error) and "interpreter shutdown" not in str(error):
            raise


def match_noise(config: MatchingConfig) -> None:
    """Match views of a few pixels, which calls every loop."""
    matcher = Matcher(config, Describer(_blank_maps), unregularised)
    noise = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
    K = np.array(((_SIDE, 0, _SIDE / 2), (0, _SIDE, _SIDE / 2), (0, 0, 1)), dtype=np.float64)
    depth = np.full((_SIDE, _SIDE), 2.0, np.float32)
    past = []
    for i in range(3):
        world_T_cam = np.eye(4)
        world_T_cam[0, 3] = 0.1 * i
        view = MatchingView(matcher.describe(noise), K, world_T_cam)
        past.append(replace(view, matched=matcher.match(view, past, depth)))
    _correct_noise(view)
    _fuse_noise(depth, noise)


def _fuse_noise(depth: np.ndarray, noise: np.ndarray) -> None:
    """Propagate, fuse and sharpen depth (H, W) twice, the second time with a past."""
    depth, image = torch.from_numpy(depth)[None], torch.from_numpy(noise).float()
    camera, past = (torch.eye(3)[None], torch.eye(4)[None]), []
    for _ in range(2):
        past.append(compiled_propagate_fuse_sharpen(depth, torch.ones_like(depth), image, *camera, past)[-1])


def _correct_noise(view: MatchingView) -> None:
    """Correct a view with the reference's image and a wrong pose, so that every loop of pose correction is compiled."""
    side = 3 * _SIDE
    noise = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    smooth = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    K = np.array(((2 * side, 0, side), (0, 2 * side, side), (0, 0, 1)), dtype=np.float64)
    reference = replace(view, descriptors=replace(view.descriptors, grey=smooth), K=K, world_T_cam=np.eye(4))
    world_T_cam = np.eye(4)
    world_T_cam[:3, :3] = cv2.Rodrigues(np.array((0.01, -0.02, 0.0)))[0]
    views = [replace(reference, world_T_cam=world_T_cam)]
    prior = np.ones((side // 2, side // 2), np.float32)
    corrected_views(reference, views, prior, np.zeros_like(prior), SelfCalibration())


def _blank_maps(pixels: Tensor) -> tuple[Tensor, ...]:
    return tuple(
        torch.zeros(1, channels, max(1, _SIDE // stride), max(1, _SIDE // stride))
        for channels, stride in zip(LEVEL_CHANNELS, (4, 8, 16, 32), strict=True)
    )
