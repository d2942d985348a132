# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The best and the worst keyframes as pictures: image, depth, true or sensor depth, and error."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dvmvs_core.data.encodings.pictures import colour_depth, encode_jpeg
from dvmvs_core.data.sequence import FrameSequence
from dvmvs_core.evaluation.prediction.depth_pictures import LARGEST_ERROR, colourise_error, depth_range
from dvmvs_core.evaluation.prediction.prediction_pixels import StoredKeyframe, StoredKeyframes

MAX_PICTURES = 12
"""On each side, over all sequences: pictures make nearly all of the page's size."""

MAX_OF_A_SEQUENCE = 3


@dataclass(frozen=True)
class KeyframePicture:
    """One keyframe.

    Attributes:
        best: whether it is one of the best, or one of the worst.
        row: its position among the keyframes with depth to compare with.
        name: file name of its image.
        near_m: depth of the warmest colour.
        far_m: depth of the coldest.
        image: the image, as a data address.
        depth: the predicted depth.
        truth: the depth to compare with.
        error: their relative difference.
    """

    best: bool
    row: int
    name: str
    near_m: float
    far_m: float
    image: str
    depth: str
    truth: str
    error: str


def choose(per_keyframe: dict[str, list], sequences: int) -> dict[int, tuple[int, bool]]:
    """Return the keyframes to show: index of the frame → (row in `per_keyframe`, whether it is one of the best).

    They are the ones with the least and the largest relative error, but none next to another that was chosen, so
    that each shows something new.

    Args:
        per_keyframe: the figures of one sequence.
        sequences: how many sequences share the page.
    """
    errors = np.array([np.nan if e is None else e for e in per_keyframe["abs_relative_error"]], dtype=np.float64)
    known = np.flatnonzero(np.isfinite(errors))
    ascending = known[np.argsort(errors[known], kind="stable")]
    wanted = max(1, min(MAX_OF_A_SEQUENCE, MAX_PICTURES // sequences, len(known) // 2))
    apart = max(1, len(errors) // 10)
    rows: dict[int, bool] = {}
    for best, order in ((True, ascending), (False, ascending[::-1])):
        for row in order.tolist():
            if sum(chosen == best for chosen in rows.values()) == wanted:
                break
            if all(abs(row - other) >= apart for other in rows):
                rows[row] = best
    return {per_keyframe["frame_index"][row]: (row, best) for row, best in rows.items()}


def draw(
    chosen: dict[int, tuple[int, bool]],
    predictions: Path,
    sequence: FrameSequence,
    advance: Callable[[int], None] | None = None,
) -> list[KeyframePicture]:
    """Return the pictures, the best keyframe first and the worst first among the worst.

    Args:
        chosen: what `choose` returned.
        predictions: the npz.
        sequence: what it was made from.
        advance: called with 1 after each frame.
    """
    drawn = {}
    for keyframe in StoredKeyframes(predictions, chosen).of(sequence, True, advance):
        if keyframe.truth is not None:
            index = keyframe.item.frame.index
            drawn[index] = _draw(keyframe, *chosen[index])
    return [drawn[index] for index in chosen if index in drawn]


def colour_scale(colormap: int) -> str:
    """Return an OpenCV colour map as the stops of a CSS gradient, from its last colour to its first."""
    values = np.linspace(255, 0, 12).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(values, colormap), cv2.COLOR_BGR2RGB).reshape(-1, 3)
    return ", ".join(f"rgb({r} {g} {b})" for r, g, b in colours.tolist())


DEPTH_SCALE = colour_scale(cv2.COLORMAP_TURBO)
ERROR_SCALE = colour_scale(cv2.COLORMAP_INFERNO)
ERROR_SCALE_END = LARGEST_ERROR


def _draw(keyframe: StoredKeyframe, row: int, best: bool) -> KeyframePicture:
    depth, truth = keyframe.depth, keyframe.truth
    near_m, far_m = depth_range(depth, truth)
    return KeyframePicture(
        best=best,
        row=row,
        name=keyframe.item.name,
        near_m=near_m,
        far_m=far_m,
        image=_address(keyframe.image),
        depth=_address(colour_depth(depth, near_m, far_m)),
        truth=_address(colour_depth(truth, near_m, far_m)),
        error=_address(colourise_error(depth, truth)),
    )


def _address(picture: np.ndarray) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(encode_jpeg(picture)).decode()}"
