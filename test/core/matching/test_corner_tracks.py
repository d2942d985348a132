# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Corners that are tracked between views of a rendered world, and the loops of it against plain numpy."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("numba")

from dvmvs_core.geometry import inverse_pose
from dvmvs_core.matching import track_kernels
from dvmvs_core.matching.corner_tracks import MIN_TRACKS, track_corners
from dvmvs_core.matching.relative_view import HALF

CELL_FROM_PIXEL = np.linalg.inv(HALF.pixel_from_cell)
K = np.array(((120.0, 0, 80.0), (0, 135.0, 60.0), (0, 0, 1)))
SIZE = (128, 160)


def test_tracks_end_where_the_world_has_them(posed_room):
    tracks = track_corners(posed_room.reference, posed_room.views, posed_room.prior, posed_room.nothing_agrees)
    assert (tracks.seen.sum(axis=1) > 40).all()
    cells = tracks.x[:, :2] * _focal(posed_room.reference) + (CELL_FROM_PIXEL @ posed_room.reference.K)[:2, 2]
    exact = posed_room.depth[tuple(np.rint(2 * cells).astype(int).T[::-1])]
    for view, y, seen, focal in zip(posed_room.views, tracks.y, tracks.seen, tracks.focal, strict=True):
        view_T_ref = inverse_pose(view.world_T_cam) @ posed_room.reference.world_T_cam
        points = (tracks.x * exact[:, None]) @ view_T_ref[:3, :3].T + view_T_ref[:3, 3]
        off = (y - points[:, :2] / points[:, 2:])[seen] * focal
        assert np.median(np.linalg.norm(off, axis=1)) < 0.6


def _focal(view):
    return np.diag(CELL_FROM_PIXEL @ view.K)[:2]


def test_tracks_are_told_by_the_cameras_of_both_views(posed_room):
    """Of a view whose focal lengths are longer than those of the reference, about the same centre."""
    view, zoom = posed_room.views[0], 1.15
    grey = np.asarray(view.descriptors.grey)
    cx, cy = (CELL_FROM_PIXEL @ view.K)[:2, 2]
    about = np.array(((zoom, 0, (1 - zoom) * cx), (0, zoom, (1 - zoom) * cy)))
    zoomed = cv2.warpAffine(grey, about, grey.shape[::-1], flags=cv2.INTER_LINEAR)
    longer = view.K * np.array(((zoom, 1, 1), (1, zoom, 1), (1, 1, 1)))
    other = replace(view, K=longer, descriptors=replace(view.descriptors, grey=zoomed))
    tracks = track_corners(posed_room.reference, [view, other], posed_room.prior, posed_room.nothing_agrees)
    np.testing.assert_allclose(tracks.focal, [_focal(view), zoom * _focal(view)])
    both = tracks.seen.all(axis=0)
    assert both.sum() > 30
    assert np.median(np.abs(tracks.y[0] - tracks.y[1])[both]) < 0.3 / tracks.focal[1, 0]


def test_corners_have_prior_depth_and_agreement_of_their_place(posed_room):
    rows, columns = posed_room.prior.shape
    depth = np.linspace(1, 3, columns, dtype=np.float32)[None].repeat(rows, 0)
    agreement = np.linspace(0, 1, rows, dtype=np.float32)[:, None].repeat(columns, 1)
    tracks = track_corners(posed_room.reference, posed_room.views, depth, agreement)
    cells = tracks.x[:, :2] * _focal(posed_room.reference) + (CELL_FROM_PIXEL @ posed_room.reference.K)[:2, 2]
    column, row = np.rint(np.rint(cells) / 2).T
    np.testing.assert_allclose(tracks.depth, 1 + 2 * column / (columns - 1), rtol=1e-5)
    np.testing.assert_allclose(tracks.agreement, row / (rows - 1), rtol=1e-5)


def test_tracks_of_some_views_are_of_corners_that_these_show(posed_room):
    tracks = track_corners(posed_room.reference, posed_room.views, posed_room.prior, posed_room.nothing_agrees)
    some = tracks.of_views(np.array((1,)))
    shown = tracks.seen[1]
    assert some.seen.all() and 0 < shown.sum() < len(shown)
    np.testing.assert_array_equal(some.y[0], tracks.y[1, shown])
    np.testing.assert_array_equal(some.x, tracks.x[shown])
    np.testing.assert_array_equal(some.depth, tracks.depth[shown])
    np.testing.assert_array_equal(some.agreement, tracks.agreement[shown])
    np.testing.assert_array_equal(some.view_T_ref, tracks.view_T_ref[1:])


def test_a_view_with_few_tracks_has_none(posed_room):
    """The image of the second view shows something on a stripe alone."""
    tracks = track_corners(posed_room.reference, posed_room.views, posed_room.prior, posed_room.nothing_agrees)
    cells = np.flatnonzero(tracks.seen[1])
    assert len(cells) > MIN_TRACKS
    grey = np.asarray(posed_room.views[1].descriptors.grey).copy()
    grey[24:] = 80
    described = replace(posed_room.views[1].descriptors, grey=grey)
    views = [posed_room.views[0], replace(posed_room.views[1], descriptors=described)]
    fewer = track_corners(posed_room.reference, views, posed_room.prior, posed_room.nothing_agrees)
    assert fewer.tracked_views.tolist() == [0]
    assert not fewer.seen[1].any()
    np.testing.assert_array_equal(fewer.seen[0], tracks.seen[0])


def test_visible_corners_are_in_front_of_the_camera_and_in_its_image():
    """Wide cameras, of which one is turned by 60 degrees: many points are behind it. Three have no depth."""
    rng = np.random.default_rng(4)
    wide = np.array(((20.0, 0, 80.0), (0, 30.0, 60.0), (0, 0, 1)))
    cells = rng.uniform(0, (SIZE[1] - 1, SIZE[0] - 1), (200, 2)).astype(np.float32)
    rays = np.column_stack((cells, np.ones(200))).astype(np.float64) @ np.linalg.inv(wide).T
    depth = rng.uniform(0.02, 3, 200)
    depth[:3] = 1e-9, np.nan, 0.04
    for degrees, backwards in ((0.0, -0.04), (60.0, 0.5)):
        view_T_ref = np.eye(4)
        view_T_ref[:3, :3] = cv2.Rodrigues(np.deg2rad((0.0, degrees, 0.0)))[0]
        view_T_ref[:3, 3] = (0.1, -0.05, backwards)
        far = rays @ view_T_ref[:3, :3].T
        points = depth[:, None] * far + view_T_ref[:3, 3]
        with np.errstate(divide="ignore"):
            expected = (points @ wide.T)[:, :2] / points[:, 2:]
        inside = (expected >= 2).all(axis=1) & (expected[:, 0] <= SIZE[1] - 3) & (expected[:, 1] <= SIZE[0] - 3)
        visible = (points[:, 2] > 0.05) & (depth > 0.05) & (far[:, 2] > 0) & inside
        assert 10 < visible.sum() < 190
        near, behind = (inside & (points[:, 2] <= 0.05)).any(), (inside & (points[:, 2] > 0.05) & (far[:, 2] < 0)).any()
        assert near and behind == (degrees > 0), (
            "what is too near or behind the camera is projected into its image, too"
        )

        starts, found = np.empty((200, 2), np.float32), np.empty((200, 2), np.float32)
        index, count = np.empty(200, np.int64), np.empty(1, np.int64)
        track_kernels.keep_visible(cells, rays, depth, view_T_ref, wide, *SIZE, 2, 0.05, starts, found, index, count)
        n = count[0]
        np.testing.assert_array_equal(index[:n], np.flatnonzero(visible))
        np.testing.assert_array_equal(starts[:n], cells[visible])
        np.testing.assert_allclose(found[:n], expected[visible], rtol=1e-6)


def test_corners_are_kept_that_are_found_off_the_border_and_return():
    rng = np.random.default_rng(5)
    starts = rng.uniform(0, 120, (60, 2)).astype(np.float32)
    found = rng.uniform(-5, (SIZE[1] + 5, SIZE[0] + 5), (60, 2)).astype(np.float32)
    found[:5] = (2, 2), (SIZE[1] - 3, SIZE[0] - 3), (1.99, 50), (SIZE[1] - 2.9, 50), (50, SIZE[0] - 2.9)
    status = (rng.uniform(0, 1, (60, 1)) < 0.8).astype(np.uint8)
    status[:5] = 1
    index = rng.permutation(80)[:60]
    inside = (found >= 2).all(axis=1) & (found[:, 0] <= SIZE[1] - 3) & (found[:, 1] <= SIZE[0] - 3)
    good = (status[:, 0] > 0) & inside
    assert good[:5].tolist() == [True, True, False, False, False]
    expected = [values[good] for values in (found, starts, index)]
    count = np.empty(1, np.int64)
    track_kernels.keep_found(status, *SIZE, 2, found, starts, index, count)
    assert count[0] == good.sum()
    for values, wanted in zip((found, starts, index), expected, strict=True):
        np.testing.assert_array_equal(values[: count[0]], wanted)

    n = count[0]
    found, starts = found[:n], starts[:n]
    returned = (starts + rng.uniform(-0.4, 0.4, (n, 2))).astype(np.float32)
    status = (rng.uniform(0, 1, (n, 1)) < 0.8).astype(np.uint8)
    returned[0, 0] = returned[1, 1] = np.nan
    good = (status[:, 0] > 0) & (np.abs(returned - starts) <= np.float32(0.3)).all(axis=1)
    y, seen = np.full((80, 2), np.nan), np.zeros(80, bool)
    track_kernels.keep_returned(status, returned, np.float32(0.3), found, starts, K, index, y, seen, count)
    assert 0 < count[0] == good.sum() < n
    assert set(np.flatnonzero(seen)) == set(index[:n][good])
    assert np.isnan(y[~seen]).all()
    cells = np.column_stack((y[index[:n][good]], np.ones(count[0]))) @ K.T
    np.testing.assert_allclose(cells[:, :2], found[good], atol=1e-9, rtol=0)


def test_corners_that_all_get_lost_leave_none():
    count, index = np.empty(1, np.int64), np.arange(20)
    lost, cells = np.zeros((20, 1), np.uint8), np.full((20, 2), 50, np.float32)
    y, seen = np.zeros((20, 2)), np.zeros(20, bool)
    track_kernels.keep_found(lost, *SIZE, 2, cells, cells.copy(), index, count)
    assert count[0] == 0
    track_kernels.keep_returned(lost, cells, np.float32(0.3), cells, cells, K, index, y, seen, count)
    assert count[0] == 0 and not seen.any()
