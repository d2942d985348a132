# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import base64
import copy
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.evaluation.report.keyframe_pictures import MAX_PICTURES, choose, draw
from dvmvs_core.evaluation.report.page import make_page, write_report
from dvmvs_core.evaluation.scoring.boundaries import DepthSteps
from dvmvs_core.evaluation.scoring.confidence_scores import SureAndWrong
from dvmvs_core.evaluation.scoring.figures import RunResult, read_figures, summary
from dvmvs_core.evaluation.scoring.metrics import evaluate_depth
from dvmvs_core.evaluation.scoring.score import SequenceScore


def made_up_score(name: str, keyframes: int, error: float, confidence: bool = False) -> SequenceScore:
    """A score whose relative error grows from keyframe to keyframe, from half of `error` to one and a half times it."""
    generator = np.random.default_rng(keyframes)
    score = SequenceScore(name, tuple(generator.uniform(20, 40, keyframes).tolist()))
    truth = generator.uniform(0.6, 8.0, 2000)
    for i, factor in enumerate(np.linspace(0.5, 1.5, keyframes)):
        prediction = truth * (1 + error * factor * generator.choice((0.9, 1.1), truth.size))
        score.position.append(i)
        score.frame_index.append(2 * i + 2)
        score.stamp_ns.append(1_000_000_000 + 66_000_000 * i)
        score.metrics.append(evaluate_depth(prediction, truth))
        score.constant.append(evaluate_depth(np.full_like(truth, 3.0), truth))
        score.boundary_f1.append(0.25)
        score.steps.append(DepthSteps(pairs=10, true_sum=4.0, predicted_sum=1.0, windows=20, windows_shown=5))
        score.sure.append(SureAndWrong(truth.size, truth.size // 2, truth.size // 8) if confidence else SureAndWrong())
        score.parallax_px.append(3.0)
        score.disagreement.append(float("nan") if i == 0 else 0.05)
        score.by_distance.add(truth, prediction, truth)
        score.by_parallax.add(6.0 / truth, prediction, truth)
        if confidence:
            score.confidence.add(generator.uniform(0, 1, truth.size), prediction, truth)
    return score


def made_up_figures(
    names: tuple[str, ...] = ("office",),
    error: float = 0.1,
    weights: str = "small",
    confidence: bool = False,
    sweep: bool = True,
) -> dict:
    """The figures of a run over these sequences."""
    timeline = [("first", 1), ("too_close", 1), ("keyframe", 9), ("invalid_pose", 3), ("tracking_lost", 1)]
    results = [
        RunResult(
            made_up_score(name, 8, error, confidence),
            timeline=timeline,
            sweep=made_up_score(name, 8, 0.5) if sweep else None,
        )
        for name in names
    ]
    return summary(
        results, weights=weights, weights_sha256="0123456789abcdef", network="pairnet", preset="small",
        resolution=[320, 256], measurement_frames=2, precision="float32", depth_range_m=[0.5, None], device="cpu",
        command="dvmvs evaluate office --report out", made="2030-01-01 00:00:00 UTC",
        versions={"dvmvs": "9.9.9", "torch": "2.0"}, hardware={"processor": "An <abacus> & Sons", "cores": 2},
    )  # fmt: skip


class Checker(HTMLParser):
    """Collects text and addresses, and fails where tags do not match."""

    VOID = {"meta", "img", "link", "br"}

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses.extend(value for name, value in attributes if name in ("src", "href", "xlink:href", "data"))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def pictures(make_scene, predict):
    sequence = open_sequence(make_scene(frames=20))
    chosen = choose(made_up_figures()["sequences"][0]["per_keyframe"], 1)
    return draw(chosen, predict(sequence), sequence)


def test_the_page_needs_nothing_besides_itself(pictures):
    source = make_page(made_up_figures(), [pictures])
    page = Checker(source)
    assert page.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?://", source)


def test_the_page_says_all_that_it_should(pictures):
    page = Checker(make_page(made_up_figures(confidence=True), [pictures])).text
    for said in (
        "Depth of office", "Metrics", "Error over time", "Error against distance", "Error against parallax",
        "Best and worst keyframes", "Sparsification", "Calibration", "Latency histogram", "How it was made",
        "constant depth (median)", "classical plane sweep", "8 keyframes", "9 keyframe: depth predicted",
        "1 tracking lost", "dvmvs evaluate office --report out", "An <abacus> & Sons", "torch 2.0", "0123456789abcdef",
        "off by 10.0% on average",
    ):  # fmt: skip
        assert said in page, said


def test_depth_to_compare_with_is_called_what_it_is(pictures):
    def said(name: str | None) -> str:
        figures = made_up_figures() | {"depth_name": name}
        if name is None:
            del figures["depth_name"]
        return make_page(figures, [pictures])

    rendered = said("true depth")
    assert "sensor" not in rendered and 'alt="true depth of frame' in rendered and "true depth [m]" in rendered
    measured = said("sensor depth")
    assert "true depth" not in re.sub("with a true depth step", "", measured) and "against sensor depth" in measured
    assert said(None) == measured, "figures of earlier versions do not say"


def test_the_verdict_and_the_table_hold_the_figures():
    figures = made_up_figures(error=0.5)
    page = Checker(make_page(figures, [[]])).text
    whole = figures["all"]
    for value in (whole["metrics"]["rmse"], whole["ratio_to_constant"], whole["boundary_f1"], whole["steps"]["shown"]):
        assert f"{value:.4f}" in page
    assert "A constant depth would do better" not in page
    assert "A constant depth would do better" in Checker(make_page(made_up_figures(error=2.0), [[]])).text


def test_the_verdict_contradicts_no_bar():
    """A bin of few pixels may be worse than the worst that is named, which the sentence must not deny."""
    figures = made_up_figures()
    bins = figures["all"]["by_distance"]
    pixels = sum(part["pixels"] for part in bins)
    rare = {**bins[0], "low": 99.0, "high": None, "pixels": pixels // 100, "abs_relative_error": 0.99}
    figures["all"]["by_distance"] = [*bins, rare]
    said = Checker(make_page(figures, [[]])).text
    worst = max(bins, key=lambda part: part["abs_relative_error"])["abs_relative_error"]
    assert "Of the distances that 2% or more of the pixels have" in said and f"({worst:.1%})" in said


def test_a_baseline_that_is_cut_off_says_so():
    figures = made_up_figures()
    table = figures["sequences"][0]["per_keyframe"]
    table["plane_sweep"] = list(table["abs_relative_error"])
    assert "off the scale" not in make_page(figures, [[]])
    table["plane_sweep"] = [7.5 if error is not None else None for error in table["plane_sweep"]]
    source = make_page(figures, [[]])
    assert "classical plane sweep (▲ off the scale)" in source
    assert "off the scale: up to 7.5" in source and 'class="d cut"' in source
    assert 'class="c cut"' not in source


def test_what_is_wide_scrolls_and_says_so():
    source = make_page(made_up_figures(), [[]])
    for wide in re.findall(r'<div class="scroll[^"]*">', source):
        assert re.search(r'class="swipe[^>]*>[^<]*</p>\s*' + re.escape(wide), source), wide
    assert source.count('class="scroll wide"') == 1


def test_without_confidence_or_plane_sweep_the_page_says_so_or_leaves_them_out():
    page = Checker(make_page(made_up_figures(sweep=False), [[]])).text
    assert "carry no confidence" in page
    assert "plane sweep" not in page


def test_two_runs_stand_side_by_side(pictures):
    better, worse = made_up_figures(error=0.1, weights="new"), made_up_figures(error=0.2, weights="old")
    source = make_page(better, [pictures], worse)
    page = Checker(source).text
    assert "this run: new (pairnet)" in page
    assert "against: old (pairnet)" in page
    assert "against 0.200" in page
    assert '<span class="good">(-50.0%)</span>' in source
    assert '<span class="bad">' in make_page(worse, [pictures], better)
    assert page.count("dvmvs evaluate office") == 2


def test_runs_over_different_keyframes_say_so_and_what_holds_over_those_in_common():
    here, there = made_up_figures(("a", "b")), made_up_figures(("b", "c"), error=0.2)
    page = Checker(make_page(here, [[], []], there)).text
    assert "Depth of 2 sequences" in page
    b_here, b_there = here["sequences"][1], there["sequences"][0]
    ours, theirs = (part["metrics"]["abs_relative_error"] for part in (b_here, b_there))
    assert f"16 there, 8 in common. Over those in common, abs rel is {ours:.4f} here and {theirs:.4f} there" in page
    assert "none in common" in Checker(make_page(here, [[], []], made_up_figures(("c",)))).text
    assert "in common" not in Checker(make_page(here, [[], []], made_up_figures(("a", "b")))).text


def test_no_valid_pixel_anywhere_is_still_a_page():
    figures = copy.deepcopy(made_up_figures())
    for part in (figures["all"], *figures["sequences"]):
        part["metrics"] = dict.fromkeys(part["metrics"])
        part["by_distance"], part["by_parallax"], part["temporal_disagreement"] = [], [], None
        part["baselines"]["constant_median"]["metrics"] = dict.fromkeys(part["metrics"])
    table = figures["sequences"][0]["per_keyframe"]
    for name in ("abs_relative_error", "ratio_125", "abs_error", "constant_median", "plane_sweep"):
        table[name] = [None] * len(table[name])
    assert "nothing could be compared" in Checker(make_page(figures, [[]])).text
    assert choose(table, 1) == {}


def test_best_and_worst_are_apart_and_few():
    errors = [0.1 * (i % 50) for i in range(200)]
    per_keyframe = {"abs_relative_error": errors, "frame_index": list(range(1000, 1200))}
    chosen = choose(per_keyframe, 1)
    rows = {best: [row for row, b in chosen.values() if b == best] for best in (True, False)}
    assert rows[True] == [0, 50, 100]
    assert len(rows[False]) == 3
    assert min(errors[row] for row in rows[False]) > 2.5
    every = [row for row, _ in chosen.values()]
    assert min(abs(a - b) for a in every for b in every if a != b) >= 20
    assert all(index == 1000 + row for index, (row, _) in chosen.items())
    assert len(choose(per_keyframe, MAX_PICTURES)) == 2
    assert len(choose({"abs_relative_error": [0.3], "frame_index": [7]}, 1)) == 1


def test_pictures_show_the_frame_that_they_name(make_scene, predict):
    scene = make_scene(frames=7, size=(32, 64))
    blue = np.zeros((32, 64, 3), np.uint8)
    blue[..., 0] = 200
    cv2.imwrite(str(scene / "images" / "00007.png"), blue)
    sequence = open_sequence(scene)
    (picture,) = draw({4: (1, False)}, predict(sequence), sequence)
    assert (picture.name, picture.row, picture.best) == ("00007.png", 1, False)
    data = np.frombuffer(base64.b64decode(picture.image.split(",")[1]), np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_COLOR).mean(axis=(0, 1)) == pytest.approx((200, 0, 0), abs=3)


def test_a_report_is_a_page_and_figures_that_a_later_run_can_be_set_against(pictures, tmp_path):
    figures = made_up_figures()
    assert write_report(tmp_path / "new" / "report", figures, [pictures]) == tmp_path / "new/report/index.html"
    assert sorted(f.name for f in (tmp_path / "new/report").iterdir()) == ["figures.json", "index.html"]
    assert read_figures(tmp_path / "new/report") == figures


def test_what_was_left_out_and_what_is_wrong_with_the_poses_is_said():
    figures = made_up_figures()
    assert "Remarks on the recording" not in Checker(make_page(figures, [[]])).text
    (part,) = figures["sequences"]
    part["faults"] = {f"images/{i:05d}.png": "it is <cut> off" for i in range(25)}
    part["dropped"] = {"cannot be read": 25}
    part["trajectory"] = {"findings": ["images and poses are 40 ms apart"]}
    text = Checker(make_page(figures, [[]])).text
    for said in (
        "images/00019.png: it is <cut> off", "… and 6 more in the figures", "office: trajectory",
        "images and poses are 40 ms apart",
    ):  # fmt: skip
        assert said in text
    assert "images/00020.png" not in text
    part["trajectory"]["findings"] = []
    assert "Nothing wrong was found with the poses" in Checker(make_page(figures, [[]])).text


def test_the_most_confident_half_is_named():
    figures = made_up_figures(confidence=True)
    confidence = figures["all"]["confidence"]
    half = confidence["error"][confidence["left_out"].index(0.5)]
    assert f"the most confident half of the pixels has a relative error of {half:.3f}" in make_page(figures, [[]])
    assert all(part["ratio_110"] <= part["ratio_125"] for part in confidence["calibration"])


def test_a_failing_plane_sweep_does_not_flatten_the_plot_of_the_network():
    figures = made_up_figures(error=0.1)
    figures["sequences"][0]["per_keyframe"]["plane_sweep"] = [0.9] * 8
    page = make_page(figures, [[]])
    # The highest tick of the plot over time is below the sweep's errors.
    plot = page[page.index("Error over time") : page.index("Where it fails")]
    ticks = [float(tick) for tick in re.findall(r'<text class="y"[^>]*>([\d.]+)</text>', plot)]
    assert max(ticks) < 0.8
