# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`base` over the keyframes of one camera."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvmvs_core.config import preset
from dvmvs_core.matching.base_keyframes import BaseKeyframes
from dvmvs_core.model.base import BaseNet
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.training.augmentation import TrainingClip
from dvmvs_core.training.base_passes import base_predictions

HEIGHT, WIDTH, FX, STEP_M, SHIFT = 64, 96, 80.0, 0.15, 6
FRAMES = 5


@pytest.fixture(scope="module")
def network() -> BaseNet:
    torch.manual_seed(0)
    built = build_network(preset("base", height=HEIGHT, width=WIDTH, widths=(8, 8, 8, 8), upsampling_width=8)).eval()
    # Without this the memory would change nothing.
    torch.nn.init.normal_(built.plane_logits.weight, std=0.3)
    return built


@pytest.fixture(scope="module")
def clip() -> TrainingClip:
    """A textured wall at 2 m; the camera moves right, 6 pixels a frame."""
    generator = torch.Generator().manual_seed(1)
    wide = torch.rand(1, 3, HEIGHT, WIDTH + SHIFT * FRAMES, generator=generator)
    wide = 3 * torch.nn.functional.avg_pool2d(wide, 5, 1, 2) - 1.5
    images = torch.stack([wide[..., SHIFT * t : SHIFT * t + WIDTH] for t in range(FRAMES)], dim=1)
    world_T_cam = torch.eye(4).repeat(1, FRAMES, 1, 1)
    world_T_cam[0, :, 0, 3] = STEP_M * torch.arange(FRAMES)
    K = torch.tensor([[[FX, 0.0, 47.0], [0.0, FX, 31.0], [0.0, 0.0, 1.0]]])
    return TrainingClip(images, torch.full((1, FRAMES, HEIGHT, WIDTH), FX * STEP_M / SHIFT), world_T_cam, K)


def arguments(clip: TrainingClip, frame: int):
    return clip.image[:, frame], clip.K[0].double().numpy(), clip.world_T_cam[0, frame].double().numpy()


def test_it_does_at_inference_what_is_trained(network, clip) -> None:
    """Frames, hints and memory are those of a clip of training, where all past frames are worth measuring against."""
    keyframes = BaseKeyframes(network)
    assert keyframes.step(*arguments(clip, 0)) is None
    with torch.no_grad():
        expected = [step.prediction for step in base_predictions(network, clip, measurement_frames=4)]
    for frame, theirs in enumerate(expected, start=1):
        ours = keyframes.step(*arguments(clip, frame))
        torch.testing.assert_close(ours.logits, theirs.logits, atol=2e-3, rtol=1e-3)


def test_only_the_best_views_are_measured_against(network, clip) -> None:
    one, all_of_them = (BaseKeyframes(network, views=views) for views in (1, 4))
    for frame in range(3):
        one.step(*arguments(clip, frame)), all_of_them.step(*arguments(clip, frame))
    few, many = (keyframes.step(*arguments(clip, 3)) for keyframes in (one, all_of_them))
    assert (few.logits - many.logits).abs().max() > 1e-3


def test_a_frame_between_keyframes_changes_nothing(network, clip) -> None:
    plain, interrupted = BaseKeyframes(network), BaseKeyframes(network)
    assert interrupted.predict_without_update(*arguments(clip, 0)) is None
    for frame in range(4):
        expected, actual = plain.step(*arguments(clip, frame)), interrupted.step(*arguments(clip, frame))
        between = interrupted.predict_without_update(*arguments(clip, frame))
        assert between.depth.shape == (1, HEIGHT, WIDTH)
    torch.testing.assert_close(actual.logits, expected.logits)


def test_reset_forgets_the_past(network, clip) -> None:
    fresh, used = BaseKeyframes(network), BaseKeyframes(network)
    for frame in range(3):
        used.step(*arguments(clip, frame))
    used.reset()
    assert used.step(*arguments(clip, 3)) is None and fresh.step(*arguments(clip, 3)) is None
    torch.testing.assert_close(used.step(*arguments(clip, 4)).logits, fresh.step(*arguments(clip, 4)).logits)


def test_past_keyframes_that_see_nothing_in_common_still_give_depth(network, clip) -> None:
    """The camera has turned round: the latest frame is taken, and nothing matches."""
    keyframes = BaseKeyframes(network)
    for frame in range(3):
        keyframes.step(*arguments(clip, frame))
    image, K, world_T_cam = arguments(clip, 3)
    away = world_T_cam @ np.diag([-1.0, 1.0, -1.0, 1.0])
    prediction = keyframes.step(image, K, away)
    assert prediction.depth.isfinite().all()
