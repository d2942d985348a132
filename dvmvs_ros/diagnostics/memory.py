# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""How much memory this process holds, on the host and on the GPU."""

from __future__ import annotations

from dvmvs_core.process import resident_bytes

MB = 1e6


def memory_values(device: str) -> dict[str, str]:
    """Return resident memory, and the GPU's where the device is one, as text for `/diagnostics`.

    Args:
        device: the engine's device, as torch names it.
    """
    values = {"memory MB": f"{resident_bytes() / MB:.0f}"}
    if device.startswith("cuda"):
        import torch  # loaded by the engine already

        values["GPU memory MB"] = f"{torch.cuda.memory_reserved(device) / MB:.0f}"
    return values
