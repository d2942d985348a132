# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which frame is measured against which, and what the memory is given."""

from __future__ import annotations

import pytest
import torch

from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.training.augmentation import prepare_clip
from dvmvs_core.training.passes import nearest_frames, predictions


@pytest.mark.parametrize(
    ("reference", "frames", "count", "expected"),
    [(0, 3, 2, [1, 2]), (1, 3, 2, [0, 2]), (2, 3, 2, [1, 0]), (3, 5, 1, [2]), (0, 2, 5, [1])],
)
def test_nearest_frames(reference: int, frames: int, count: int, expected: list[int]) -> None:
    assert nearest_frames(reference, frames, count) == expected


def test_pairwise_pass_equals_the_network_frame_by_frame(tiny, wall_clips) -> None:
    torch.manual_seed(0)
    network = build_network(tiny).eval()
    clip = prepare_clip(wall_clips(0))
    with torch.no_grad():
        ((pyramid, truth),) = predictions(network, clip, measurement_frames=2)
        features = [network.extract(clip.image[:, t]) for t in range(3)]
        for reference, measured in ((0, (1, 2)), (1, (0, 2)), (2, (1, 0))):
            alone = network(
                clip.image[:, reference],
                features[reference],
                [features[m].matching for m in measured],
                clip.world_T_cam[:, reference],
                [clip.world_T_cam[:, m] for m in measured],
                clip.K,
            )
            torch.testing.assert_close(
                pyramid.full.unflatten(0, (2, 3))[:, reference], alone.full, rtol=1e-4, atol=1e-4
            )
            assert torch.equal(truth.unflatten(0, (2, 3))[:, reference], clip.depth[:, reference])


@pytest.mark.parametrize("predicted_state", [False, True])
def test_recurrent_pass_skips_the_first_frame_and_looks_back_only(tiny, wall_clips, predicted_state: bool) -> None:
    torch.manual_seed(0)
    network = build_network(tiny.replace(network="fusionnet")).eval()
    batch = wall_clips(0, frames=4)
    with torch.no_grad():
        before = list(predictions(network, prepare_clip(batch), 2, predicted_state))
        batch.image[:, 3] = 255 - batch.image[:, 3]
        after = list(predictions(network, prepare_clip(batch), 2, predicted_state))
    assert len(before) == 3
    changed = [not torch.equal(old.full, new.full) for (old, _), (new, _) in zip(before, after, strict=True)]
    assert changed == [False, False, True]


def test_memory_of_the_first_frames_reaches_later_predictions(tiny, wall_clips) -> None:
    torch.manual_seed(0)
    network = build_network(tiny.replace(network="fusionnet"))
    clip = prepare_clip(wall_clips(0, frames=4))
    clip.image.requires_grad_(True)
    *_, (last, _) = predictions(network, clip, measurement_frames=1)
    last.full.sum().backward()
    assert clip.image.grad[:, 1].abs().max() > 0.0
