# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Binary PLY files of points or triangles."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dvmvs_core.atomic import replacing

VECTORS = {"position": ("x", "y", "z"), "normal": ("nx", "ny", "nz"), "colour": ("red", "green", "blue")}
"""What PLY calls the parts of fields that have three; others go by their own names."""

TYPES = {np.dtype("<f4"): "float", np.dtype("u1"): "uchar"}


def ply_header(vertices: np.dtype, count: int | str, triangles: int | None = None) -> bytes:
    """Return the header of a file.

    Args:
        vertices: structured, its fields named as in `VECTORS` or as PLY calls them.
        count: of the vertices; with leading zeros where the header is written again over an earlier one.
        triangles: how many follow them; None for a file of points.
    """
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    for field in vertices.names:
        kind = TYPES[vertices[field].base]
        lines += [f"property {kind} {name}" for name in VECTORS.get(field, (field,))]
    if triangles is not None:
        lines += [f"element face {triangles}", "property list uchar int vertex_indices"]
    return "".join(f"{line}\n" for line in (*lines, "end_header")).encode()


def write_ply(path: Path, vertices: np.ndarray, triangles: np.ndarray | None = None) -> None:
    """Write a file; one at `path` is replaced only by a whole one.

    Args:
        path: of the file; its folder is made if missing.
        vertices: (V,) structured, see `ply_header`.
        triangles: (T, 3) indices of vertices; None for points.
    """
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        file.write(ply_header(vertices.dtype, len(vertices), None if triangles is None else len(triangles)))
        file.write(vertices.tobytes())
        if triangles is not None:
            faces = np.empty(len(triangles), dtype=[("count", "u1"), ("corners", "<i4", 3)])
            faces["count"], faces["corners"] = 3, triangles
            file.write(faces.tobytes())
