# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Views of a rendered world whose poses are right, turned a little, or of no use."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import cv2
import matching_walk
import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from dvmvs_core.config import MATCHING_PRESETS
from dvmvs_core.geometry import backproject, inverse_pose, project
from dvmvs_core.matching import matcher as matcher_module
from dvmvs_core.matching import pose_correction
from dvmvs_core.matching.descriptors import Describer
from dvmvs_core.matching.gpu.torch_matcher import TorchMatcher
from dvmvs_core.matching.keyframe import MatchingView
from dvmvs_core.matching.matcher import Matcher
from dvmvs_core.matching.pose_correction import LITTLE_PARALLAX, Tracks, corrected_views, correction
from dvmvs_core.matching.regularise import unregularised
from dvmvs_core.matching.relative_view import HALF
from dvmvs_core.model.lite0 import load_lite0
from dvmvs_core.model.parts import lite0_part
from dvmvs_core.synthetic.clips import SyntheticClips, clip_frame

SIZE = (256, 320)
TURN_DEG = 0.8


def turned(view, degrees, axis=(1.0, 0.5, 1.0)):
    """The view with a pose that is turned about its own centre."""
    world_T_cam = view.world_T_cam.copy()
    rotation = np.deg2rad(degrees) * np.array(axis) / np.linalg.norm(axis)
    world_T_cam[:3, :3] = world_T_cam[:3, :3] @ cv2.Rodrigues(rotation)[0]
    return replace(view, world_T_cam=world_T_cam)


@pytest.fixture(scope="module")
def scene():
    """Three views of a room, the last the reference with its depth (H, W), and exact poses."""
    clip = SyntheticClips(*SIZE, 3, seed=3, textures=16, pose_noise=0.0, motion_blur=0.0).batch(1, 0)
    describe = Describer(lite0_part(load_lite0(), *SIZE).run)
    frames = [clip_frame(clip, index) for index in range(3)]
    views = [MatchingView(describe(frame.image), frame.K, frame.world_T_cam) for frame in frames]
    depth = clip.depth[0, -1].numpy()
    assert (depth > 0).all()
    return SimpleNamespace(views=views[:-1], reference=views[-1], depth=depth, prior=depth[::4, ::4], describe=describe)


def epipolar_error(scene, view, exact):
    """Median distance in pixels of true correspondences from the lines of a view's pose."""
    points = backproject(scene.depth, scene.reference.K)[4::16, 4::16].reshape(-1, 3)
    found = project(_moved(inverse_pose(exact.world_T_cam) @ scene.reference.world_T_cam, points), view.K)
    view_T_ref = inverse_pose(view.world_T_cam) @ scene.reference.world_T_cam
    near, far = (project(_moved(view_T_ref, points * scale), view.K) for scale in (0.7, 1.5))
    way = (far - near) / np.linalg.norm(far - near, axis=1, keepdims=True)
    off = found - near
    return np.median(np.abs(off[:, 0] * way[:, 1] - off[:, 1] * way[:, 0]))


def _moved(b_T_a, points):
    return points @ b_T_a[:3, :3].T + b_T_a[:3, 3]


@pytest.mark.parametrize("axis", [(1.0, 0, 0), (0, 1.0, 0), (1.0, -1.0, 1.0)])
def test_epipolar_lines_of_a_turned_pose_are_brought_back(scene, axis):
    """Measured: 5.4 to 0.1 px about the first axis; half of the image has no corners, which would tell the roll."""
    given = [turned(view, TURN_DEG * np.linalg.norm(axis), axis) for view in scene.views]
    found = corrected_views(scene.reference, given, scene.prior)
    for view, before, exact in zip(found, given, scene.views, strict=True):
        error = epipolar_error(scene, before, exact)
        assert error > 1
        assert epipolar_error(scene, view, exact) < (0.1 if axis[0] == 1 and not axis[1] else 0.6) * error
        np.testing.assert_array_equal(view.world_T_cam[:, 3], before.world_T_cam[:, 3])
        R = view.world_T_cam[:3, :3]
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 0.7, 1.4])
def test_good_poses_stay_as_they_are_however_wrong_the_prior(scene, factor):
    found = corrected_views(scene.reference, scene.views, factor * scene.prior)
    assert all(one is other for one, other in zip(found, scene.views, strict=True))


def test_a_rough_prior_does_not_hinder(scene):
    given = [turned(view, TURN_DEG) for view in scene.views]
    noise = np.random.default_rng(0).normal(0, 0.15, scene.prior.shape).astype(np.float32)
    found = corrected_views(scene.reference, given, scene.prior * np.exp(noise))
    for view, before, exact in zip(found, given, scene.views, strict=True):
        assert epipolar_error(scene, view, exact) < 0.3 * epipolar_error(scene, before, exact)


@pytest.mark.parametrize("threads", [2, 5])
def test_the_number_of_threads_changes_nothing(scene, threads):
    given = [turned(scene.views[i % 2], 0.2 * i) for i in range(6)]
    count = torch.get_num_threads()
    found = []
    try:
        for one in (1, threads):
            torch.set_num_threads(one)
            found.append(corrected_views(scene.reference, given, scene.prior))
    finally:
        torch.set_num_threads(count)
    assert 2 <= sum(view is not before for view, before in zip(found[0], given, strict=True)) < 6
    for alone, shared, before in zip(*found, given, strict=True):
        np.testing.assert_array_equal(alone.world_T_cam, shared.world_T_cam)
        assert (alone is before) == (shared is before)


def test_a_pose_that_is_off_by_far_stays(scene):
    given = [turned(view, 12.0) for view in scene.views]
    assert corrected_views(scene.reference, given, scene.prior)[0] is given[0]


def test_a_view_from_the_same_place_is_turned_back_without_lines(scene):
    """The view is the reference itself, whose pose is turned."""
    given = turned(scene.reference, TURN_DEG)
    (found,) = corrected_views(scene.reference, [given], scene.prior)
    off = cv2.Rodrigues(found.world_T_cam[:3, :3].T.astype(np.float64) @ scene.reference.world_T_cam[:3, :3])[0]
    assert np.degrees(np.linalg.norm(off)) < 0.1 * TURN_DEG
    (same,) = corrected_views(scene.reference, [scene.reference], scene.prior)
    assert same is scene.reference


@pytest.mark.parametrize("grey", ["blank", "noise", "other"])
def test_images_with_nothing_in_common_leave_the_pose(scene, grey):
    shape = scene.reference.descriptors.grey.shape
    noise = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    other = {"blank": np.full(shape, 80, np.uint8), "noise": noise, "other": scene.views[0].descriptors.grey[::-1]}
    described = replace(scene.views[0].descriptors, grey=np.ascontiguousarray(other[grey]))
    given = turned(replace(scene.views[0], descriptors=described), TURN_DEG)
    assert corrected_views(scene.reference, [given], scene.prior)[0] is given
    blind = replace(scene.reference, descriptors=described)
    assert corrected_views(blind, [scene.views[1]], scene.prior)[0] is scene.views[1]


def test_tracks_are_told_by_the_cameras_of_both_views(scene):
    """Of a view whose focal lengths are longer than those of the reference, about the same centre."""
    view, zoom = scene.views[0], 1.15
    grey = np.asarray(view.descriptors.grey)
    cx, cy = (np.linalg.inv(HALF.pixel_from_cell) @ view.K)[:2, 2]
    about = np.array(((zoom, 0, (1 - zoom) * cx), (0, zoom, (1 - zoom) * cy)))
    zoomed = cv2.warpAffine(grey, about, grey.shape[::-1], flags=cv2.INTER_LINEAR)
    K = view.K * np.array(((zoom, 1, 1), (1, zoom, 1), (1, 1, 1)))
    other = replace(view, K=K, descriptors=replace(view.descriptors, grey=zoomed))
    usual, found = (_tracks_of(scene, one) for one in (view, other))
    np.testing.assert_allclose(found.focal[1], zoom * usual.focal[1])
    np.testing.assert_array_equal(found.focal[0], usual.focal[0])
    both = {tuple(x): y for x, y in zip(usual.x, usual.y, strict=True)}
    off = [y - both[tuple(x)] for x, y in zip(found.x, found.y, strict=True) if tuple(x) in both]
    assert len(off) > 30 and np.median(np.abs(off)) < 0.3 / found.focal[1, 0]


def test_tracks_have_the_prior_depth_of_their_place(scene):
    ramp = np.linspace(1, 3, scene.prior.shape[1], dtype=np.float32)[None].repeat(len(scene.prior), 0)
    tracks = _tracks_of(scene, scene.views[0], ramp)
    cells = tracks.x[:, 0] * tracks.focal[0, 0] + (np.linalg.inv(HALF.pixel_from_cell) @ scene.reference.K)[0, 2]
    np.testing.assert_allclose(tracks.depth, 1 + 2 * np.rint(cells / 2) / (ramp.shape[1] - 1), rtol=1e-5)


def _tracks_of(scene, view, prior=None):
    """Tracks of a view, as `corrected_views` makes them."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pose_correction, "correction", lambda tracks, _: found.append(tracks))
        corrected_views(scene.reference, [view], scene.prior if prior is None else prior)
    return found[0]


def test_odd_input_is_survived(scene):
    assert corrected_views(scene.reference, [], scene.prior) == []
    given = [turned(scene.views[0], TURN_DEG)]
    for prior in (np.zeros_like(scene.prior), np.full_like(scene.prior, np.nan), np.full_like(scene.prior, 1e-3)):
        (found,) = corrected_views(scene.reference, given, prior)
        assert np.isfinite(found.world_T_cam).all()
    behind = np.diag((-1.0, 1.0, -1.0, 1.0))
    away = replace(scene.views[0], world_T_cam=scene.views[0].world_T_cam @ behind)
    assert corrected_views(scene.reference, [away], scene.prior) == [away]


def exact_tracks(turn):
    """100 tracks of a view to the side that is turned by a rotation vector; its given pose (4, 4) is not."""
    rng = np.random.default_rng(2)
    x = np.column_stack((rng.uniform(-0.5, 0.5, (100, 2)), np.ones(100)))
    given, exact = np.eye(4), np.eye(4)
    given[:3, 3] = (-0.2, 0.03, 0.05)
    exact[:3, :3] = cv2.Rodrigues(np.array(turn))[0]
    depth = rng.uniform(1, 4, 100)
    y = _moved(exact @ given, x * depth[:, None])
    return Tracks(x, y / y[:, 2:], depth, np.full((2, 2), 140.0), 10.0), given, exact[:3, :3]


def test_some_false_tracks_do_not_matter():
    """A fifth of them is on something that moves. Yaw moves points along their lines, where little is corrected."""
    tracks, given, turn = exact_tracks((0.01, 0.004, -0.012))
    tracks.y[::5, :2] += np.abs(np.random.default_rng(3).normal(0, 0.1, (20, 2)))
    pitch, yaw, roll = np.degrees(cv2.Rodrigues(correction(tracks, given) @ turn.T)[0][:, 0])
    assert abs(pitch) < 0.1 and abs(roll) < 0.15 and -0.3 < yaw < -0.1


def test_what_does_not_tell_leaves_the_pose():
    tracks, given, turn = exact_tracks((0.01, 0.004, -0.012))
    assert correction(tracks, given) is not None
    assert correction(replace(tracks, parallax=np.nan), given) is None
    fewer = {name: getattr(tracks, name)[::8] for name in ("x", "y", "depth")}
    assert correction(replace(tracks, **fewer), given) is None, "13 tracks"
    y = tracks.y + np.random.default_rng(4).normal(0, 0.03, tracks.y.shape) * (1, 1, 0)
    assert correction(replace(tracks, y=y), given) is None, "no turn explains the tracks"


def little_parallax(turn, scale):
    """The same of a view that moved by 2 cells, with prior depth that is off by a factor, and by 15 % besides."""
    tracks, given, exact = exact_tracks(turn)
    given[:3, 3] *= 0.15
    y = _moved(given, tracks.x * tracks.depth[:, None]) @ exact.T
    prior = tracks.depth * scale * np.exp(np.random.default_rng(5).normal(0, 0.15, len(tracks.depth)))
    parallax = np.median(140 * 0.2 * 0.15 / tracks.depth)
    return replace(tracks, y=y / y[:, 2:], depth=prior, parallax=parallax), given, exact


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.5])
def test_depth_tells_a_turn_along_the_lines_where_there_is_little_parallax(scale):
    tracks, given, exact = little_parallax((0.0, 0.012, 0.0), scale)
    assert tracks.parallax < LITTLE_PARALLAX
    off = cv2.Rodrigues(correction(tracks, given) @ exact.T)[0]
    assert np.degrees(np.linalg.norm(off)) < 0.4 * np.degrees(0.012)


@pytest.mark.parametrize("exponent", [1.0, 0.7])
@pytest.mark.parametrize("scale", [0.6, 1.0, 1.8])
def test_depth_that_is_off_by_a_factor_or_too_flat_is_no_turn(scale, exponent):
    tracks, given, _ = little_parallax((0.0, 0.0, 0.0), scale)
    flat = np.exp(exponent * np.log(tracks.depth) + (1 - exponent) * np.log(tracks.depth).mean())
    found = correction(replace(tracks, depth=flat), given)
    assert found is None or np.degrees(np.linalg.norm(cv2.Rodrigues(found)[0])) < 0.15


def test_large_turns_are_wrong_poses_with_little_parallax_too():
    for degrees, is_corrected in ((1.0, True), (5.0, False)):
        tracks, given, _ = little_parallax((np.deg2rad(degrees), 0.0, 0.0), 1.0)
        assert (correction(tracks, given) is not None) == is_corrected


def test_parallax_decides_what_finds_the_rotation():
    """A turn along the lines, of which they show little."""
    tracks, given, exact = little_parallax((0.0, 0.012, 0.0), 1.0)

    def left(parallax):
        found = correction(replace(tracks, parallax=parallax), given)
        return np.linalg.norm(cv2.Rodrigues(found @ exact.T)[0])

    assert left(LITTLE_PARALLAX - 0.01) < 0.006 < left(LITTLE_PARALLAX)


@pytest.mark.parametrize(("pitch_px", "expected"), [(0.1, False), (0.3, True), (6.0, True), (9.0, False)])
def test_poses_are_turned_that_are_rough_and_no_others(pitch_px, expected):
    """Below a third of a pixel tracks may err as much; poses that are off by 3 degrees are wrong, not rough."""
    tracks, given, _ = exact_tracks((pitch_px / 140, 0.0, 0.0))
    assert (correction(tracks, given) is not None) == expected


def test_matching_follows_the_corrected_lines_and_keeps_the_given_poses(scene, monkeypatch):
    """Measured: a median error of 6.7 % in place of 9.1 %."""
    given = [turned(view, TURN_DEG) for view in scene.views]
    poses = [view.world_T_cam.copy() for view in given]
    matcher = Matcher(MATCHING_PRESETS["fast"], scene.describe, unregularised)
    network = np.full(SIZE, np.median(scene.depth), np.float32)

    def error():
        return np.median(np.abs(matcher.match(scene.reference, given, network).depth / scene.depth - 1))

    corrected = error()
    monkeypatch.setattr(matcher_module, "corrected_views", lambda _, views, __: views)
    assert corrected < 0.9 * error()
    for view, pose in zip(given, poses, strict=True):
        np.testing.assert_array_equal(view.world_T_cam, pose)


def test_the_device_corrects_as_the_cpu_does(scene):
    network = torch.full(SIZE, float(np.median(scene.depth)))
    found = []
    for matcher in (
        matching_walk.cpu_matcher("fast", SIZE),
        TorchMatcher(MATCHING_PRESETS["fast"], *SIZE, torch.device("cpu")),
    ):
        views = [
            MatchingView(matcher.describe(torch.from_numpy(view.descriptors.image).float()), view.K, view.world_T_cam)
            for view in (*scene.views, scene.reference)
        ]
        found.append(matcher.match(views[-1], [turned(view, TURN_DEG) for view in views[:-1]], network).on_host())
    relative = matching_walk.differences(found[1].depth, found[0].depth)
    assert np.median(relative) < 1e-3 and (relative > 0.02).mean() < 0.02
