# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How far one surface is from another: accuracy, completion, chamfer distance and F-score.

Points are drawn evenly from each surface, and each is measured to the nearest point anywhere on the other's triangles,
not to the nearest drawn point: two equal surfaces are 0 apart however few points are drawn.

Source: Knapitsch et al., "Tanks and Temples", 2017, for precision, recall and F-score; Murez et al., "Atlas", 2020,
for the threshold of 5 cm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dvmvs_core.evaluation.reconstruction.mesh import Mesh
from dvmvs_core.evaluation.reconstruction.open3d_loader import load_open3d

THRESHOLD_M = 0.05
SAMPLES = 200_000
"""Points on each surface."""


@dataclass(frozen=True)
class MeshMetrics:
    """The distance between a surface and the true one.

    Attributes:
        accuracy_m: mean distance from the surface to the truth, metres: how wrong is what is there.
        completion_m: mean distance from the truth to the surface, metres: how much is missing.
        chamfer_m: the mean of both.
        precision: share of the surface closer to the truth than the threshold.
        recall: share of the truth closer to the surface than the threshold.
        f_score: harmonic mean of precision and recall.
    """

    accuracy_m: float
    completion_m: float
    chamfer_m: float
    precision: float
    recall: float
    f_score: float


def compare_meshes(
    mesh: Mesh, truth: Mesh, threshold_m: float = THRESHOLD_M, samples: int = SAMPLES, seed: int = 0
) -> MeshMetrics:
    """Compare a surface with the true one.

    Args:
        mesh: the surface.
        truth: the true surface.
        threshold_m: distance that still counts as a match, metres.
        samples: points on each.
        seed: of the points.

    Raises:
        DataError: if one of them has no surface.
    """
    to_truth = surface_distance(mesh.sample(samples, seed), truth)
    to_mesh = surface_distance(truth.sample(samples, seed + 1), mesh)
    accuracy, completion = float(to_truth.mean()), float(to_mesh.mean())
    precision, recall = float((to_truth < threshold_m).mean()), float((to_mesh < threshold_m).mean())
    return MeshMetrics(
        accuracy_m=accuracy,
        completion_m=completion,
        chamfer_m=(accuracy + completion) / 2,
        precision=precision,
        recall=recall,
        f_score=2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    )


def surface_distance(points: np.ndarray, mesh: Mesh) -> np.ndarray:
    """Return the distance (N,) float64 in metres from points (N, 3) to the nearest point on a mesh's triangles."""
    queries = load_open3d().core.Tensor(np.ascontiguousarray(points, dtype=np.float32))
    return mesh.raycasting_scene().compute_distance(queries).numpy().astype(np.float64)
