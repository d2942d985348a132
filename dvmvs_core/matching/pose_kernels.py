# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The loops of pose correction over corners and tracks. Importing this module needs numba.

Symbols: N corners or tracks; x, y rays at depth 1 in the reference and in the view; E = [t]× R, of view_T_ref; K of
cells, (3, 3). Cells are float32, as OpenCV tracks them, all else float64.

A loop that leaves some corners out moves the others to the front of their arrays. `count` (1,) is for their number.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled, inlined

_MIN_LENGTH = 1e-12


@compiled
def keep_visible(
    corners, rays, depth, view_T_ref, K, height, width, border, nearest_m, starts, expected, x, parallax, count
):
    """Keeps the corners that the view shows, and says where.

    Args:
        corners: (N, 2) cells of the reference view.
        rays: (N, 3) their rays.
        depth: (N,) metres.
        view_T_ref: (4, 4).
        K: of the view.
        height: of the view's image, cells.
        width: the same.
        border: cells along the border in which no corner is kept.
        nearest_m: depth in the view below which no corner is kept.
        starts: (N, 2) for those kept of `corners`.
        expected: (N, 2) for the cells of the view where they should be.
        x: (N, 3) for those kept of `rays`.
        parallax: (N,) for the cells that translation moves them.
        count: for their number.
    """
    kept = 0
    t = view_T_ref[:3, 3]
    for n in range(len(corners)):
        # of the corner, infinitely distant
        far = (_dot(view_T_ref[0], rays[n]), _dot(view_T_ref[1], rays[n]), _dot(view_T_ref[2], rays[n]))
        point = (depth[n] * far[0] + t[0], depth[n] * far[1] + t[1], depth[n] * far[2] + t[2])
        if not (point[2] > nearest_m and far[2] > 0):
            continue
        u, v = _projected(point, K)
        if not _is_inside(u, v, height, width, border):
            continue
        far_u, far_v = _projected(far, K)
        parallax[kept] = np.sqrt((u - far_u) ** 2 + (v - far_v) ** 2)
        starts[kept, 0], starts[kept, 1] = corners[n, 0], corners[n, 1]
        expected[kept, 0], expected[kept, 1] = u, v
        for i in range(3):
            x[kept, i] = rays[n, i]
        kept += 1
    count[0] = kept


@compiled
def keep_found(status, height, width, border, found, starts, x, parallax, count):
    """Keeps the corners that were found in the view, off its border.

    Args:
        status: (N, 1) uint8, 0 where a corner was not found.
        height: of the view's image, cells.
        width: the same.
        border: cells along the border in which no corner is kept.
        found: (N, 2) cells of the view.
        starts: (≥ N, 2) cells of the reference view.
        x: (≥ N, 3).
        parallax: (≥ N,).
        count: for the number of those that are kept of the last four.
    """
    kept = 0
    for n in range(len(found)):
        if status[n, 0] > 0 and _is_inside(found[n, 0], found[n, 1], height, width, border):
            found[kept, 0], found[kept, 1] = found[n, 0], found[n, 1]
            starts[kept, 0], starts[kept, 1] = starts[n, 0], starts[n, 1]
            for i in range(3):
                x[kept, i] = x[n, i]
            parallax[kept] = parallax[n]
            kept += 1
    count[0] = kept


@compiled
def keep_returned(status, returned, max_return, found, starts, K, x, y, parallax, median_parallax, count):
    """Keeps the corners that are tracked back to where they started.

    Args:
        status: (N, 1) uint8, 0 where a corner was not found again.
        returned: (N, 2) where it was, cells of the reference view.
        max_return: cells, along either axis, by which that may differ.
        found: (N, 2) cells of the view.
        starts: (≥ N, 2) cells of the reference view.
        K: of the view.
        x: (≥ N, 3).
        y: (N, 3) for the rays of `found` that are kept.
        parallax: (≥ N,).
        median_parallax: (1,) for the median of those that are kept.
        count: for their number.
    """
    kept = 0
    for n in range(len(found)):
        off = max(abs(returned[n, 0] - starts[n, 0]), abs(returned[n, 1] - starts[n, 1]))
        if status[n, 0] > 0 and off <= max_return:
            y[kept, 0], y[kept, 1] = (found[n, 0] - K[0, 2]) / K[0, 0], (found[n, 1] - K[1, 2]) / K[1, 1]
            y[kept, 2] = 1
            for i in range(3):
                x[kept, i] = x[n, i]
            parallax[kept] = parallax[n]
            kept += 1
    count[0] = kept
    median_parallax[0] = _median(parallax[:kept])


@compiled
def median_distance(x, y, focal, E, median):
    """Median Sampson distance of tracks from their epipolar lines.

    Args:
        x: (N, 3).
        y: (N, 3).
        focal: (2, 2) fx, fy of the reference view's cells and of the other's.
        E: (3, 3).
        median: (1,) for the result, cells.
    """
    distances = np.empty(len(x))
    for n in range(len(x)):
        distances[n] = abs(_residual(x[n], y[n], focal, E)[0])
    median[0] = _median(distances)


@compiled
def best_turn(
    x, y, focal, E, expected_turn, expected_shift, track_noise, outlier, iterations, converged, turn, turned_E
):
    """The rotation of the view with the least robust cost plus prior, by Gauss-Newton.

    Args:
        x: (N, 3).
        y: (N, 3).
        focal: (2, 2) fx, fy of the reference view's cells and of the other's.
        E: (3, 3) as given.
        expected_turn: deviation of the prior of each component of the rotation vector, radians.
        expected_shift: deviation of the prior of the root mean square shift along epipolar lines, cells.
        track_noise: deviation of residuals, cells.
        outlier: residual that counts half, cells.
        iterations: at most so many.
        converged: change, radians, after which there is none.
        turn: (3, 3) for the rotation.
        turned_E: (3, 3) for E of the turned view.
    """
    doubt = np.zeros((3, 3))
    for n in range(len(x)):
        shift = _shift_along(x[n], y[n], focal, E)
        for i in range(3):
            for j in range(3):
                doubt[i, j] += shift[i] * shift[j] / (len(x) * expected_shift**2)
    for i in range(3):
        doubt[i, i] += 1 / expected_turn**2
    w, step, information = np.zeros(3), np.empty(3), np.empty((3, 3))  # w: the rotation vector
    _rotation(w, turn)
    _product(turn, E, turned_E)
    for _ in range(iterations):
        for i in range(3):
            step[i] = _dot(doubt[i], w)
            for j in range(3):
                information[i, j] = doubt[i, j]
        for n in range(len(x)):
            r, J = _residual(x[n], y[n], focal, turned_E)
            weight = 1 / ((1 + (r / outlier) ** 2) * track_noise**2)
            for i in range(3):
                step[i] += weight * J[i] * r
                for j in range(3):
                    information[i, j] += weight * J[i] * J[j]
        _solve(information, step)
        for i in range(3):
            w[i] -= step[i]
        _rotation(w, turn)
        _product(turn, E, turned_E)  # [turn t]× turn R = turn [t]× R
        if max(abs(step[0]), abs(step[1]), abs(step[2])) < converged:
            break


@inlined
def _residual(x, y, focal, E):
    """Signed residual of a track in cells, and its derivatives (3,) by a rotation of the view."""
    Ex = (_dot(E[0], x), _dot(E[1], x), _dot(E[2], x))
    a, b = _dot(E[:, 0], y) / focal[0, 0], _dot(E[:, 1], y) / focal[0, 1]  # slopes by cells
    c, d = Ex[0] / focal[1, 0], Ex[1] / focal[1, 1]
    length = max(np.sqrt(a * a + b * b + c * c + d * d), _MIN_LENGTH)
    # A rotation exp(w) of the view makes E exp(w) E, so that yᵀ E x grows by yᵀ (w × E x) = w · (E x × y).
    J = _cross_product(Ex, y)
    return _dot(y, Ex) / length, (J[0] / length, J[1] / length, J[2] / length)


@inlined
def _shift_along(x, y, focal, E):
    """Derivatives (3,) of a track's shift along its line, cells, by a rotation of the view.

    Source: y + w × y, projected, moves by (w × y) - y (w × y)z.
    """
    a, b = _dot(E[1], x), -_dot(E[0], x)  # along the line
    length = max(np.sqrt(a * a + b * b), _MIN_LENGTH)
    a, b = a * focal[1, 0] / length, b * focal[1, 1] / length
    return _cross_product(y, (a, b, -(a * y[0] + b * y[1])))  # way · (w × y) = w · (y × way)


@inlined
def _rotation(w, R):
    """The rotation R (3, 3) of a rotation vector, by Rodrigues' formula."""
    angle = np.sqrt(_dot(w, w))
    c, s = np.cos(angle), np.sin(angle)
    length = max(angle, _MIN_LENGTH)
    a = (w[0] / length, w[1] / length, w[2] / length)
    for i in range(3):
        for j in range(3):
            R[i, j] = (1 - c) * a[i] * a[j]
        R[i, i] += c
        R[i, i - 1] += s * a[i - 2]
        R[i, i - 2] -= s * a[i - 1]


@inlined
def _product(A, B, AB):
    for i in range(3):
        for j in range(3):
            AB[i, j] = A[i, 0] * B[0, j] + A[i, 1] * B[1, j] + A[i, 2] * B[2, j]


@inlined
def _solve(A, b):
    """Puts the solution of A v = b in place of b (3,); A (3, 3), positive definite, which needs no pivots, is lost."""
    for i in range(3):
        for j in range(i + 1, 3):
            factor = A[j, i] / A[i, i]
            for k in range(i, 3):
                A[j, k] -= factor * A[i, k]
            b[j] -= factor * b[i]
    for i in range(2, -1, -1):
        for j in range(i + 1, 3):
            b[i] -= A[i, j] * b[j]
        b[i] /= A[i, i]


@inlined
def _median(values):
    """Median of values; NaN where one is NaN or where there is none, as numpy's."""
    return np.nan if len(values) == 0 or np.isnan(values).any() else np.median(values)


@inlined
def _projected(point, K):
    return point[0] / point[2] * K[0, 0] + K[0, 2], point[1] / point[2] * K[1, 1] + K[1, 2]


@inlined
def _is_inside(u, v, height, width, border):
    """Whether a cell is in an image of that size, off its border."""
    return border <= u <= width - 1 - border and border <= v <= height - 1 - border


@inlined
def _dot(a, b):
    """Product of the first three components."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@inlined
def _cross_product(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
