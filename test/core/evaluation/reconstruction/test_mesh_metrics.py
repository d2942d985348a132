# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Distances between surfaces whose distance is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dvmvs_core.errors import DataError
from dvmvs_core.evaluation.reconstruction.mesh import Mesh
from dvmvs_core.evaluation.reconstruction.mesh_metrics import compare_meshes, surface_distance

pytestmark = pytest.mark.usefixtures("open3d")


@pytest.fixture
def rectangle(surfaces):
    """A function that makes a rectangle 1 m high, from x = 0."""
    return lambda width, z=0.0: surfaces.rectangle((0, 0, z), (width, 0, 0), (0, 1, 0), steps=2)


def sphere(radius: float, steps: int = 90) -> Mesh:
    theta, phi = np.meshgrid(np.linspace(0, np.pi, steps), np.linspace(0, 2 * np.pi, 2 * steps))
    points = np.stack((np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)), axis=-1)
    index = np.arange(points[..., 0].size).reshape(theta.shape)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    triangles = np.concatenate((np.stack((a, b, c), -1).reshape(-1, 3), np.stack((a, c, d), -1).reshape(-1, 3)))
    vertices = np.float32(radius * points.reshape(-1, 3))
    return Mesh(vertices, np.zeros_like(vertices), np.zeros(vertices.shape, np.uint8), triangles.astype(np.int32))


def test_the_distance_is_to_the_triangle_and_not_to_its_corners(rectangle):
    points = np.array(((0.5, 0.5, 0.0), (0.3, 0.4, -0.2), (0.5, 1.3, 0.4)))
    assert surface_distance(points, rectangle(1.0)) == pytest.approx([0.0, 0.2, 0.5], abs=1e-6)


def test_a_surface_is_at_no_distance_to_itself():
    metrics = compare_meshes(sphere(0.5), sphere(0.5), samples=2000)
    assert metrics.accuracy_m == pytest.approx(0.0, abs=1e-5)
    assert (metrics.precision, metrics.recall, metrics.f_score) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("z", "share"), ((0.03, 1.0), (0.07, 0.0)))
def test_a_shifted_surface_is_off_by_the_shift(z, share, rectangle):
    metrics = compare_meshes(rectangle(1.0, z), rectangle(1.0), samples=2000)
    assert (metrics.accuracy_m, metrics.completion_m, metrics.chamfer_m) == pytest.approx((z, z, z), abs=1e-6)
    assert (metrics.precision, metrics.recall, metrics.f_score) == (share, share, share)


def test_a_missing_half_costs_completion_and_recall_only(rectangle):
    metrics = compare_meshes(rectangle(1.0), rectangle(2.0), samples=20_000)
    # Half of the truth is covered; the rest is 0 to 1 m away, of which the first 5 cm still count.
    assert metrics.accuracy_m == pytest.approx(0.0, abs=1e-6)
    assert metrics.completion_m == pytest.approx(0.25, abs=0.01)
    assert metrics.chamfer_m == pytest.approx(0.125, abs=0.005)
    assert metrics.precision == 1.0
    assert metrics.recall == pytest.approx(0.525, abs=0.01)
    assert metrics.f_score == pytest.approx(2 * 0.525 / 1.525, abs=0.01)


def test_a_superfluous_half_costs_accuracy_and_precision_only(rectangle):
    metrics = compare_meshes(rectangle(2.0), rectangle(1.0), samples=20_000)
    assert metrics.accuracy_m == pytest.approx(0.25, abs=0.01)
    assert metrics.completion_m == pytest.approx(0.0, abs=1e-6)
    assert metrics.precision == pytest.approx(0.525, abs=0.01)
    assert metrics.recall == 1.0


def test_concentric_spheres_are_as_far_apart_as_their_radii():
    metrics = compare_meshes(sphere(1.04), sphere(1.0), samples=5000)
    assert metrics.accuracy_m == pytest.approx(0.04, abs=1e-3)
    assert metrics.completion_m == pytest.approx(0.04, abs=1e-3)
    assert metrics.f_score == 1.0
    assert compare_meshes(sphere(1.04), sphere(1.0), threshold_m=0.03, samples=5000).f_score == 0.0


def test_an_empty_surface_is_refused(rectangle):
    with pytest.raises(DataError, match="without any surface"):
        compare_meshes(dataclasses.replace(rectangle(1.0), triangles=np.zeros((0, 3), np.int32)), rectangle(1.0))
