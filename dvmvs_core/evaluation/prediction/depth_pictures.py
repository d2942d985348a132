# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Depth as pictures: near is red, far is blue, black is unknown."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from dvmvs_core.data.encodings.pictures import colour_depth, coloured

LARGEST_ERROR = 0.5
"""Relative error that the error picture shows in its brightest colour."""

CAPTION_HEIGHT = 28
LEGEND_HEIGHT = 34
GAP = 4
TICKS = 5
"""Values that the legend of a panel names."""


def colourise_error(depth: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the relative error |depth − truth| / truth as RGB (h, w, 3), black to yellow; unknown truth is grey."""
    valid = np.isfinite(truth) & (truth > 0)
    error = np.abs(depth - truth) / np.where(valid, truth, 1.0)
    picture = coloured(error / LARGEST_ERROR, valid, cv2.COLORMAP_INFERNO)
    picture[~valid] = 70
    return picture


def colourise_confidence(confidence: np.ndarray) -> np.ndarray:
    """Return confidence (h, w) in 0…1 as RGB (h, w, 3), dark blue to yellow."""
    return coloured(confidence, np.isfinite(confidence), cv2.COLORMAP_VIRIDIS)


def depth_strip(
    image: np.ndarray,
    depth: np.ndarray,
    truth: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    legend: bool = False,
    truth_name: str = "sensor depth",
) -> np.ndarray:
    """Return image | depth | truth | error | confidence, as far as they are given, side by side with captions.

    Args:
        image: (h, w, 3) uint8 RGB.
        depth: (h, w) predicted metres.
        truth: (h, w) metres to compare with, 0 = invalid; None if there is none, and then there is no error either.
        confidence: (h, w) in 0…1; None if there is none.
        legend: say below each panel what its colours mean.
        truth_name: what the truth is, `Sequence.depth_name`.

    Returns:
        (h + caption, and legend, about w for each panel, 3) uint8 RGB.
    """
    near_m, far_m = depth_range(depth, truth)
    of_depth = (cv2.COLORMAP_TURBO, _depth_labels(near_m, far_m))
    panels = [
        ("image", image, None),
        (f"depth {near_m:.1f}-{far_m:.1f} m", colour_depth(depth, near_m, far_m), of_depth),
    ]
    if truth is not None:
        of_error = (cv2.COLORMAP_INFERNO, [f"{e:.0%}" for e in np.linspace(0, LARGEST_ERROR, 3)])
        panels.append((truth_name, colour_depth(truth, near_m, far_m), of_depth))
        panels.append((f"error 0-{LARGEST_ERROR:.0%}", colourise_error(depth, truth), of_error))
    if confidence is not None:
        panels.append(("confidence", colourise_confidence(confidence), (cv2.COLORMAP_VIRIDIS, ["0", "0.5", "1"])))
    columns = []
    for caption, panel, colours in panels:
        column = with_legend(caption, panel, colours) if legend else captioned(caption, panel)
        columns.extend((column, np.full((len(column), GAP, 3), 255, np.uint8)))
    return np.hstack(columns[:-1])


def depth_panel(caption: str, depth: np.ndarray, near_m: float, far_m: float) -> np.ndarray:
    """Return depth in colours with a caption above it and a legend below it."""
    colours = (cv2.COLORMAP_TURBO, _depth_labels(near_m, far_m))
    return with_legend(caption, colour_depth(depth, near_m, far_m), colours)


def with_legend(caption: str, panel: np.ndarray, colours: tuple[int, Iterable[str]] | None = None) -> np.ndarray:
    """Return a picture (h, w, 3) uint8 RGB with a caption above it, and what its colours mean below it.

    Args:
        caption: a line of text.
        panel: the picture.
        colours: OpenCV's colour map, and values to name from its first colour to its last; None for a blank band.
    """
    return np.vstack((captioned(caption, panel), _legend(panel.shape[1], *(colours or (None, ())))))


def captioned(caption: str, panel: np.ndarray) -> np.ndarray:
    """Return a picture (h, w, 3) uint8 RGB with a white band above it that holds a line of text."""
    band = np.full((CAPTION_HEIGHT, panel.shape[1], 3), 255, np.uint8)
    cv2.putText(band, caption, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (40, 40, 40), 1, cv2.LINE_AA)
    return np.vstack((band, panel))


def depth_range(depth: np.ndarray, truth: np.ndarray | None) -> tuple[float, float]:
    """Return the depths that nearly all pixels lie between: of the truth if there is enough of it, or the prediction.

    Args:
        depth: (h, w) predicted metres.
        truth: (h, w) sensor metres, 0 = invalid; None if there is none.
    """
    reference = depth if truth is None or np.count_nonzero(truth) < 0.05 * truth.size else truth
    known = reference[np.isfinite(reference) & (reference > 0)]
    if not known.size:
        return 0.5, 5.0
    near_m, far_m = np.percentile(known, (2, 98))
    return float(near_m), float(max(far_m, near_m + 0.1))


def _depth_labels(near_m: float, far_m: float) -> list[str]:
    """Depths to name below a panel: colours are even over inverse depth, and so are they."""
    metres = [f"{d:.2f}" if far_m < 2 else f"{d:.1f}" for d in 1 / np.linspace(1 / far_m, 1 / near_m, TICKS)]
    return [f"far {metres[0]}", *metres[1:-1], f"near {metres[-1]} m"]


def _legend(width: int, colormap: int | None, labels: Iterable[str]) -> np.ndarray:
    """A white band (LEGEND_HEIGHT, width, 3) with a bar of all colours, and labels at even distances below it."""
    band = np.full((LEGEND_HEIGHT, width, 3), 255, np.uint8)
    if colormap is None:
        return band
    margin = width // 12
    bar = np.linspace(0, 255, width - 2 * margin).astype(np.uint8)[None]
    band[4:14, margin : width - margin] = cv2.cvtColor(cv2.applyColorMap(bar, colormap), cv2.COLOR_BGR2RGB)
    labels = list(labels)
    for place, label in zip(np.linspace(margin, width - margin, len(labels)), labels, strict=True):
        (text_width, _), _ = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
        x = int(np.clip(place - text_width / 2, 0, width - text_width))
        cv2.putText(band, label, (x, 29), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (40, 40, 40), 1, cv2.LINE_AA)
    return band
