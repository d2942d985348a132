# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Bundle adjustment of a keyframe's views over tracked corners. Importing this module needs numba.

Symbols: N corners, V views; x rays at depth 1 in the reference; y places at depth 1 in a view. A solution (6 V + 4,)
holds rotation vector and translation of each view, then a, b, the logarithm of the focal length over the given one and
the radial distortion k, which the views share with the reference. Log depth of a corner is that of its prior, plus
doubt · (a + b · (log of the prior less its mean)), plus a change of its own. These changes are eliminated from the
normal equations (Schur complement), so that their size does not depend on N. What the reference sees at x lies at
(1 − k r²) x, and what lies at y is seen at (1 + k r²) y, r being its distance from the axis.
"""

from __future__ import annotations

import numpy as np

from dvmvs_core.runtime.compiled import compiled, inlined

_MIN_DEPTH = 0.02
_MIN_LENGTH = 1e-12
_MAX_CHANGE = 0.5
"""Of a corner's log depth in one step: the equations are linear only so far."""


@compiled
def adjust(
    x,
    y,
    seen,
    depth,
    focal,
    view_T_ref,
    precision,
    doubt,
    expected_depth,
    track_noise,
    outlier,
    correlated,
    iterations,
    converged,
    first,
    last,
    solution,
    information,
    cost,
):
    """Parameters with the least robust cost plus prior, by Gauss-Newton; those that are not free stay 0.

    Args:
        x: (N, 3).
        y: (V, N, 2).
        seen: (V, N) bool: where `y` is known.
        depth: (N,) prior depth in the reference view, metres.
        focal: (V, 2) fx, fy of the views' cells, as given.
        view_T_ref: (V, 4, 4) as given.
        precision: (6 V + 4, 6 V + 4) of the prior of a solution, whose mean is 0.
        doubt: (N,) 0…1: how much of what all corners share a corner's depth takes part in.
        expected_depth: (N,) deviations of the corners' own changes of log depth.
        track_noise: deviation of tracks, cells.
        outlier: squared residual, over its variance, that counts half (Cauchy).
        correlated: tracks that count as one.
        iterations: at most so many.
        converged: fall of the cost after which there is none.
        first: first free parameter; the corners' changes are always free.
        last: parameter after the last free one.
        solution: for the result.
        information: (last - first, last - first) for the inverse covariance of the free parameters.
        cost: (1,) for the cost of the solution: the less, the likelier.
    """
    corners, size = len(x), len(solution)
    off_mean = np.log(depth)
    off_mean -= off_mean.mean()
    A, b = np.empty((size, size)), np.empty(size)
    both, own, slope = np.empty((corners, size)), np.empty(corners), np.empty(corners)
    changes, next_changes, next_solution = np.zeros(corners), np.empty(corners), np.zeros(size)
    turns, J = np.empty((len(view_T_ref), 3, 3)), np.empty((2, 11))
    tracks = (x, y, seen, depth, off_mean, focal, view_T_ref)
    variances = (precision, doubt, expected_depth, 1 / track_noise**2, outlier, correlated)
    solution[:] = 0
    cost[0] = _cost(tracks, variances, solution, changes, turns, J)
    for _ in range(iterations):
        _set_up(tracks, variances, solution, changes, turns, J, A, b, both, own, slope)
        for n in range(corners):
            for i in range(first, last):
                share = both[n, i] / own[n]
                if share != 0:
                    b[i] -= share * slope[n]
                    for j in range(first, last):
                        A[i, j] -= share * both[n, j]
        information[:] = A[first:last, first:last]
        _solve(A[first:last, first:last], b[first:last])
        for n in range(corners):
            rest = slope[n]
            for i in range(first, last):
                rest -= both[n, i] * b[i]
            next_changes[n] = changes[n] + min(max(rest / own[n], -_MAX_CHANGE), _MAX_CHANGE)
        for i in range(first, last):
            next_solution[i] = solution[i] + b[i]
        next_cost = _cost(tracks, variances, next_solution, next_changes, turns, J)
        if not next_cost < cost[0]:
            break
        fall = cost[0] - next_cost
        cost[0] = next_cost
        solution[:], changes[:] = next_solution, next_changes
        if fall < converged:
            break


@inlined
def _cost(tracks, variances, s, e, turns, J):
    """Half of the robust squared residuals over their variances, plus that of the prior."""
    x, y, seen, depth, off_mean, focal, view_T_ref = tracks
    precision, doubt, expected_depth, by_track, outlier, correlated = variances
    size = len(s)
    cost = 0.0
    for i in range(size):
        for j in range(size):
            cost += 0.5 * s[i] * precision[i, j] * s[j]
    for v in range(len(view_T_ref)):
        _rotation(s[6 * v : 6 * v + 3], turns[v])
    for n in range(len(x)):
        here = np.exp(doubt[n] * (s[size - 4] + s[size - 3] * off_mean[n]) + e[n]) * depth[n]
        cost += 0.5 * outlier * np.log1p((e[n] / expected_depth[n]) ** 2 / outlier) / correlated
        for v in range(len(view_T_ref)):
            if seen[v, n]:
                move = (view_T_ref[v], turns[v], s[6 * v + 3 :])
                is_in_front, rx, ry = _off(x[n], y[v, n], here, focal[v], *move, s[size - 2], s[size - 1], J)
                if is_in_front:
                    cost += 0.5 * outlier * np.log1p((rx * rx + ry * ry) * by_track / outlier) / correlated
    return cost


@inlined
def _set_up(tracks, variances, s, e, turns, J, A, b, both, own, slope):
    """The normal equations: A step + bothᵀ changes = b, both step + own · changes = slope."""
    x, y, seen, depth, off_mean, focal, view_T_ref = tracks
    precision, doubt, expected_depth, by_track, outlier, correlated = variances
    size = len(s)
    place = np.empty(10, np.int64)
    for i in range(6, 10):
        place[i] = size - 10 + i
    for i in range(size):
        b[i] = 0
        for j in range(size):
            A[i, j] = precision[i, j]
            b[i] -= precision[i, j] * s[j]
    for v in range(len(view_T_ref)):
        _rotation(s[6 * v : 6 * v + 3], turns[v])
    both[:] = 0
    for n in range(len(x)):
        here = np.exp(doubt[n] * (s[size - 4] + s[size - 3] * off_mean[n]) + e[n]) * depth[n]
        own[n] = 1 / (1 + (e[n] / expected_depth[n]) ** 2 / outlier) / expected_depth[n] ** 2 / correlated
        slope[n] = -own[n] * e[n]
        for v in range(len(view_T_ref)):
            if not seen[v, n]:
                continue
            move = (view_T_ref[v], turns[v], s[6 * v + 3 :])
            is_in_front, rx, ry = _off(x[n], y[v, n], here, focal[v], *move, s[size - 2], s[size - 1], J)
            if not is_in_front:
                continue
            weight = by_track / (1 + (rx * rx + ry * ry) * by_track / outlier) / correlated
            for i in range(6):
                place[i] = 6 * v + i
            for k in range(2):  # by a and by b
                J[k, 6], J[k, 7] = doubt[n] * J[k, 10], doubt[n] * off_mean[n] * J[k, 10]
            own[n] += weight * (J[0, 10] ** 2 + J[1, 10] ** 2)
            slope[n] += weight * (J[0, 10] * rx + J[1, 10] * ry)
            for i in range(10):
                b[place[i]] += weight * (J[0, i] * rx + J[1, i] * ry)
                both[n, place[i]] += weight * (J[0, i] * J[0, 10] + J[1, i] * J[1, 10])
                for j in range(10):
                    A[place[i], place[j]] += weight * (J[0, i] * J[0, j] + J[1, i] * J[1, j])


@inlined
def _off(x, y, depth, given_focal, view_T_ref, turn, shift, log_focal, distortion, J):
    """How far a track ends from where depth, pose, focal length and distortion say, cells; puts derivatives into J.

    They are by rotation and translation of the view, J[:, :6], by the logarithm of focal length, J[:, 8], by radial
    distortion, J[:, 9], and by the logarithm of depth, J[:, 10]. With a longer focal length the rays of both views are
    closer to the axis; with a distortion above 0 they are closer the farther they are from it.
    """
    R, t = view_T_ref, view_T_ref[:3, 3]
    longer = np.exp(log_focal)
    seen = (x[0] / longer, x[1] / longer)
    square = seen[0] * seen[0] + seen[1] * seen[1]
    straight = 1 - distortion * square
    ray = (seen[0] * straight, seen[1] * straight, 1.0)
    unturned = (_dot(R[0], ray), _dot(R[1], ray), _dot(R[2], ray))
    by_depth = (depth * _dot(turn[0], unturned), depth * _dot(turn[1], unturned), depth * _dot(turn[2], unturned))
    turned = (by_depth[0] + _dot(turn[0], t), by_depth[1] + _dot(turn[1], t), by_depth[2] + _dot(turn[2], t))
    X, Y, z = turned[0] + shift[0], turned[1] + shift[1], max(turned[2] + shift[2], _MIN_DEPTH)
    p, q = X / z, Y / z
    off_axis = p * p + q * q
    bent = 1 + distortion * off_axis
    focal = (longer * given_focal[0], longer * given_focal[1])
    u, v = focal[0] * p * bent, focal[1] * q * bent
    mixed = 2 * distortion * p * q
    du = (focal[0] * (bent + 2 * distortion * p * p) / z, focal[0] * mixed / z)
    dv = (focal[1] * mixed / z, focal[1] * (bent + 2 * distortion * q * q) / z)
    gradients = ((du[0], du[1], -p * du[0] - q * du[1]), (dv[0], dv[1], -p * dv[0] - q * dv[1]))
    closer = -depth * (1 - 3 * distortion * square)
    nearer = (closer * seen[0], closer * seen[1], 0.0)
    straighter = (-depth * square * seen[0], -depth * square * seen[1], 0.0)
    by_focal = (_dot(R[0], nearer), _dot(R[1], nearer), _dot(R[2], nearer))
    by_focal = (_dot(turn[0], by_focal), _dot(turn[1], by_focal), _dot(turn[2], by_focal))
    by_bend = (_dot(R[0], straighter), _dot(R[1], straighter), _dot(R[2], straighter))
    by_bend = (_dot(turn[0], by_bend), _dot(turn[1], by_bend), _dot(turn[2], by_bend))
    for k in range(2):
        # A rotation w moves a point X by w × X, and g · (w × X) = w · (X × g).
        J[k, 0], J[k, 1], J[k, 2] = _cross_product(turned, gradients[k])
        J[k, 3], J[k, 4], J[k, 5] = gradients[k]
        J[k, 8], J[k, 9] = _dot(gradients[k], by_focal), _dot(gradients[k], by_bend)
        J[k, 10] = _dot(gradients[k], by_depth)
    J[0, 8] += u
    J[1, 8] += v
    J[0, 9] += focal[0] * p * off_axis
    J[1, 9] += focal[1] * q * off_axis
    return z > _MIN_DEPTH, given_focal[0] * y[0] - u, given_focal[1] * y[1] - v


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
def _dot(a, b):
    """Product of the first three components."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@inlined
def _cross_product(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
