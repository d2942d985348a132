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
_MIN_PARALLAX = 1e-3  # cells, below which an epipolar line has no direction


@compiled
def keep_visible(
    corners, rays, prior, view_T_ref, K, height, width, border, nearest_m, starts, expected, x, depth, parallax, count
):
    """Keeps the corners that the view shows, and says where.

    Args:
        corners: (N, 2) cells of the reference view.
        rays: (N, 3) their rays.
        prior: (N,) metres of their depth.
        view_T_ref: (4, 4).
        K: of the view.
        height: of the view's image, cells.
        width: the same.
        border: cells along the border in which no corner is kept.
        nearest_m: depth in the view below which no corner is kept.
        starts: (N, 2) for those kept of `corners`.
        expected: (N, 2) for the cells of the view where they should be.
        x: (N, 3) for those kept of `rays`.
        depth: (N,) for those kept of `prior`.
        parallax: (N,) for the cells that translation moves them.
        count: for their number.
    """
    kept = 0
    t = view_T_ref[:3, 3]
    for n in range(len(corners)):
        # Direction of the corner at infinite depth: where the view sees it without translation.
        far = (_dot(view_T_ref[0], rays[n]), _dot(view_T_ref[1], rays[n]), _dot(view_T_ref[2], rays[n]))
        point = (prior[n] * far[0] + t[0], prior[n] * far[1] + t[1], prior[n] * far[2] + t[2])
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
        depth[kept] = prior[n]
        kept += 1
    count[0] = kept


@compiled
def keep_found(status, height, width, border, found, starts, x, depth, parallax, count):
    """Keeps the corners that were found in the view, off its border.

    Args:
        status: (N, 1) uint8, 0 where a corner was not found.
        height: of the view's image, cells.
        width: the same.
        border: cells along the border in which no corner is kept.
        found: (N, 2) cells of the view.
        starts: (≥ N, 2) cells of the reference view.
        x: (≥ N, 3).
        depth: (≥ N,).
        parallax: (≥ N,).
        count: for the number of those that are kept of the last five.
    """
    kept = 0
    for n in range(len(found)):
        if status[n, 0] > 0 and _is_inside(found[n, 0], found[n, 1], height, width, border):
            found[kept, 0], found[kept, 1] = found[n, 0], found[n, 1]
            starts[kept, 0], starts[kept, 1] = starts[n, 0], starts[n, 1]
            for i in range(3):
                x[kept, i] = x[n, i]
            depth[kept], parallax[kept] = depth[n], parallax[n]
            kept += 1
    count[0] = kept


@compiled
def keep_returned(status, returned, max_return, found, starts, K, x, y, depth, parallax, median_parallax, count):
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
        depth: (≥ N,).
        parallax: (≥ N,).
        median_parallax: (1,) for the median of those that are kept.
        count: for their number.
    """
    kept = 0
    for n in range(len(found)):
        returns = abs(returned[n, 0] - starts[n, 0]) <= max_return and abs(returned[n, 1] - starts[n, 1]) <= max_return
        if status[n, 0] > 0 and returns:
            y[kept, 0], y[kept, 1] = (found[n, 0] - K[0, 2]) / K[0, 0], (found[n, 1] - K[1, 2]) / K[1, 1]
            y[kept, 2] = 1
            for i in range(3):
                x[kept, i] = x[n, i]
            depth[kept], parallax[kept] = depth[n], parallax[n]
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


@compiled
def best_turn_by_depth(
    x,
    y,
    depth,
    focal,
    view_T_ref,
    expected_turn,
    expected_scale,
    expected_exponent,
    expected_depth,
    track_noise,
    outlier,
    correlated,
    iterations,
    converged,
    turn,
    gain,
):
    """The rotation of the view and the change of prior depth with the least robust cost plus prior, by Gauss-Newton.

    Log depth changes by a + b · (log depth less its mean): a scale and an exponent.

    Args:
        x: (N, 3).
        y: (N, 3).
        depth: (N,) prior depth in the reference view, metres.
        focal: (2, 2) fx, fy of the reference view's cells and of the other's.
        view_T_ref: (4, 4) as given.
        expected_turn: deviation of the prior of each component of the rotation vector, radians.
        expected_scale: deviation of the prior of a.
        expected_exponent: deviation of the prior of b.
        expected_depth: deviation of log prior depth besides.
        track_noise: deviation of tracks, cells.
        outlier: squared residual, over its variance, that counts half (Cauchy).
        correlated: tracks that count as one.
        iterations: at most so many.
        converged: change of the solution, radians, after which there is none.
        turn: (3, 3) for the rotation.
        gain: (1,) for the log likelihood that it adds to what the change of depth alone can explain.
    """
    A, b, step = np.empty((5, 5)), np.empty(5), np.empty(5)
    precisions = np.full(5, 1 / expected_turn**2)
    precisions[3], precisions[4] = 1 / expected_scale**2, 1 / expected_exponent**2
    off_mean = np.log(depth)
    off_mean -= off_mean.mean()
    variance, variances = track_noise**2, np.full(len(x), track_noise**2)  # across the lines; along them
    for free in range(2):  # depth alone, then the rotation as well
        solution = np.zeros(5)  # rotation vector, a, b
        for iteration in range(iterations + 1):
            _rotation(solution, turn)
            A[:], cost = 0, 0.0
            for i in range(5):
                fixed = i < 3 and not free
                A[i, i] = 1 if fixed else precisions[i]
                b[i] = 0 if fixed else -precisions[i] * solution[i]
                cost += 0.5 * precisions[i] * solution[i] ** 2
            for n in range(len(x)):
                here = np.exp(solution[3] + solution[4] * off_mean[n]) * depth[n]
                in_front, p, along, across, dj, dl = _off_expected(x[n], y[n], here, focal, view_T_ref, turn)
                if not in_front:
                    continue
                if iteration == 0:  # of the given pose and depth: a variance that grew would explain everything
                    variances[n] = variance + (p * expected_depth) ** 2
                m = along**2 / variances[n] + across**2 / variance
                cost += 0.5 * outlier * np.log1p(m / outlier) / correlated
                weight = 1 / ((1 + m / outlier) * correlated)
                J = (dj[0], dj[1], dj[2], dj[3], off_mean[n] * dj[3])
                L = (dl[0], dl[1], dl[2], dl[3], off_mean[n] * dl[3])
                for i in range(0 if free else 3, 5):
                    b[i] += weight * (J[i] * along / variances[n] + L[i] * across / variance)
                    for k in range(0 if free else 3, 5):
                        A[i, k] += weight * (J[i] * J[k] / variances[n] + L[i] * L[k] / variance)
            if iteration == iterations:
                break
            step[:] = b
            _solve(A, step)
            for i in range(5):
                solution[i] += step[i]
            if np.abs(step).max() < converged:
                break
        gain[0] = gain[0] - cost if free else cost


@inlined
def _off_expected(x, y, depth, focal, view_T_ref, turn):
    """How far a track ends from where depth and pose say, along and across its epipolar line.

    Returns:
        Whether the point is in front of the view; how far translation moves it, cells; the two distances, cells;
        and the derivatives (4,) of the expected place along and across by a rotation of the view and by log depth.
    """
    R, t = view_T_ref, view_T_ref[:3, 3]
    unturned = (_dot(R[0], x), _dot(R[1], x), _dot(R[2], x))
    far = (_dot(turn[0], unturned), _dot(turn[1], unturned), _dot(turn[2], unturned))
    by_depth = (depth * far[0], depth * far[1], depth * far[2])
    X = (by_depth[0] + _dot(turn[0], t), by_depth[1] + _dot(turn[1], t), by_depth[2] + _dot(turn[2], t))
    in_front = X[2] > _MIN_LENGTH and far[2] > _MIN_LENGTH
    z, far_z = max(X[2], _MIN_LENGTH), max(far[2], _MIN_LENGTH)
    fx, fy = focal[1, 0], focal[1, 1]
    a, b = fx * (X[0] / z - far[0] / far_z), fy * (X[1] / z - far[1] / far_z)
    p = np.sqrt(a * a + b * b)
    ux, uy = (a / p, b / p) if p > _MIN_PARALLAX else (1.0, 0.0)  # along the line
    rx, ry = fx * (y[0] - X[0] / z), fy * (y[1] - X[1] / z)
    gx, gy = (fx / z, 0.0, -fx * X[0] / (z * z)), (0.0, fy / z, -fy * X[1] / (z * z))
    along = (ux * gx[0] + uy * gy[0], ux * gx[1] + uy * gy[1], ux * gx[2] + uy * gy[2])
    across = (ux * gy[0] - uy * gx[0], ux * gy[1] - uy * gx[1], ux * gy[2] - uy * gx[2])
    # A rotation w of the view moves X by w × X, and g · (w × X) = w · (X × g).
    J, L = _cross_product(X, along), _cross_product(X, across)
    J4, L4 = (J[0], J[1], J[2], _dot(along, by_depth)), (L[0], L[1], L[2], _dot(across, by_depth))
    return in_front, p, ux * rx + uy * ry, ux * ry - uy * rx, J4, L4


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
    """Puts the solution of A v = b in place of b (N,); A (N, N), positive definite, which needs no pivots, is lost."""
    size = len(b)
    for i in range(size):
        for j in range(i + 1, size):
            factor = A[j, i] / A[i, i]
            for k in range(i, size):
                A[j, k] -= factor * A[i, k]
            b[j] -= factor * b[i]
    for i in range(size - 1, -1, -1):
        for j in range(i + 1, size):
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
