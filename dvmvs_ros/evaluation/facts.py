# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How published depth came about, as far as its node and this machine can tell."""

from __future__ import annotations

import math
import shlex
import sys

from dvmvs_core import environment
from dvmvs_core.config import KeyframeConfig, matching_preset
from dvmvs_core.errors import DvmvsError
from dvmvs_core.model.checkpoint import read_info
from dvmvs_core.runtime.devices import resolve_device

UNKNOWN = "unknown"


def run_facts(node: dict[str, object], depth_range_m: tuple[float, float]) -> dict[str, object]:
    """Return what `evaluation.figures.summary` takes besides results, as `dvmvs evaluate` gives it.

    Args:
        node: parameters of the depth node; empty if it did not answer.
        depth_range_m: least and greatest truth that counted.
    """
    weights = str(node.get("weights", UNKNOWN))
    try:
        device = resolve_device(str(node.get("device", "auto")))
    except DvmvsError:  # the node's machine may be another
        device = resolve_device("cpu")
    hardware = environment.hardware(device)
    network = _network(weights, str(node.get("network") or ""))
    return {
        "weights": weights,
        **network,
        "measurement_frames": node.get("measurement_frames", KeyframeConfig().measurement_frames),
        "precision": node.get("precision", UNKNOWN),
        "matching": matching_preset(str(node.get("matching", "auto")), str(network["preset"])),
        "refined": False,
        "mask": None,
        "depth_range_m": [depth_range_m[0], None if math.isinf(depth_range_m[1]) else depth_range_m[1]],
        "device": hardware.get("gpu", device.type),
        "command": shlex.join(("evaluation_node", *sys.argv[1:])),
        "made": environment.now(),
        "versions": environment.versions(),
        "hardware": hardware,
    }


def _network(weights: str, network: str) -> dict[str, object]:
    """What the checkpoint says, if it lies here too."""
    try:
        info = read_info(weights)
    except DvmvsError:
        return {"weights_sha256": UNKNOWN, "network": network or UNKNOWN, "preset": UNKNOWN, "resolution": []}
    config = info.networks.get(network) or next(iter(info.networks.values()))
    return {
        "weights_sha256": environment.fingerprint(info.path),
        "network": config.network,
        "preset": config.preset,
        "resolution": [config.width, config.height],
    }
