# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Files of tensors with a header, whatever they are for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from dvmvs_core.atomic import replacing
from dvmvs_core.errors import WeightsError


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a safetensors file; one that is there is replaced only by a complete one.

    Raises:
        WeightsError: If it cannot be written.
    """
    try:
        # safetensors' own file writer would leave it readable by its owner only.
        content = save(dict(tensors), dict(header))
        if not path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {path.parent}")
        with replacing(path) as unfinished:
            unfinished.write_bytes(content)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot write {path}: {error}; is its folder there and writable?") from error
