# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Files that torch saved, or somebody who says so: tensors only, since a pickle could run code."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from dvmvs_core.errors import DamagedError


def read_torch_file(path: Path) -> Any:
    """Return what a file holds, on the CPU; called within `foreign`, which names the file.

    Raises:
        DamagedError: if it would become larger than it is: torch compresses nothing.
        Exception: whatever zipfile and torch raise over damaged data.
    """
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"
    if is_archive:
        with zipfile.ZipFile(path) as archive:
            held = sum(entry.file_size for entry in archive.infolist())
        if held > path.stat().st_size:
            raise DamagedError(f"its {path.stat().st_size} bytes would become {held}; it is damaged")
    return torch.load(path, map_location="cpu", weights_only=True)
