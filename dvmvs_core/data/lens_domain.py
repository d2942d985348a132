# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How far from its axis a lens model speaks of a lens.

A radial model maps how far a ray leans from the axis to how far from the middle its pixel is. Where that stops growing,
the model was fitted to nothing: beyond, rays that the camera never saw come back as mirrored pixels. With s = r² (or
θ²) it is r N(s) / D(s), which grows as long as (N + 2 s N′) D − 2 s N D′ > 0.

Source: Kannala and Brandt, 2006 (equidistant: a polynomial of the angle θ); OpenCV, calib3d (the others: of r = tan θ).
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import Polynomial

from dvmvs_core.data.camera_info import EQUIDISTANT, Lens

REAL = 1e-9
"""Imaginary part up to which a root counts as a real number, relative to its size."""


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


def _first_turn(N: Polynomial, D: Polynomial) -> float:
    """The smallest s > 0 at which r N(s) / D(s) stops growing or has no value; infinity if there is none."""
    s = Polynomial((0.0, 1.0))
    growth = (N + 2.0 * s * N.deriv()) * D - 2.0 * s * N * D.deriv()
    roots = np.concatenate([polynomial.trim().roots() for polynomial in (growth, D)])
    real = roots.real[np.abs(roots.imag) <= REAL * np.maximum(1.0, np.abs(roots))]
    return float(min(real[real > 0], default=np.inf))
