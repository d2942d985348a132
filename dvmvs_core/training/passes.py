# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Forward passes over a clip: which frames are measured against which, and how the memory is carried along.

Symbols: B clips, T frames a clip, H×W the network's resolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dvmvs_core.model.cost_volume import cost_volume
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.model.encoder_decoder import DepthPyramid
from dvmvs_core.model.features import ImageFeatures
from dvmvs_core.model.hidden_state import lstm_depth_estimate, reproject_depth
from dvmvs_core.training.augmentation import TrainingClip

MEMORY_STRIDE = 32
"""Pixels of the image that one cell of the memory stands for."""


def predictions(
    network: PairNet | FusionNet, clip: TrainingClip, measurement_frames: int, predicted_state: bool = False
) -> Iterator[tuple[DepthPyramid, Tensor]]:
    """Predict the depth of every frame of a clip that has something to be measured against.

    Args:
        network: PairNet predicts all frames at once; FusionNet one after the other, all but the first.
        clip: B clips of T frames.
        measurement_frames: at most so many for each reference frame: the nearest in time for PairNet, the latest for
            FusionNet, which has seen no later ones.
        predicted_state: warp the hidden state with the depth predicted last, as at inference, instead of ground truth.

    Yields:
        Predicted depth and ground truth (N, H, W) of N reference frames.
    """
    if isinstance(network, FusionNet):
        yield from _recurrent_predictions(network, clip, measurement_frames, predicted_state)
    else:
        yield _pairwise_predictions(network, clip, measurement_frames)


def mirrored_predictions(
    network: PairNet, clip: TrainingClip, mirrored: Sequence[bool]
) -> Iterator[tuple[DepthPyramid, Tensor]]:
    """Predict the depth of every frame of a clip from one other, as the public code trains PairNet.

    Whatever the network sees after the comparison may be mirrored from left to right, which gives it new images of the
    same geometry. (Mirroring before would need another camera.)

    Args:
        network: a PairNet.
        clip: B clips of T frames; each frame is compared with the one nearest in time.
        mirrored: for each reference frame, whether to mirror.

    Yields:
        Predicted depth and ground truth (B, H, W) of one reference frame.
    """
    frames = clip.image.shape[1]
    features = _features(network, clip)
    pose, config = clip.world_T_cam.unbind(1), network.config
    for reference, mirror in enumerate(mirrored):
        (measured,) = nearest_frames(reference, frames, 1)
        costs = cost_volume(
            features[reference].matching,
            [features[measured].matching],
            pose[reference],
            [pose[measured]],
            clip.K,
            network.inverse_depths,
            mask_out_of_view=config.mask_out_of_view,
            exact_sampling=config.exact_sampling,
        )
        given = (*features[reference], costs, clip.image[:, reference], clip.depth[:, reference])
        *levels, costs, image, truth = (part.flip(-1) for part in given) if mirror else given
        pyramid, _ = network.decoder(image, network.encoder(ImageFeatures(*levels), costs))
        yield pyramid, truth


def nearest_frames(reference: int, frames: int, count: int) -> list[int]:
    """Return the `count` other frames of a clip that are nearest to a frame in time, earlier ones first."""
    others = [index for index in range(frames) if index != reference]
    return sorted(others, key=lambda index: (abs(index - reference), index))[:count]


def _pairwise_predictions(network: PairNet, clip: TrainingClip, measurement_frames: int) -> tuple[DepthPyramid, Tensor]:
    """Let every frame of a clip be a reference frame, so that no features are computed for measurement alone."""
    batch, frames = clip.image.shape[:2]
    features = network.extract(clip.image.flatten(0, 1))
    matching = features.matching.unflatten(0, (batch, frames))
    nearest = [nearest_frames(reference, frames, measurement_frames) for reference in range(frames)]
    chosen = list(zip(*nearest, strict=True))  # M times T frames

    def taken(part: Tensor, column: Sequence[int]) -> Tensor:
        # Frame by frame, since a list as an index would have to be sent to a GPU.
        return torch.stack([part[:, frame] for frame in column], dim=1).flatten(0, 1)

    pyramid = network(
        clip.image.flatten(0, 1),
        features,
        [taken(matching, column) for column in chosen],
        clip.world_T_cam.flatten(0, 1),
        [taken(clip.world_T_cam, column) for column in chosen],
        clip.K.repeat_interleave(frames, dim=0),
    )
    return pyramid, clip.depth.flatten(0, 1)


def _recurrent_predictions(
    network: FusionNet, clip: TrainingClip, measurement_frames: int, predicted_state: bool
) -> Iterator[tuple[DepthPyramid, Tensor]]:
    frames = clip.image.shape[1]
    features = _features(network, clip)
    pose = clip.world_T_cam.unbind(1)
    state = previous_pose = previous_depth = None
    for reference in range(1, frames):
        measured = range(reference - 1, max(reference - 1 - measurement_frames, -1), -1)
        if previous_pose is None:
            estimate = None
        elif predicted_state:
            estimate = lstm_depth_estimate(
                reproject_depth(previous_depth[:, None], previous_pose, pose[reference], clip.K)
            )
        else:
            estimate = clip.depth[:, reference, None, ::MEMORY_STRIDE, ::MEMORY_STRIDE]
        pyramid, state = network(
            clip.image[:, reference],
            features[reference],
            [features[index].matching for index in measured],
            pose[reference],
            [pose[index] for index in measured],
            clip.K,
            state,
            previous_pose,
            estimate,
        )
        yield pyramid, clip.depth[:, reference]
        previous_pose, previous_depth = pose[reference], pyramid.full.detach()


def _features(network: PairNet | FusionNet, clip: TrainingClip) -> list[ImageFeatures]:
    """Features of each frame, one frame at a time: as published, batch norm takes its statistics from one frame."""
    return [network.extract(image) for image in clip.image.unbind(1)]
