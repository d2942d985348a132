# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How far from its axis a lens model speaks of a lens.

A radial model maps how far a ray leans from the axis to how far from the middle its pixel is. Where that stops growing,
the model was fitted to nothing: beyond, rays that the camera never saw come back as mirrored pixels. With s = r² (or
θ²) it is r N(s) / D(s), which grows as long as (N + 2 s N′) D − 2 s N D′ > 0. With tangential and thin-prism terms, how
far depends on the direction: it is where the determinant of the mapping's derivative is no longer positive.

Source: Kannala and Brandt, 2006 (equidistant: a polynomial of the angle θ); OpenCV, calib3d (the others: of r = tan θ).
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import Polynomial

from dvmvs_core.data.lens.camera_info import EQUIDISTANT, Lens

REAL = 1e-9
"""Imaginary part up to which a root counts as a real number, relative to its size."""

DIRECTIONS, STEPS = 720, 1800
"""In which rays are tried around the axis, and from it to 90°."""


def widest_ray(lens: Lens) -> float:
    """Return the tangent of the angle to the axis up to which a lens is described; infinity for all before the camera.

    Args:
        lens: with as many coefficients as its model has.
    """
    d = lens.coefficients
    if lens.model in EQUIDISTANT:
        angle = np.sqrt(_first_turn(Polynomial((1.0, *d)), Polynomial((1.0,))))
        return float(np.tan(angle)) if angle < np.pi / 2 else float("inf")
    k1, k2, k3, k4, k5, k6 = (float(d[i]) if i < d.size else 0.0 for i in (0, 1, 4, 5, 6, 7))
    return float(np.sqrt(_first_turn(Polynomial((1.0, k1, k2, k3)), Polynomial((1.0, k4, k5, k6)))))


def is_beyond(lens: Lens, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which rays (x, y, 1), arrays of any shape, a lens model does not speak of."""
    radius = np.hypot(x, y)
    beyond = radius >= widest_ray(lens)
    if lens.model in EQUIDISTANT or not (lens.coefficients[2:4].any() or lens.coefficients[8:12].any()):
        return beyond
    directions = 2.0 * np.pi / DIRECTIONS * np.arange(DIRECTIONS)
    radii = np.tan(np.linspace(0.0, np.pi / 2, STEPS, endpoint=False))
    folded = _determinant(lens, np.cos(directions)[:, None] * radii, np.sin(directions)[:, None] * radii) <= 0
    first = np.where(folded.any(axis=1), radii[folded.argmax(axis=1)], np.inf)
    angles = np.arctan2(np.nan_to_num(y), np.nan_to_num(x))
    nearest = np.rint(angles * (DIRECTIONS / (2.0 * np.pi))).astype(np.int64) % DIRECTIONS
    return beyond | (radius >= first[nearest])


def _determinant(lens: Lens, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of the derivative of the pixel, in focal lengths, by the ray (x, y, 1) of a polynomial model."""
    d = np.zeros(12)
    d[: min(lens.coefficients.size, 12)] = lens.coefficients[:12]
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = d
    N, D = Polynomial((1.0, k1, k2, k3)), Polynomial((1.0, k4, k5, k6))
    s = x**2 + y**2
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        g = N(s) / D(s)
        slope = 2.0 * (N.deriv()(s) * D(s) - N(s) * D.deriv()(s)) / D(s) ** 2
        mixed = x * y * slope + 2.0 * p1 * x + 2.0 * p2 * y
        prism_x, prism_y = 2.0 * (s1 + 2.0 * s2 * s), 2.0 * (s3 + 2.0 * s4 * s)
        u_x = g + x**2 * slope + 2.0 * p1 * y + 6.0 * p2 * x + x * prism_x
        v_y = g + y**2 * slope + 6.0 * p1 * y + 2.0 * p2 * x + y * prism_y
        return u_x * v_y - (mixed + y * prism_x) * (mixed + x * prism_y)


def _first_turn(N: Polynomial, D: Polynomial) -> float:
    """The smallest s > 0 at which r N(s) / D(s) stops growing or has no value; infinity if there is none."""
    s = Polynomial((0.0, 1.0))
    growth = (N + 2.0 * s * N.deriv()) * D - 2.0 * s * N * D.deriv()
    roots = np.concatenate([polynomial.trim().roots() for polynomial in (growth, D)])
    real = roots.real[np.abs(roots.imag) <= REAL * np.maximum(1.0, np.abs(roots))]
    return float(min(real[real > 0], default=np.inf))
