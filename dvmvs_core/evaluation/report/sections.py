# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The sections of the page below its table, one function each."""

from __future__ import annotations

from collections import Counter
from html import escape

import numpy as np

from dvmvs_core.evaluation.report.charts import Bars, Line, Strip, bar_chart, is_off_the_scale, line_chart
from dvmvs_core.evaluation.report.keyframe_pictures import (
    DEPTH_SCALE,
    ERROR_SCALE,
    ERROR_SCALE_END,
    KeyframePicture,
)
from dvmvs_core.evaluation.report.overview import SWIPE, depth_name, interval, key, reach, runs
from dvmvs_core.evaluation.scoring.figures import CONSTANT_MEDIAN, PLANE_SWEEP

DECISIONS = {
    "first": "first frame: stored, no depth",
    "keyframe": "keyframe: depth predicted",
    "too_close": "too close to the last keyframe",
    "invalid_pose": "no valid pose",
    "tracking_lost": "tracking lost: all forgotten",
    "still_lost": "still lost",
    "measurement": "measurement frame only",
    "unused": "not used",
    "unreadable": "image cannot be read",
}

WIDE = 1080
HIGHEST_ERROR = 1.0
"""Relative errors above this are drawn at the top of a plot: one wild keyframe must not flatten the others."""

LATENCY_BINS = 30

MAX_REMARKS = 20
"""Remarks of one kind on the page; all of them are in the figures."""


def over_time(figures: dict, against: dict | None) -> str:
    """Return the relative error of every keyframe, with what became of every frame below."""
    other_parts = {part["name"]: part for part in against["sequences"]} if against else {}
    blocks = [_sequence_over_time(part, other_parts.get(part["name"])) for part in figures["sequences"]]
    return f"""<section class="breaks"><h2>Error over time</h2>
<p class="note">Each dot is a keyframe; point at it for its figures. The band below the plot is the keyframe timeline:
what became of every frame.</p>
{"".join(blocks)}</section>"""


def by_geometry(figures: dict, against: dict | None) -> str:
    """Return the relative error by distance and by parallax."""
    parts = [run["all"] for *_, run in runs(figures, against)]
    return f"""<section><h2>Where it fails</h2>
<p class="note">Relative error of all pixels, by how far away they are, and by parallax: how far a depth step of 25 %
moves the point in the measurement frames, at most. The small figure is the share of pixels.</p>
<div class="two"><figure><figcaption>Error against distance</figcaption>
{_binned([part["by_distance"] for part in parts], depth_name(figures) + " [m]")}</figure>
<figure><figcaption>Error against parallax</figcaption>
{_binned([part["by_parallax"] for part in parts], "parallax [px]")}</figure></div></section>"""


def keyframes(figures: dict, pictures: list[list[KeyframePicture]], against: dict | None) -> str:
    """Return the best and the worst keyframes as pictures."""
    other_parts = {part["name"]: part for part in against["sequences"]} if against else {}
    blocks = []
    for part, drawn in zip(figures["sequences"], pictures, strict=True):
        if len(pictures) > 1:
            blocks.append(f"<h3>{escape(part['name'])}</h3>")
        for best, heading in ((True, "Best"), (False, "Worst")):
            strips = [
                _strip(picture, part, other_parts.get(part["name"]), depth_name(figures))
                for picture in drawn
                if picture.best == best
            ]
            if strips:
                blocks.append(f"<h3>{heading}</h3>{''.join(strips)}")
    return f"""<section class="breaks"><h2>Best and worst keyframes</h2>
<p class="note">By relative error, none next to another. Both depths share one colour scale; black is unknown, and grey
in the error picture is where there is no {depth_name(figures)}.</p>
<div class="scales"><div class="scale">near <i style="background:linear-gradient(90deg, {DEPTH_SCALE})"></i> far</div>
<div class="scale">error {ERROR_SCALE_END:.0%} or more <i style="background:linear-gradient(90deg, {ERROR_SCALE})"></i>
0</div></div>{"".join(blocks)}</section>"""


def confidence(figures: dict, against: dict | None) -> str:
    """Return sparsification and calibration, or that there is no confidence."""
    scored = [
        (css, name, run["all"]["confidence"]) for css, name, run in runs(figures, against) if run["all"]["confidence"]
    ]
    if not scored:
        return """<section><h2>Confidence</h2>
<p class="note">These predictions carry no confidence, so there is nothing to calibrate.</p></section>"""
    curves, ause = [], []
    for css, name, part in scored:
        curves.append(Line("c", part["left_out"], part["oracle"]))
        hints = [f"without {x:.0%}: {y:.3f}" for x, y in zip(part["left_out"], part["error"], strict=True)]
        curves.append(Line(css, part["left_out"], part["error"], hints))
        ause.append(f"{escape(name)}: <b>{part['ause']:.4f}</b>")
    halves = " ".join(
        f"{escape(name)}: the most confident half of the pixels has a relative error of {_half(part):.3f},"
        f" all of them {part['error'][0]:.3f}."
        for _, name, part in scored
    )
    calibration = [
        Line(
            css,
            [b["confidence"] for b in part["calibration"]],
            [b["ratio_110"] for b in part["calibration"]],
            [f"{b['confidence']:.2f}: {b['ratio_110']:.0%} of {b['pixels']:,} pixels" for b in part["calibration"]],
        )
        for css, _, part in scored
    ]
    return f"""<section><h2>Confidence</h2>
<p class="note">Left: relative error of the rest as the least confident pixels are left out; dashed is an oracle that
leaves out the largest errors. The area between the two (AUSE) is 0 for perfect order; here {"; ".join(ause)}. Right:
share of pixels within a factor of 1.1 by confidence; on the straight line confidence is that share.
{halves}</p>
<div class="two"><figure><figcaption>Sparsification</figcaption>
{line_chart(curves, "share of pixels left out", "relative error of the rest")}</figure>
<figure><figcaption>Calibration</figcaption>
{line_chart([Line("c", [0, 1], [0, 1]), *calibration], "confidence", "within a factor of 1.1", y_max=1.0)}</figure>
</div></section>"""


def latency(figures: dict, against: dict | None) -> str:
    """Return a histogram of the engine's time for a keyframe."""
    shown = runs(figures, against)
    times = [np.array([ms for part in run["sequences"] for ms in part["latencies_ms"]]) for *_, run in shown]
    edges = np.linspace(0, max(np.percentile(t, 99) for t in times) * 1.1 + 1e-9, LATENCY_BINS + 1)
    lines = []
    for (css, *_), values in zip(shown, times, strict=True):
        shares = np.histogram(np.minimum(values, edges[-1]), edges)[0] / len(values)
        lines.append(Line(css, np.repeat(edges, 2)[1:-1].tolist(), np.repeat(shares, 2).tolist(), fill=True))
    rows = "".join(
        f'<tr><td><span class="legend"><span><i class="{css}"></i>{escape(name)}</span></span></td>'
        f"<td>{np.median(t):.0f}</td><td>{np.percentile(t, 95):.0f}</td><td>{t.max():.0f}</td>"
        f"<td>{escape(str(run.get('device', '?')))}</td></tr>"
        for (css, name, run), t in zip(shown, times, strict=True)
    )
    return f"""<section><h2>Latency</h2>
<p class="note">The engine's time for one keyframe, from frame to depth map, preprocessing included.</p>
<div class="two"><figure><figcaption>Latency histogram</figcaption>
{line_chart(lines, "milliseconds", "share of keyframes")}</figure>
{SWIPE}<div class="scroll"><table><thead><tr><th>run</th><th>median [ms]</th><th>95 % [ms]</th><th>maximum [ms]</th>
<th>device</th></tr></thead><tbody>{rows}</tbody></table></div></div></section>"""


def remarks(figures: dict) -> str:
    """Return what was left out and what is wrong with the poses; nothing where all is well and unchecked."""
    blocks = []
    for part in figures["sequences"]:
        lines = [f"<li>{escape(what)}: {escape(why)}</li>" for what, why in part.get("faults", {}).items()]
        lines += [f"<li>{count} images: {escape(why)}</li>" for why, count in part.get("dropped", {}).items()]
        if lines:
            blocks.append(_remarks(f"{part['name']}: left out", lines))
        if "trajectory" in part:
            found = [f"<li>{escape(finding)}</li>" for finding in part["trajectory"]["findings"]]
            unknown = [f"<li>Not checked: {escape(what)}</li>" for what in part["trajectory"].get("not_checked", ())]
            nothing = "<li>Nothing wrong was found with the poses and their timing.</li>"
            blocks.append(_remarks(f"{part['name']}: trajectory", (found or [nothing]) + unknown))
    return f"<section><h2>Remarks on the recording</h2>{''.join(blocks)}</section>" if blocks else ""


def provenance(figures: dict, against: dict | None) -> str:
    """Return the command, the versions and the machine of each run."""
    blocks = [_provenance("This run", figures)]
    if against:
        blocks.append(_provenance("Against", against))
    return f'<section><h2>How it was made</h2><div class="two">{"".join(blocks)}</div></section>'


def _sequence_over_time(part: dict, other: dict | None) -> str:
    table = part["per_keyframe"]
    lines = []
    used = [("a", "this run" if other else "network")]
    for css, name, label in (
        ("c", CONSTANT_MEDIAN, "constant depth"),
        ("d", PLANE_SWEEP, "classical plane sweep"),
    ):
        if name in table:
            lines.append(Line(css, table["frame_index"], table[name]))
            used.append((css, label))
    if other:
        lines.append(_error_line("b", other["per_keyframe"]))
        used.append(("b", "against"))
    lines.append(_error_line("a", table))
    # A plane sweep that fails has errors of any size: it is cut off at the top and not what the others shrink for.
    highest = max((y for line in lines if line.css != "d" for y in line.y if y is not None), default=0.0)
    y_max = min(HIGHEST_ERROR, highest * 1.06) or None
    cut = {line.css for line in lines if any(is_off_the_scale(y, y_max or 0.0) for y in line.y)} if y_max else set()
    used = [(css, f"{label} (▲ off the scale)" if css in cut else label) for css, label in used]
    frames = Counter()
    strip, start = [], 0
    for name, count in part["timeline"]:
        said = DECISIONS.get(name, name)
        where = f"frame {start}" if count == 1 else f"frames {start}–{start + count - 1}"
        strip.append((name, start - 0.5, start + count - 0.5, f"{where}: {said}"))
        frames[name] += count
        start += count
    seconds = table["time_s"][-1] - table["time_s"][0] if table["time_s"] else 0.0
    counts = key([(name, f"{frames[name]} {text}") for name, text in DECISIONS.items() if frames[name]])
    return f"""<figure><figcaption><b>{escape(part["name"])}</b>
<span>{part["keyframes"]} keyframes in {seconds:.1f} s</span></figcaption>
{key(used) if len(used) > 1 else ""}
{SWIPE}<div class="scroll wide">
{line_chart(lines, "frame, counted from 0", "relative error", y_max, Strip(strip) if strip else None, WIDE)}</div>
{counts}</figure>"""


def _half(part: dict) -> float:
    """The relative error without the less confident half."""
    return part["error"][part["left_out"].index(0.5)]


def _remarks(heading: str, lines: list[str]) -> str:
    shown = "".join(lines[:MAX_REMARKS])
    more = f"<p class='note'>… and {len(lines) - MAX_REMARKS} more in the figures.</p>" if lines[MAX_REMARKS:] else ""
    return f"<h3>{escape(heading)}</h3><ul>{shown}</ul>{more}"


def _error_line(css: str, table: dict) -> Line:
    names = ("frame_index", "time_s", "abs_relative_error", "ratio_125", "parallax_px", "temporal_disagreement")
    hints = [
        f"frame {index} · {time_s:.2f} s · relative error {_text(error)} · within 1.25 {_text(ratio, '.0%')}"
        f" · parallax {_text(parallax, '.1f')} px · flicker {_text(flicker)}"
        for index, time_s, error, ratio, parallax, flicker in zip(*(table[name] for name in names), strict=True)
    ]
    return Line(css, table["frame_index"], table["abs_relative_error"], hints)


def _binned(bins_of_runs: list[list[dict]], x_label: str) -> str:
    """Bars of the relative error, one group for each run, of the bins that any of them has."""
    borders = sorted({(p["low"], p["high"]) for bins in bins_of_runs for p in bins}, key=lambda border: border[0])
    if not borders:
        return "<p class='note'>No pixel to show.</p>"
    found = [{(part["low"], part["high"]): part for part in bins} for bins in bins_of_runs]
    categories = []
    for border in borders:
        share = found[0].get(border, {"share": 0.0})["share"]
        label = interval({"low": border[0], "high": border[1]}, "").replace("over ", "> ")
        categories.append((label, f"{share:.0%}" if share >= 0.01 else "< 1%"))
    groups = [
        Bars(
            css,
            [bins[border]["abs_relative_error"] if border in bins else None for border in borders],
            [_bin_hint(bins.get(border)) for border in borders],
        )
        for css, bins in zip("ab", found, strict=False)
    ]
    highest = max(value for bars in groups for value in bars.values if value is not None)
    return bar_chart(categories, groups, x_label, "relative error", min(HIGHEST_ERROR, highest * 1.06) or None)


def _bin_hint(part: dict | None) -> str:
    if part is None:
        return ""
    return (
        f"relative error {part['abs_relative_error']:.3f} · {part['abs_error']:.2f} m"
        f" · within 1.25 {part['ratio_125']:.0%} · {part['pixels']:,} pixels"
    )


def _strip(picture: KeyframePicture, part: dict, other: dict | None, truth: str) -> str:
    table = part["per_keyframe"]
    index, row = table["frame_index"][picture.row], picture.row
    said = [
        f"within 1.25: {_text(table['ratio_125'][row], '.0%')}",
        f"absolute {_text(table['abs_error'][row])} m",
        f"parallax {_text(table['parallax_px'][row], '.1f')} px",
        f"colours {picture.near_m:.1f}–{picture.far_m:.1f} m",
    ]
    if other and index in other["per_keyframe"]["frame_index"]:
        there = other["per_keyframe"]
        error = there["abs_relative_error"][there["frame_index"].index(index)]
        said.insert(0, f"against {_text(error)}")
    panels = "".join(
        f'<div><img alt="{caption} of frame {index}" src="{address}">{caption}</div>'
        for caption, address in zip(
            ("image", "depth", truth, "error"),
            (picture.image, picture.depth, picture.truth, picture.error),
            strict=True,
        )
    )
    return f"""<div class="strip"><div class="head"><b>frame {index}: relative error
{_text(table["abs_relative_error"][row])}</b> <span>{" · ".join(said)} · file {escape(picture.name)}</span></div>
<div class="panels">{panels}</div></div>"""


def _provenance(heading: str, run: dict) -> str:
    facts = {
        "weights": f"{run['weights']} (SHA-256 {run.get('weights_sha256', 'unknown')}…)",
        "network": f"{run.get('network')}, preset {run.get('preset')}, {'×'.join(map(str, run.get('resolution', [])))},"
        f" {run.get('measurement_frames')} measurement frames, {run.get('precision')}",
        "depth": "refined against the keyframes before and after" if run.get("refined") else "as the network gives it",
        depth_name(run): reach(run) if "depth_range_m" in run else "unknown",
        "device": run.get("device", "unknown"),
        **run.get("hardware", {}),
        **run.get("versions", {}),
        "made": run.get("made", "unknown"),
    }
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    return f"<div><h3>{heading}</h3><pre>{escape(run.get('command', 'unknown'))}</pre><dl>{listed}</dl></div>"


def _text(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)
