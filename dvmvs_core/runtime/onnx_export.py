# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Networks as ONNX files of fixed shapes, for runtimes other than Python's.

The plane sweeps and the warp of the hidden state stay out: they are short loops over geometry, which a kernel of one's
own does faster than the operators of ONNX, and the number of measurement frames changes from keyframe to keyframe.
`onnx_description` says how they go.

Importing this module needs the package onnx.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import onnx  # noqa: F401  (torch's exporter misses it only after the work is done)
import torch
from torch import Tensor, nn

from dvmvs_core.atomic import unfinished_folder
from dvmvs_core.errors import WeightsError
from dvmvs_core.model.checkpoint import load_network
from dvmvs_core.model.lite0 import load_lite0
from dvmvs_core.model.monocular import load_monocular
from dvmvs_core.model.parts import Part, lite0_part, monocular_part, network_parts, regulariser_part
from dvmvs_core.model.regulariser import load_regulariser
from dvmvs_core.runtime.onnx_description import DESCRIPTION, described

OPSET = 16
"""Version 17 has layer normalisation as one operator, which TensorRT knows from 8.6 on."""


def export_onnx(path_or_name: str | Path, directory: str | Path, network: str | None = None) -> list[Path]:
    """Write one network as ONNX files, the networks of matching for its size, and how all of them are run.

    Args:
        path_or_name: a file, or the name of a shipped checkpoint.
        directory: the folder to write, which must not exist yet; all of it appears at once.
        network: "fusionnet" or "pairnet"; None takes the first in the file.

    Returns:
        The files written.

    Raises:
        WeightsError: if the folder exists or cannot be written, or the checkpoint cannot be loaded.
    """
    directory = Path(directory)
    if os.path.lexists(directory):
        raise WeightsError(f"{directory} exists already; remove it or choose another folder")
    loaded, config = load_network(path_or_name, network)
    size = (config.height, config.width)
    parts = network_parts(loaded)
    modules = {"lite0": load_lite0(), "monocular": load_monocular(), "regulariser": load_regulariser()}
    made = (lite0_part, monocular_part, regulariser_part)
    of_matching = {name: part(modules[name], *size) for name, part in zip(modules, made, strict=True)}
    files = []
    try:
        with unfinished_folder(directory) as temporary:
            unfinished = temporary / directory.name
            unfinished.mkdir()
            for name, part in {**parts, **of_matching}.items():
                files.append(f"{name}.onnx")
                _write(unfinished / files[-1], part, modules.get(name, loaded))
            files.append(DESCRIPTION)
            text = json.dumps(described(loaded, parts, of_matching, str(path_or_name)), indent=1)
            (unfinished / DESCRIPTION).write_text(text + "\n")
            unfinished.rename(directory)
    except OSError as error:
        raise WeightsError(f"cannot write {directory}: {error}") from error
    return [directory / name for name in files]


class _Exported(nn.Module):
    """A part, with the module whose weights it uses, as the exporter wants them."""

    def __init__(self, part: Part, module: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.module = module

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.part.run(*inputs)


def _write(path: Path, part: Part, module: nn.Module) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        # Traces are called the old way to export; the new one needs two more packages.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Exported(part, module).eval(),
            part.examples(),
            str(path),
            input_names=list(part.inputs),
            output_names=list(part.outputs),
            opset_version=OPSET,
            dynamo=False,
        )
