# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Keyframes of a rendered world, matched one after the other by whichever matcher."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch

from dvmvs_core.config import MATCHING_PRESETS
from dvmvs_core.matching.descriptors import Describer
from dvmvs_core.matching.keyframe import MatchedDepth, MatchingView, on_host
from dvmvs_core.matching.matcher import Matcher
from dvmvs_core.model.lite0 import load_lite0
from dvmvs_core.model.parts import lite0_part, regulariser_part
from dvmvs_core.model.regulariser import Regularised, load_regulariser
from dvmvs_core.synthetic.clips import SyntheticClips, clip_frame
from dvmvs_core.types import Frame


class Keyframe(NamedTuple):
    """A frame, and a network's depth (H, W) float32 metres of it, which is up to 40 % wrong."""

    frame: Frame
    network_depth: np.ndarray


def rendered_keyframes(size: tuple[int, int], count: int) -> list[Keyframe]:
    clip = SyntheticClips(*size, count, seed=3, textures=16, motion_blur=0.0).batch(1, 0)
    noise = np.random.default_rng(0)
    keyframes = []
    for index in range(count):
        truth = clip.depth[0, index].numpy()
        error = cv2.resize(noise.normal(size=(6, 8)).astype(np.float32), size[::-1])
        wrong = np.where(truth > 0, truth, 3) * np.exp(0.15 * error)
        keyframes.append(Keyframe(clip_frame(clip, index), np.clip(wrong, 0.3, 15).astype(np.float32)))
    return keyframes


def cpu_matcher(preset: str, size: tuple[int, int]) -> Matcher:
    """The CPU's matcher in float32, whatever the CPU computes in."""
    lite0, regulariser = lite0_part(load_lite0(), *size), regulariser_part(load_regulariser(), *size)

    def regularise(inputs):
        return Regularised(*regulariser.run(*inputs))

    return Matcher(MATCHING_PRESETS[preset], Describer(lite0.run), regularise)


def walk(matcher, keyframes: list[Keyframe], device="cpu") -> list[MatchedDepth]:
    """What the matcher finds for each keyframe, with those before as the past, as arrays."""
    past, found = [], []
    for frame, network_depth in keyframes:
        view = view_of(matcher, frame, device)
        matched = matcher.match(view, past, torch.from_numpy(network_depth).to(device))
        past.append(view.with_depth(matched.settled(1.05 * torch.as_tensor(matched.measured_depth))))
        found.append(matched.on_host())
    return found


def view_of(matcher, frame: Frame, device="cpu") -> MatchingView:
    image = torch.from_numpy(frame.image).float().to(device)
    return MatchingView(matcher.describe(image), frame.K.astype(np.float32), frame.world_T_cam.astype(np.float32))


def differences(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Relative."""
    return np.abs(on_host(found) / on_host(expected) - 1)
