# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What `network.json` says next to ONNX files: which part follows which, and how to write the steps between them.

test/core/runtime/test_onnx_export.py follows it, in numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.model.lite0 import IMAGE_MEAN as LITE0_MEAN
from dvmvs_core.model.lite0 import IMAGE_SCALE as LITE0_SCALE
from dvmvs_core.model.parts import Part
from dvmvs_core.preprocess import IMAGE_MEAN, IMAGE_SCALE, IMAGE_STD

DESCRIPTION = "network.json"

_SYMBOLS = [
    "K: 3x3 intrinsics at width x height, without skew; pixel (0, 0) is the centre of the top left pixel",
    "world_T_ref, world_T_meas, world_T_last: 4x4 poses of the camera at the keyframe, at a measurement frame and at"
    " the last keyframe, from camera to world, metres; x right, y down, z forward",
    "R, t: rotation and translation of a 4x4 matrix; w = width / 2, h = height / 2",
    "K2 = diag(1/2, 1/2, 1) K; K32 = diag(1/32, 1/32, 1) K",
    "maps are float32, channels first; a bilinear sample takes 0 for each of its four cells that lies outside",
]
_IMAGE = [
    "RGB, resized bilinearly to width x height (edges of the images coincide), in float32",
    "fx and cx are multiplied by the ratio of the widths, fy and cy by that of the heights",
    "(value / scale - mean[c]) / std[c]",
]
_STATE = [
    "hidden and cell are all 0 at the first keyframe and after tracking was lost, without warp_hidden_state",
    "new_hidden is kept for the next warp_hidden_state; new_cell is the next cell as it is",
    "the parts are float32; in half precision, keep the gates, both states and the depth heads in float32",
]
_WARP = [
    "T = inverse(world_T_ref) world_T_last",
    "each pixel (x, y) of the depth d that the last keyframe got: p = T (d inverse(K) (x, y, 1)); where p_z > 0, (x, y)"
    " of K2 p / p_z is rounded to a cell of h rows and w columns, halves to even",
    "of the points in a cell the FARTHEST p_z is kept, and 0 where there is none; e is every 16th row and column of"
    " that, from 0 on",
    "each cell (x, y) of e: p = inverse(T) (e inverse(K32) (x, y, 1)); z = p_z where that is > 1e-8, else 1; (u, v) ="
    " K32 (p_x / z, p_y / z, 1)",
    "hidden[c, y, x] = the last new_hidden[c], bilinear at (u, v), where e > 0.01, else 0",
]
_IN_VIEW = "in view: q_z > 0, 0 <= u <= w - 1 and 0 <= v <= h - 1; n: how many frames have the point in view"


def described(
    network: PairNet | FusionNet, parts: Mapping[str, Part], matching: Mapping[str, Part], weights: str
) -> dict[str, Any]:
    """Return what JSON can hold of a network.

    Args:
        network: the network.
        parts: of it; the files are named after them.
        matching: of `matching`.
        weights: where it came from.
    """
    c = network.config
    result = {
        "format": "dvmvs-onnx-1",
        "weights": weights,
        "config": c.to_dict(),
        "symbols": _SYMBOLS,
        "image": {
            "how": _IMAGE,
            "width": c.width,
            "height": c.height,
            "scale": IMAGE_SCALE,
            "mean": IMAGE_MEAN.tolist(),
            "std": IMAGE_STD.tolist(),
        },
        "inverse_depths": network.inverse_depths.tolist(),
        "keyframe": _steps(network, parts),
        "depth": "refined_depth" if "refine" in parts else "depth",
        "depth_is": "metres along the optical axis, of every pixel",
        "parts": _files(parts),
        "matching": {
            "how": [
                "this depth is the prior of multi-view matching (dvmvs_core/matching); only its networks are here",
                f"lite0: image is (value - {LITE0_MEAN}) / {LITE0_SCALE}, of RGB values rounded to 0 ... 255",
                "monocular: the levels are those of lite0; what rays and focal_px are is told by its MonocularHead",
                "regulariser: image holds 0 ... 255, the levels are those of lite0; what the others are is told by"
                " RegulariserInputs in dvmvs_core/model/regulariser.py",
            ],
            "parts": _files(matching),
        },
    }
    if isinstance(network, FusionNet):
        result["state"] = _STATE
    if "refine" in parts:
        result["log_shifts"] = network.fine_sweep.log_shifts.tolist()
    return result


def _files(parts: Mapping[str, Part]) -> dict[str, Any]:
    return {
        name: {"file": f"{name}.onnx", "inputs": part.inputs, "outputs": part.outputs} for name, part in parts.items()
    }


def _steps(network: PairNet | FusionNet, parts: Mapping[str, Part]) -> list[dict[str, Any]]:
    """The parts and what is between them, in order."""
    c = network.config
    steps: list[dict[str, Any]] = [
        {"part": "features", "how": ["once an image; of a measurement frame only matching is kept"]},
        {"step": "plane_sweep", "gives": ["costs"], "how": _sweep(c.mask_out_of_view, c.exact_sampling)},
    ]
    if isinstance(network, FusionNet):
        steps.append({"step": "warp_hidden_state", "gives": ["hidden"], "how": _WARP})
    steps.append({"part": "decode"})
    if "refine" in parts:
        steps.append({"step": "match_around", "gives": ["cosines", "in_view"], "how": _around()})
        steps.append({"part": "refine"})
    return steps


def _to_measurements(exact_sampling: bool) -> list[str]:
    s = "" if exact_sampling else "S "
    return [
        f"each measurement frame: R, t of inverse(world_T_meas) world_T_ref; H = {s}K2 R inverse(K2); b = {s}K2 t"
        + ("" if exact_sampling else "; S = diag((w - 1) / w, (h - 1) / h, 1)")
    ]


def _pixel(inverse_depth: str) -> str:
    return f"q = H (x, y, 1) + {inverse_depth} b; u = q_x / (q_z + 1e-8); v = q_y / (q_z + 1e-8)"


def _sweep(mask_out_of_view: bool, exact_sampling: bool) -> list[str]:
    masked = [_IN_VIEW, "costs[i, y, x] = sum of s over the frames that have the point in view / max(1, n)"]
    return [
        *_to_measurements(exact_sampling),
        f"each cell (x, y) and plane i: {_pixel('inverse_depths[i]')}",
        "s = mean over channels of the keyframe's matching at (x, y) times the frame's, bilinear at (u, v)",
        *(
            masked
            if mask_out_of_view
            else ["costs[i, y, x] = mean of s over all frames, also of points behind a camera"]
        ),
    ]


def _around() -> list[str]:
    return [
        *_to_measurements(exact_sampling=True),
        f"each cell (x, y) and shift i: r = exp(-log_shifts[i]) / depth[2 y, 2 x]; {_pixel('r')}",
        "a = the keyframe's matching at (x, y), m = the frame's, bilinear at (u, v); s = sum over channels of a m /"
        " (max(|a|, 1e-3) max(|m|, 1e-3))",
        _IN_VIEW,
        "cosines[i, y, x] = sum of s over the frames that have the point in view / max(1, n); in_view[i, y, x] = n /"
        " number of frames",
    ]
