# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Plots as inline SVG.

Text and colours come from the page's style sheet, so that a plot follows the reader's light or dark scheme and the
printer's. Every value can be read by pointing at it. matplotlib's SVG has neither, is twice as large (146 points: 32 kB
against 14 kB), and would be one more dependency, which takes 1.5 s to import.

Classes "a" and "b" are the two runs, "c" and "d" what is drawn for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

import numpy as np

WIDTH, HEIGHT = 560, 240
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 44
MAX_DOTS = 500
"""With more points than this, dots would run into each other."""


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        css: class that gives its colour.
        x: positions.
        y: values; None leaves a gap.
        hints: what pointing at each point says; none for a curve without dots.
        fill: fill the area below.
    """

    css: str
    x: Sequence[float]
    y: Sequence[float | None]
    hints: Sequence[str] = ()
    fill: bool = False


@dataclass(frozen=True)
class Strip:
    """A band below a plot, along its x axis.

    Attributes:
        parts: (css class, from x, to x, hint) of each stretch.
    """

    parts: Sequence[tuple[str, float, float, str]]


@dataclass(frozen=True)
class Bars:
    """One bar for every category.

    Attributes:
        css: class that gives their colour.
        values: heights; None for no bar.
        hints: what pointing at each says.
    """

    css: str
    values: Sequence[float | None]
    hints: Sequence[str]


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round values from low to high: multiples of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [float(round(i * step, 10)) for i in range(first, last + 1)]


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    y_max: float | None = None,
    strip: Strip | None = None,
    width: int = WIDTH,
) -> str:
    """Return curves over a number axis; y starts at 0.

    Args:
        lines: the curves; what comes later lies on top.
        x_label: caption of the x axis.
        y_label: caption of the y axis.
        y_max: end of the y axis; by default just above the largest value.
        strip: a band between plot and x axis.
        width: in the units of the drawing; a wide plot is drawn smaller.
    """
    xs = [x for line in lines for x in line.x] or [0.0]
    if strip:
        xs += [end for _, start, stop, _ in strip.parts for end in (start, stop)]
    top = y_max or _above([y for line in lines for y in line.y if y is not None])
    axes = _Axes(min(xs), max(max(xs), min(xs) + 1e-9), top, width, HEIGHT + (22 if strip else 0), 22 if strip else 0)
    parts = [axes.grid(y_label)]
    parts.extend(_tick(axes.x(x), axes.bottom, f"{x:g}") for x in nice_ticks(axes.low, axes.high, width // 85))
    parts.append(_caption(width, axes.height, x_label))
    for line in lines:
        parts.append(_curve(axes, line))
    if strip:
        for css, start, stop, hint in strip.parts:
            left, right = axes.x(start), axes.x(stop)
            parts.append(
                f'<rect class="{css}" x="{left:.1f}" y="{axes.bottom - 14}" width="{max(right - left, 0.4):.2f}"'
                f' height="12"><title>{escape(hint)}</title></rect>'
            )
    return axes.svg(parts, y_label)


def bar_chart(
    categories: Sequence[tuple[str, str]],
    groups: Sequence[Bars],
    x_label: str,
    y_label: str,
    y_max: float | None = None,
) -> str:
    """Return bars side by side for each category; y starts at 0.

    Args:
        categories: a label for each, and a smaller one below.
        groups: the bars.
        x_label: caption of the x axis.
        y_label: caption of the y axis.
        y_max: end of the y axis; what is higher is cut off and its value written on it.
    """
    top = y_max or _above([value for bars in groups for value in bars.values if value is not None])
    axes = _Axes(0, len(categories), top, WIDTH, HEIGHT + 14, 0, BOTTOM + 14)
    parts = [axes.grid(y_label)]
    slot = axes.x(1) - axes.x(0)
    bar = slot * 0.72 / max(len(groups), 1)
    for i, (label, sublabel) in enumerate(categories):
        centre = axes.x(i + 0.5)
        parts.append(_tick(centre, axes.bottom, label))
        parts.append(f'<text class="small" x="{centre:.1f}" y="{axes.bottom + 31}">{escape(sublabel)}</text>')
        for j, bars in enumerate(groups):
            value = bars.values[i]
            if value is None:
                continue
            y, left = axes.y(min(value, top)), centre - bar * len(groups) / 2 + j * bar
            parts.append(
                f'<rect class="{bars.css} bar" x="{left:.1f}" y="{y:.1f}" width="{bar * 0.94:.1f}"'
                f' height="{axes.bottom - y:.1f}" rx="1.5"><title>{escape(bars.hints[i])}</title></rect>'
            )
            if value > top:
                parts.append(f'<text class="cut" x="{left + bar / 2:.1f}" y="{y + 11:.1f}">{value:.2g}</text>')
    parts.append(_caption(WIDTH, axes.height, x_label))
    return axes.svg(parts, y_label)


class _Axes:
    """Where values lie on the drawing."""

    def __init__(
        self, low: float, high: float, top: float, width: int, height: int, strip: int, bottom: int = BOTTOM
    ) -> None:
        self.low, self.high, self.top = low, high, top
        self.width, self.height = width, height
        self.bottom = height - bottom
        self._zero = self.bottom - strip

    def x(self, value: float) -> float:
        return LEFT + (value - self.low) / (self.high - self.low) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return self._zero - value / self.top * (self._zero - TOP)

    def grid(self, y_label: str) -> str:
        lines = []
        for value in nice_ticks(0, self.top, 4):
            y = self.y(value)
            lines.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{self.width - RIGHT}"/>')
            lines.append(f'<text class="y" x="{LEFT - 7}" y="{y + 3.5:.1f}">{value:g}</text>')
        middle = (self._zero + TOP) / 2
        lines.append(f'<text class="label" transform="rotate(-90 12 {middle:.0f})" x="12" y="{middle:.0f}">')
        lines.append(f"{escape(y_label)}</text>")
        return "".join(lines)

    def svg(self, parts: Sequence[str], label: str) -> str:
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(label)}">'
            f"{''.join(parts)}</svg>"
        )


def _curve(axes: _Axes, line: Line) -> str:
    points = [None if y is None else (axes.x(x), axes.y(min(y, axes.top))) for x, y in zip(line.x, line.y, strict=True)]
    path, pen_up = [], True
    for point in points:
        if point is not None:
            path.append(f"{'M' if pen_up else 'L'}{point[0]:.1f} {point[1]:.1f}")
        pen_up = point is None
    known = [point for point in points if point is not None]
    drawn = f'<path class="{line.css} curve" d="{"".join(path)}"/>' if path else ""
    if line.fill and known:
        closed = f"{''.join(path)}L{known[-1][0]:.1f} {axes.y(0):.1f}L{known[0][0]:.1f} {axes.y(0):.1f}Z"
        drawn = f'<path class="{line.css} area" d="{closed}"/>{drawn}'
    drawn += _off_the_scale(axes, line)
    if line.hints and len(points) <= MAX_DOTS:
        drawn += "".join(
            f'<circle class="{line.css} dot" cx="{point[0]:.1f}" cy="{point[1]:.1f}" r="2.2">'
            f"<title>{escape(hint)}</title></circle>"
            for point, hint in zip(points, line.hints, strict=True)
            if point is not None
        )
    return drawn


def _off_the_scale(axes: _Axes, line: Line) -> str:
    """A triangle at the upper border over each stretch that is cut off there, with its highest value."""
    marks = []
    for cut, stretch in groupby(zip(line.x, line.y, strict=True), lambda point: is_off_the_scale(point[1], axes.top)):
        if cut:
            x, y = max(stretch, key=lambda point: point[1])
            marks.append(
                f'<path class="{line.css} cut" d="M{axes.x(x) - 4:.1f} {TOP}h8l-4 -8z">'
                f"<title>off the scale: up to {y:.2g}</title></path>"
            )
    return "".join(marks)


def is_off_the_scale(value: float | None, top: float) -> bool:
    """Whether a plot that ends at `top` cuts a value off."""
    return value is not None and value > top


def _tick(x: float, bottom: float, label: str) -> str:
    return f'<text class="x" x="{x:.1f}" y="{bottom + 17}">{escape(label)}</text>'


def _caption(width: int, height: int, label: str) -> str:
    return f'<text class="label" x="{(width + LEFT) / 2:.0f}" y="{height - 6}">{escape(label)}</text>'


def _above(values: Sequence[float]) -> float:
    return max(values, default=1.0) * 1.06 or 1.0
