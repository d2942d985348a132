# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Confidence of a wall two metres away, by hand."""

from __future__ import annotations

import json
import math
import sys

import pytest
import torch
from camera_poses import pose_tensor as pose_at

from dvmvs_core import confidence as module
from dvmvs_core.captured_steps import choose_confidence
from dvmvs_core.confidence import (
    AGREEMENT_SCALE,
    COEFFICIENTS,
    CUES,
    compiled_confidence,
    confidence_cues,
    estimate_confidence,
)
from dvmvs_core.errors import WeightsError

HEIGHT, WIDTH = 64, 96
K = torch.tensor([[[80.0, 0, 48], [0, 80.0, 32], [0, 0, 1]]])
WALL = torch.full((1, HEIGHT, WIDTH), 2.0)
FLAT = torch.ones(1, 3, HEIGHT // 2, WIDTH // 2)
"""A matching map that looks alike everywhere."""


def textured(x: float) -> torch.Tensor:
    """The matching map (1, 8, H/2, W/2) of a camera at x, of a wall at 2 m with fine texture."""
    across = (torch.arange(WIDTH // 2) - 24.0) / 40.0 * 2.0 + x  # metres along the wall
    down = (torch.arange(HEIGHT // 2) - 16.0) / 40.0 * 2.0
    waves = [9.0, 14.0, 23.0, 31.0]
    channels = [torch.sin(across * w + 0.3 * w)[None].expand(HEIGHT // 2, -1) for w in waves]
    channels += [torch.cos(across * w + down[:, None] * 5.0) for w in waves]
    return torch.stack(channels)[None]


def cues(measurements, predictions=(), depth=WALL, matching=FLAT) -> dict[str, torch.Tensor]:
    values, in_view = confidence_cues(depth, K, pose_at(0.0), matching, measurements, list(predictions))
    assert values.shape == (1, len(CUES), HEIGHT // 4, WIDTH // 4)
    return {**dict(zip(CUES, values[0], strict=True)), "in view": in_view[0]}


def confidence(measurements, predictions=(), depth=WALL, matching=FLAT) -> torch.Tensor:
    return estimate_confidence(depth, K, pose_at(0.0), matching, measurements, list(predictions))[0]


def test_a_wall_that_everything_confirms_is_more_certain_than_one_that_something_contradicts():
    views, before = [(textured(0.2), pose_at(0.2))], [(WALL[:, None], pose_at(0.2))]
    sure = confidence(views, before, matching=textured(0.0))
    assert sure.shape == (HEIGHT, WIDTH)
    inner = (slice(16, 48), slice(32, 72))
    assert sure[inner].min() > 0.8
    for doubt in (
        confidence(views, [(WALL[:, None] * 1.5, pose_at(0.2))], matching=textured(0.0)),
        confidence(views, before, matching=FLAT.repeat(1, 3, 1, 1)[:, :8]),
        confidence(views, [(WALL[:, None] * 1.5, pose_at(0.2))], depth=WALL * 1.5, matching=textured(0.0)),
    ):
        assert (doubt < sure)[inner].all()
    assert 0.0 <= sure.min() <= sure.max() <= 1.0


def test_a_contradiction_of_one_scale_takes_agreement_to_1_over_e():
    farther = WALL[:, None] * math.exp(AGREEMENT_SCALE)
    found = cues([(FLAT, pose_at(0.0))], [(farther, pose_at(0.0))])["agreement"]
    torch.testing.assert_close(found, torch.full_like(found, 1 / math.e), atol=1e-4, rtol=0)


def test_predictions_are_averaged_and_missed_where_there_are_none():
    wrong = (WALL[:, None] * 1000, pose_at(0.0))
    right = (WALL[:, None], pose_at(0.0))
    found = cues([(FLAT, pose_at(0.0))], [wrong, right])
    torch.testing.assert_close(found["agreement"], torch.full_like(found["agreement"], 0.5))
    assert found["unconfirmed"].max() == 0.0
    for nobody in ([], [(WALL[:, None], pose_at(100.0))]):
        found = cues([(FLAT, pose_at(0.0))], nobody)
        assert found["agreement"].max() == 0.0
        assert found["unconfirmed"].min() == 1.0


def test_matching_peaks_at_the_true_depth_and_nowhere_else():
    views = [(textured(0.2), pose_at(0.2))]
    inner = (slice(5, 11), slice(8, 18))
    true, wrong = (cues(views, depth=WALL * factor, matching=textured(0.0)) for factor in (1.0, 1.18))
    assert true["similarity_5"][inner].min() > 0.99
    for peak in ("fine_peak_9", "coarse_peak_3", "coarse_peak_9"):
        assert true[peak][inner].min() > 0.05
    assert wrong["fine_peak_9"][inner].max() < -0.05
    assert (true["shift_9"] < wrong["shift_9"])[inner].all()


def test_what_looks_alike_everywhere_has_no_peak():
    found = cues([(FLAT, pose_at(0.1))])
    inner = (slice(5, 11), slice(8, 16))
    assert found["similarity_5"][inner] == pytest.approx(1.0, abs=1e-5)
    for peak in ("fine_peak_9", "coarse_peak_3", "coarse_peak_9"):
        assert found[peak][inner] == pytest.approx(0.0, abs=1e-5)


def test_opposite_descriptors_do_not_match():
    assert cues([(-FLAT, pose_at(0.0))])["similarity_5"] == pytest.approx(-1.0, abs=1e-5)


def test_a_step_in_depth_is_an_edge_as_far_as_neighbourhoods_reach():
    step = WALL.clone()
    step[:, :, 48:] = 4.0
    edge = cues([(FLAT, pose_at(0.0))], depth=step)["edge"]
    assert edge[:, :9].max() == 0.0
    assert edge[:, 9:15] == pytest.approx(math.log(2.0))
    assert edge[:, 15:].max() == 0.0


@pytest.mark.parametrize("far_away", [100.0, -100.0])
def test_what_no_measurement_frame_sees_has_no_confidence(far_away):
    """Though an earlier prediction sees it and agrees."""
    assert confidence([(FLAT, pose_at(far_away))], [(WALL[:, None], pose_at(0.0))]).max() == 0.0


def test_points_behind_a_camera_are_not_in_its_view():
    ahead = pose_at(z=5.0)
    assert confidence([(FLAT, ahead)], [(WALL[:, None], ahead)]).max() == 0.0


def test_a_shift_moves_the_border_of_the_view():
    """A camera 1 m to the right sees the wall from pixel 40 on (80 px / m · 1 m / 2 m)."""
    result = confidence([(FLAT, pose_at(1.0))])
    assert result[:, :36].max() == 0.0
    assert result[:, 44:].min() > 0.0


def test_a_batch_is_its_items():
    views = [(torch.cat((textured(0.2), FLAT.repeat(1, 3, 1, 1)[:, :8])), pose_at(0.2).repeat(2, 1, 1))]
    depth = torch.cat((WALL, WALL * 1.3))
    before = [(depth[:, None], pose_at(0.1).repeat(2, 1, 1))]
    arguments = (K.repeat(2, 1, 1), pose_at(0.0).repeat(2, 1, 1), textured(0.0).repeat(2, 1, 1, 1))
    together = estimate_confidence(depth, *arguments, views, before)
    for i in range(2):
        alone = estimate_confidence(
            depth[i : i + 1], K, pose_at(0.0), textured(0.0), [(m[i : i + 1], p[i : i + 1]) for m, p in views],
            [(d[i : i + 1], p[i : i + 1]) for d, p in before],
        )  # fmt: skip
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("predictions", [0, 1, 3])
def test_the_compiled_one_says_the_same(predictions, frames, channels_last):
    """Two cameras at once that move and turn, before rough ground with holes in what they see."""
    torch.manual_seed(frames)
    waves = torch.sin(torch.arange(WIDTH) / 7.0) * torch.cos(torch.arange(HEIGHT) / 5.0)[:, None]
    depth = torch.stack((2.0 + 0.3 * waves, 3.0 - 0.8 * waves + (torch.arange(WIDTH) > 50)))
    poses = [pose_at(0.1 * i + 0.07).repeat(2, 1, 1) for i in range(frames)]
    for i, pose in enumerate(poses):
        pose[:, 1, 3] = 0.03
        pose[1, :3, :3] = torch.linalg.matrix_exp(0.1 * i * torch.tensor([[0.0, 0, 1], [0, 0, 0.3], [-1, -0.3, 0]]))
    poses[-1][1, 2, 3] = 2.5  # beyond some of the ground
    layout = torch.channels_last if channels_last else torch.contiguous_format
    maps = [torch.randn(2, 9, HEIGHT // 2, WIDTH // 2).contiguous(memory_format=layout) for _ in range(frames + 1)]
    maps[0][:, :, 4:9, 4:9] = 0.0
    past = [(depth[:, None] * (1 + 0.05 * i), pose_at(0.05 * i + 0.013).repeat(2, 1, 1)) for i in range(predictions)]
    shifted = K + torch.tensor([[[0.0, 0, 3], [0, 2, 1], [0, 0, 0]]])
    arguments = (depth, torch.cat((K, shifted)), pose_at(0.0).repeat(2, 1, 1), maps[0])
    views = list(zip(maps[1:], poses, strict=True))
    expected = estimate_confidence(*arguments, views, past)
    found = compiled_confidence(*arguments, views, past)
    assert found.shape == expected.shape and expected.max() > 0.05
    # A point on the border of a view to the last digit may fall on either side of it.
    assert ((found - expected).abs() > 1e-3).float().mean() < 2e-3
    assert (found - expected).abs().mean() < 1e-4


def test_the_compiled_one_sees_nothing_where_nothing_is_in_view():
    for far_away in (100.0, -100.0):
        arguments = (WALL, K, pose_at(0.0), FLAT, [(FLAT, pose_at(far_away))], [(WALL[:, None], pose_at(0.0))])
        assert compiled_confidence(*arguments).max() == 0.0


def test_a_cpu_runs_the_compiled_one_where_numba_is(monkeypatch):
    assert choose_confidence(torch.device("cpu")) is compiled_confidence
    monkeypatch.setitem(sys.modules, "dvmvs_core.runtime.confidence_kernels", None)
    assert choose_confidence(torch.device("cpu")) is estimate_confidence


def test_the_shipped_coefficients_say_how_they_were_fitted():
    stored = json.loads(COEFFICIENTS.read_text())
    assert stored["within"] == module.WITHIN
    assert stored["command"].startswith("dvmvs weights calibrate")
    weights = stored["weights"]
    assert weights["agreement"] > 0 > weights["edge"]


@pytest.mark.parametrize("text", ("", "{}", '{"bias": 0, "weights": {"agreement": 1}}', '{"bias": "x", "weights": {}}'))
def test_damaged_coefficients_are_one_clear_error(tmp_path, text):
    path = tmp_path / "confidence.json"
    path.write_text(text)
    with pytest.raises(WeightsError, match="confidence.json"):
        module.load_coefficients(path)
    with pytest.raises(WeightsError, match="missing.json"):
        module.load_coefficients(tmp_path / "missing.json")
