# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The top of the page: what the run reached, in a sentence, in a few large figures, and in the table."""

from __future__ import annotations

from html import escape

from dvmvs_core.evaluation.scoring.figures import CONSTANT_MEDIAN, PLANE_SWEEP

# Name, or names inside one another: heading of the column, explanation, whether larger is better.
METRICS = {
    "abs_error": ("abs [m]", "mean absolute error, metres", False),
    "abs_relative_error": ("abs rel", "mean of absolute error / the depth compared with", False),
    "abs_inverse_error": ("abs inv [1/m]", "mean difference of inverse depths", False),
    "squared_relative_error": ("sq rel [m]", "mean of squared error / the depth compared with", False),
    "rmse": ("rmse [m]", "root of the mean squared error", False),
    "ratio_125": ("&lt; 1.25", "share of pixels within a factor of 1.25", True),
    "ratio_125_2": ("&lt; 1.25²", "share of pixels within a factor of 1.5625", True),
    "ratio_125_3": ("&lt; 1.25³", "share of pixels within a factor of 1.953", True),
    "ratio_105": ("&lt; 1.05", "share of pixels within a factor of 1.05", True),
    "ratio_to_constant": ("/ constant", "abs rel over that of a constant depth, each frame's own median", False),
    "boundary_f1": ("boundary F1", "F1 of the occluding contours, as Depth Pro defines it", True),
    "steps.size_ratio": ("step size", "predicted over true log-depth step, at the true steps", True),
    "steps.shown": ("steps shown", "share of 9×9 windows with a true depth step in which the prediction has one", True),
    "sure_and_wrong.wrong": (
        "sure, wrong",
        "share of the pixels with confidence from 0.7 that is off by over 10 %",
        False,
    ),
    "temporal_disagreement": (
        "flicker",
        "temporal disagreement: how far the last keyframe's depth, moved into the view, is from this one's",
        False,
    ),
}

BASELINES = {CONSTANT_MEDIAN: "constant depth (median)", PLANE_SWEEP: "classical plane sweep"}

SWIPE = '<p class="swipe" aria-hidden="true">← scroll sideways to see all of it →</p>'
"""Shown above what is wider than a small screen."""

ALWAYS_WIDE = SWIPE.replace('"swipe"', '"swipe always"')
"""Shown above what is wider than any."""

SMALL_BIN = 0.02
"""Bins with a smaller share of pixels are not worth naming as the weakest."""


def run_name(figures: dict) -> str:
    """Return what to call a run: its weights, its network, and whether depth was refined."""
    weights = str(figures["weights"]).rsplit("/", 1)[-1].removesuffix(".safetensors")
    refined = ", refined" if figures.get("refined") else ""
    return f"{weights} ({figures.get('network', '?')}{refined})"


def reach(figures: dict) -> str:
    """Return which depths to compare with counted."""
    low, high = figures["depth_range_m"]
    mask = f", without what {figures['mask']} hides" if figures.get("mask") else ""
    return (f"from {low:g} m" if high is None else f"from {low:g} to {high:g} m") + mask


def depth_name(figures: dict) -> str:
    """Return what the depth is that was compared with."""
    return figures.get("depth_name", "sensor depth")  # files of earlier versions do not say


def runs(figures: dict, against: dict | None) -> list[tuple[str, str, dict]]:
    """Return (css class, name, figures) of each run on the page."""
    if against is None:
        return [("a", run_name(figures), figures)]
    return [("a", f"this run: {run_name(figures)}", figures), ("b", f"against: {run_name(against)}", against)]


def legend(figures: dict, against: dict | None) -> str:
    """Return the names of the two runs with their colours; nothing where there is one."""
    return key([(css, name) for css, name, _ in runs(figures, against)]) if against else ""


def key(entries: list[tuple[str, str]]) -> str:
    """Return coloured boxes with their meanings.

    Args:
        entries: (css class, meaning) of each.
    """
    boxes = "".join(f'<span><i class="{css}"></i>{escape(text)}</span>' for css, text in entries)
    return f'<div class="legend">{boxes}</div>'


def verdict(figures: dict) -> str:
    """Return what the figures say, in a few sentences."""
    whole = figures["all"]
    metrics = whole["metrics"]
    if metrics["abs_relative_error"] is None:
        return f"No keyframe had {depth_name(figures)} in the range, so nothing could be compared."
    sentences = [
        f"Over {whole['keyframes']} keyframes, depth is off by <b>{metrics['abs_relative_error']:.1%}</b> on average"
        f" ({metrics['abs_error']:.2f} m), and <b>{metrics['ratio_125']:.0%}</b> of pixels are within a factor of 1.25."
    ]
    constant = whole.get("baselines", {}).get(CONSTANT_MEDIAN)
    if constant and constant["metrics"]["abs_relative_error"]:
        share = metrics["abs_relative_error"] / constant["metrics"]["abs_relative_error"]
        sentences.append(
            f"That is {share:.2f} times the error of a constant depth."
            if share < 1
            else '<b class="bad">A constant depth would do better.</b>'
        )
    pixels = sum(part["pixels"] for part in whole["by_distance"])
    large = [part for part in whole["by_distance"] if part["pixels"] >= SMALL_BIN * pixels]
    if len(large) > 1:
        best, worst = (pick(large, key=lambda part: part["abs_relative_error"]) for pick in (min, max))
        sentences.append(
            f"Of the distances that {SMALL_BIN:.0%} or more of the pixels have, it is best {interval(best)} away"
            f" ({best['abs_relative_error']:.1%}) and worst {interval(worst)} away"
            f" ({worst['abs_relative_error']:.1%})."
        )
    return " ".join(sentences)


def interval(part: dict, unit: str = " m") -> str:
    """Return the borders of a bin."""
    return f"over {part['low']:g}{unit}" if part["high"] is None else f"{part['low']:g}–{part['high']:g}{unit}"


def cards(figures: dict, against: dict | None) -> str:
    """Return the large figures."""
    whole, latency = figures["all"], figures["latency_ms"]
    other, other_latency = (against["all"], against["latency_ms"]) if against else (None, None)
    constant = whole.get("baselines", {}).get(CONSTANT_MEDIAN, {}).get("metrics")

    def metric(name: str, label: str, form: str) -> str:
        value = _value(whole, name)
        context = "smaller is steadier"
        if other:
            context = change(value, _value(other, name), METRICS[name][2], form)
        elif constant and constant.get(name) is not None:
            context = f"constant: {format(constant[name], form)}"
        return _card(label, "–" if value is None else format(value, form), context)

    context = f"95 % within {latency['p95']:.0f} ms"
    if other_latency:
        context = change(latency["median"], other_latency["median"], False, ".0f")
    time = _card("time a keyframe", f"{latency['median']:.0f}<small> ms</small>", context)
    return f"""<div class="cards">
{metric("abs_relative_error", "relative error", ".3f")}
{metric("abs_error", "absolute error [m]", ".3f")}
{metric("ratio_125", "within ×1.25", ".1%")}
{metric("ratio_105", "within ×1.05", ".1%")}
{metric("temporal_disagreement", "flicker", ".3f")}
{time}
</div>"""


def change(value: float | None, other: float | None, larger_is_better: bool, form: str) -> str:
    """Return what the other run had and by how much this one differs, coloured by whether that is good."""
    if value is None or other is None:
        return "not in both runs"
    before = f"against {format(other, form)}"
    if not other or format(value, form) == format(other, form):
        return f"{before} (equal)"
    css = "good" if (value > other) == larger_is_better else "bad"
    return f'{before} <span class="{css}">({value / other - 1:+.1%})</span>'


def metrics_table(figures: dict, against: dict | None) -> str:
    """Return the table of all metrics: sequences, baselines and the other run."""
    parts = [(part["name"], part, "") for part in figures["sequences"]]
    if len(parts) > 1:
        parts.append(("all", figures["all"], "all"))
    other_parts = {part["name"]: part for part in against["sequences"]} if against else {}
    if against:
        other_parts["all"] = against["all"]
    rows = []
    for name, part, css in parts:
        other = other_parts.get(name)
        rows.append(_row(escape(name), part["keyframes"], part, css, other))
        for baseline, label in BASELINES.items():
            if found := part.get("baselines", {}).get(baseline):
                rows.append(_row(label, "", found, "baseline"))
        if other:
            rows.append(_row(f"against {escape(run_name(against))}", other["keyframes"], other, "other"))
    head = "".join(f'<th><abbr title="{escape(why)}">{label}</abbr></th>' for label, why, _ in METRICS.values())
    return f"""<section><h2>Metrics</h2>
<p class="note">Means over keyframes, against {depth_name(figures)} {escape(reach(figures))} at the network's
resolution. Smaller is better, but for the four shares of pixels, boundaries and steps.
{_in_common(figures, against) if against else ""}</p>
{ALWAYS_WIDE}<div class="scroll"><table><thead><tr><th>sequence</th><th>keyframes</th>{head}</tr></thead>
<tbody>{"".join(rows)}</tbody></table></div></section>"""


def _in_common(figures: dict, against: dict) -> str:
    """What holds over the keyframes that both runs have, where one has others too: only that is a fair comparison."""
    other_parts = {part["name"]: part["per_keyframe"] for part in against["sequences"]}
    pairs = []
    for part in figures["sequences"]:
        other = other_parts.get(part["name"], {"frame_index": [], "abs_relative_error": []})
        there = dict(zip(other["frame_index"], other["abs_relative_error"], strict=True))
        here = part["per_keyframe"]
        pairs += [
            (error, there[index])
            for index, error in zip(here["frame_index"], here["abs_relative_error"], strict=True)
            if error is not None and there.get(index) is not None
        ]
    counts = figures["all"]["keyframes"], against["all"]["keyframes"]
    if counts == (len(pairs), len(pairs)):
        return ""
    said = f'<b class="bad">The runs do not have the same keyframes: {counts[0]} here, {counts[1]} there,'
    if not pairs:
        return f"{said} none in common.</b>"
    here, there = (sum(errors) / len(pairs) for errors in zip(*pairs, strict=True))
    return f"{said} {len(pairs)} in common.</b> Over those in common, abs rel is {here:.4f} here and {there:.4f} there."


def _row(name: str, keyframes: object, part: dict, css: str, other: dict | None = None) -> str:
    cells = []
    for metric, (_, _, larger_is_better) in METRICS.items():
        value = _value(part, metric)
        before = _value(other, metric) if other else None
        colour = ""
        if value is not None and before is not None and f"{value:.4f}" != f"{before:.4f}":
            colour = ' class="good"' if (value > before) == larger_is_better else ' class="bad"'
        cells.append(f"<td{colour}>{'–' if value is None else f'{value:.4f}'}</td>")
    return f'<tr class="{css}"><td>{name}</td><td>{keyframes}</td>{"".join(cells)}</tr>'


def _value(part: dict, metric: str) -> float | None:
    """The figure of a metric, or None; `a.b` is b inside a, which baselines lack and runs without confidence too."""
    outer, _, inner = metric.partition(".")
    value = part["metrics"].get(outer, part.get(outer))
    return value.get(inner) if inner and value else value


def _card(label: str, value: str, context: str) -> str:
    return (
        f'<div class="card"><div class="label">{label}</div><div class="value">{value}</div>'
        f'<div class="context">{context}</div></div>'
    )
