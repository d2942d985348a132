# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Checkpoints: one safetensors file for one or both networks, strict in what it takes.

Layout of a file ("dvmvs-1"): tensors named ``NETWORK/MODULE.KEY`` ("fusionnet/decoder.refine.0.0.weight"), and in the
header ``format``, ``networks`` (JSON: the ModelConfig of each network) and ``metadata`` (JSON: anything else worth
knowing, such as training data and metrics). Matrices and kernels may be float16 on disk; vectors, among them the
statistics of the batch norms, stay float32. In memory everything is float32.

The layout of the released DeepVideoMVS checkpoints (a folder of pickled state dictionaries) can be imported and
exported. Pickles are opened with torch's weights-only reader, so a file cannot run code.
"""

from __future__ import annotations

import json
import math
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from dvmvs_core.atomic import unfinished_folder
from dvmvs_core.config import NETWORKS, PRESETS, ModelConfig
from dvmvs_core.errors import DamagedError, WeightsError
from dvmvs_core.foreign import foreign, quoted, reason
from dvmvs_core.model.checkpoint_parts import join_parts
from dvmvs_core.model.dvmvs import FusionNet, PairNet, build_network
from dvmvs_core.model.low_rank import load_directions
from dvmvs_core.model.tensor_files import write_tensors

FORMAT = "dvmvs-1"
SHIPPED_FOLDER = Path(__file__).resolve().parent.parent / "weights"
SUFFIX = ".safetensors"

_RELEASED_FILES = {
    "fusionnet": ("0_feature_extractor", "1_feature_pyramid", "2_encoder", "3_lstm_fusion", "4_decoder"),
    "pairnet": ("0_feature_extractor", "1_feature_pyramid", "2_encoder", "3_decoder"),
}
# torchvision renamed its pyramid's convolutions from "inner_blocks.0.weight" to "inner_blocks.0.0.weight".
_NESTED_PYRAMID_KEY = re.compile(r"^(fpn\.(?:inner|layer)_blocks\.\d+)\.0\.(weight|bias)$")
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself, read without loading its tensors.

    Attributes:
        path: The file.
        networks: The configuration of each network in it; the first is what loading takes by default.
        parameters: Number of values of each network, batch-norm statistics included.
        metadata: What was saved with it.
        size_bytes: Size of the file.
    """

    path: Path
    networks: dict[str, ModelConfig]
    parameters: dict[str, int]
    metadata: dict[str, Any]
    size_bytes: int


def save_checkpoint(
    path: str | Path,
    networks: Mapping[str, nn.Module],
    metadata: Mapping[str, Any],
    half: bool = True,
) -> None:
    """Writes networks to one file; a file that is there is replaced only by a complete one.

    Args:
        path: The file to write; its folder must exist.
        networks: The networks by name, "fusionnet" and/or "pairnet".
        metadata: Values that JSON can hold.
        half: Store matrices and kernels as float16.

    Raises:
        WeightsError: If a network is not what its name says, holds NaN or infinity (or values that float16
            cannot hold), or the file cannot be written.
    """
    path = Path(path)
    tensors = {}
    for name, network in networks.items():
        if name not in NETWORKS or network.config.network != name:
            raise WeightsError(
                f"networks must be saved under their own name, one of {', '.join(NETWORKS)};"
                f" got a {network.config.network} as {name!r}"
            )
        for key, tensor in network.state_dict().items():
            tensors[f"{name}/{key}"] = stored_tensor(tensor, f"{name}/{key}", path, half)
    header = {
        "format": FORMAT,
        "networks": json.dumps({name: network.config.to_dict() for name, network in networks.items()}),
        "metadata": json.dumps(dict(metadata)),
    }
    write_tensors(path, tensors, header)


def load_network(
    path_or_name: str | Path, network: str | None = None, preset: str | None = None
) -> tuple[PairNet | FusionNet, ModelConfig]:
    """Loads one network in float32 on the CPU, in evaluation mode.

    Args:
        path_or_name: A file, or the name of a shipped checkpoint.
        network: "fusionnet" or "pairnet"; None takes the first in the file.
        preset: The preset that it must be of; None takes any.

    Raises:
        WeightsError: If there is no such checkpoint, it is broken, does not hold the network or is of another
            preset, or its tensors are not exactly those of the network.
    """
    info = read_info(path_or_name)
    name = network or next(iter(info.networks))
    if name not in info.networks:
        raise WeightsError(
            f"{info.path} holds {' and '.join(info.networks)}; {name} was asked for: choose another network or file"
        )
    config = info.networks[name]
    if preset is not None and config.preset != preset:
        raise WeightsError(
            f"{info.path} is of preset {config.preset}; {preset} was asked for: choose another preset or file"
        )
    prefix = f"{name}/"
    with foreign(f"{info.path} cannot be read", WeightsError), _opened(info.path) as file:
        tensors = {key[len(prefix) :]: file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}
        with torch.device("meta"):  # its header may describe a network that no memory holds
            outline = build_network(config).state_dict()
        _check_fit(outline, tensors, f"{info.path}, {name}")
    built = build_network(config)
    fill(built, tensors, source=f"{info.path}, {name}")
    built.low_rank = load_directions(info.path, name)
    return built.eval(), config


def read_info(path_or_name: str | Path) -> CheckpointInfo:
    """Reads what a checkpoint holds, without its tensors.

    Args:
        path_or_name: A file, or the name of a shipped checkpoint.

    Raises:
        WeightsError: If there is no such checkpoint, or it is not one.
    """
    path = _resolve(path_or_name)
    with foreign(f"{path} cannot be read", WeightsError), _opened(path) as file:
        header = file.metadata() or {}
        sizes = {key: file.get_slice(key).get_shape() for key in file.keys()}
    if header.get("format") != FORMAT:
        raise WeightsError(
            f"{path} must be a checkpoint of format {FORMAT}; its header says {header.get('format')!r}."
            " Released checkpoints are imported with: dvmvs weights import DIR OUT.safetensors"
        )
    with foreign(
        f"{path} has a header that this version cannot read", WeightsError, "; was it written by a newer one?"
    ):
        networks = {k: ModelConfig.from_dict(v) for k, v in json.loads(header["networks"]).items()}
        metadata = dict(json.loads(header["metadata"]))
    if not networks:
        raise WeightsError(f"{path} must hold at least one network; it holds none")
    parameters = {
        name: sum(math.prod(shape) for key, shape in sizes.items() if key.startswith(f"{name}/")) for name in networks
    }
    return CheckpointInfo(path, networks, parameters, metadata, path.stat().st_size)


def list_shipped() -> list[str]:
    """Names of the depth networks that come with the package, sorted; the weights of the encoder are none."""
    return sorted(path.stem for path in SHIPPED_FOLDER.glob(f"*{SUFFIX}") if _format_of(path) == FORMAT)


def _format_of(path: Path) -> str | None:
    try:
        with foreign(f"{path} cannot be read", WeightsError), _opened(path) as file:
            return (file.metadata() or {}).get("format")
    except WeightsError:
        return None


def import_released(directory: str | Path, out: str | Path, config: ModelConfig | None = None) -> CheckpointInfo:
    """Turns a folder in the layout of the released DeepVideoMVS checkpoints into one safetensors file.

    The folder holds 0_feature_extractor, 1_feature_pyramid, 2_encoder and, for FusionNet, 3_lstm_fusion and
    4_decoder, or 3_decoder for PairNet. Other files are ignored. What the source holds in float16 is written in
    float16, all else in float32, so no digit is lost.

    Args:
        directory: The folder.
        out: The file to write.
        config: Sizes to expect; the preset "paper" if None. Its network is set to the one found.

    Returns:
        What was written.

    Raises:
        WeightsError: If a file is missing or unsafe, or its tensors are not exactly those of the network.
    """
    directory = Path(directory)
    name = _released_network(directory)
    network = build_network((config or PRESETS["paper"]).replace(network=name))
    was_half = True
    for file_name in _RELEASED_FILES[name]:
        tensors = read_released(directory / file_name)
        was_half &= all(t.dtype == torch.float16 for t in tensors.values() if t.is_floating_point())
        module = getattr(network, file_name[2:])
        fill(module, tensors, source=str(directory / file_name))
    save_checkpoint(out, {name: network}, {"source": "released DeepVideoMVS layout"}, half=was_half)
    return read_info(out)


def export_released(path_or_name: str | Path, directory: str | Path, network: str | None = None) -> list[Path]:
    """Writes one network in the layout of the released DeepVideoMVS checkpoints, which their code loads.

    Args:
        path_or_name: A file, or the name of a shipped checkpoint.
        directory: The folder to write, which must not exist yet; all of it appears at once.
        network: "fusionnet" or "pairnet"; None takes the first in the file.

    Returns:
        The files written.

    Raises:
        WeightsError: If the folder exists or cannot be written, or the checkpoint cannot be loaded or holds what the
            layout cannot.
    """
    directory = Path(directory)
    if os.path.lexists(directory):
        raise WeightsError(f"{directory} exists already; remove it or choose another folder")
    loaded, config = load_network(path_or_name, network)
    if config.refinement_channels:
        raise WeightsError(
            f"{config.network} of {path_or_name} has a second plane sweep, for which the released layout has no place;"
            " choose network pairnet, or weights without one"
        )
    names = _RELEASED_FILES[config.network]
    try:
        with unfinished_folder(directory) as temporary:
            unfinished = temporary / directory.name
            unfinished.mkdir()
            for name in names:
                # Their torch is older than the zip container.
                state = getattr(loaded, name[2:]).state_dict()
                torch.save(state, unfinished / name, _use_new_zipfile_serialization=False)
            unfinished.rename(directory)
    except OSError as error:
        raise WeightsError(f"cannot write {directory}: {error}") from error
    return [directory / name for name in names]


def _released_network(directory: Path) -> str:
    """Which network a released folder holds."""
    if not directory.is_dir():
        raise WeightsError(f"{directory} must be a folder of released checkpoint files; there is no such folder")
    there = {path.name for path in directory.iterdir() if path.is_file()}
    name = "fusionnet" if there & {"3_lstm_fusion", "4_decoder"} else "pairnet"
    missing = [file for file in _RELEASED_FILES[name] if file not in there]
    if missing:
        raise WeightsError(
            f"{directory} lacks {', '.join(missing)}: FusionNet needs {', '.join(_RELEASED_FILES['fusionnet'])};"
            f" PairNet needs {', '.join(_RELEASED_FILES['pairnet'])}"
        )
    if name == "fusionnet" and "3_decoder" in there:
        raise WeightsError(
            f"{directory} holds both PairNet's 3_decoder and FusionNet's files; keep each network in its own folder"
        )
    return name


def read_released(path: Path) -> dict[str, Tensor]:
    """The state dictionary of one released file, under flat pyramid names.

    Raises:
        WeightsError: If it is broken, or holds more than tensors.
    """
    with foreign(
        f"{path} cannot be read as a state dictionary: it is truncated, not a torch file, or holds more than"
        " tensors, which is refused because it could run code",
        WeightsError,
    ):
        state = read_torch_file(path)
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise WeightsError(f"{path} must hold a dictionary of tensors; it holds {_describe(state)}")
    return {_NESTED_PYRAMID_KEY.sub(r"\1.\2", str(key)): tensor for key, tensor in state.items()}


def _describe(state: object) -> str:
    if not isinstance(state, Mapping):
        return f"a {type(state).__name__}"
    other = next(key for key, value in state.items() if not isinstance(value, Tensor))
    return f"a {type(state[other]).__name__} under {quoted(other)}"


def _resolve(path_or_name: str | Path) -> Path:
    """The file that a path or the name of a shipped checkpoint means."""
    path = Path(path_or_name)
    if path.is_file() or (path.suffix == SUFFIX and join_parts(path)):
        return path
    if path.is_dir():
        raise WeightsError(
            f"{path} is a folder; a weights file is needed. If it holds released checkpoints, import them with:"
            f" dvmvs weights import {path} OUT.safetensors"
        )
    shipped = list_shipped()
    if str(path_or_name) in shipped:
        return SHIPPED_FOLDER / f"{path_or_name}{SUFFIX}"
    raise WeightsError(
        f"there is no weights file {path_or_name} and no shipped checkpoint of that name;"
        f" shipped are: {', '.join(shipped) or 'none'}"
    )


def _opened(path: Path):
    """The file, opened for reading; every way in which it can be broken is a WeightsError."""
    try:
        return safe_open(path, framework="pt")
    except Exception as error:
        if _is_pickle(path):
            raise WeightsError(
                f"{path} is a pickle (a torch file?), which is not loaded because it could run code; safetensors is"
                " needed. Released checkpoints are imported with: dvmvs weights import DIR OUT.safetensors"
            ) from error
        raise WeightsError(
            f"{path} is truncated or not a safetensors file ({reason(error)}); copy or download it again"
        ) from error


def _is_pickle(path: Path) -> bool:
    """Whether a file that is not safetensors starts like a pickle, or like torch's zip of one."""
    with path.open("rb") as file:
        return file.read(4).startswith((b"PK\x03\x04", b"\x80"))


def fill(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Loads tensors, cast to float32, into a module that must have exactly those.

    Raises:
        WeightsError: If they are others, or hold NaN or infinity; it begins with the source.
    """
    expected = module.state_dict()
    _check_fit(expected, tensors, source)
    module.load_state_dict({key: tensor.to(expected[key].dtype) for key, tensor in tensors.items()})


def _check_fit(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuses tensors that are not exactly those of a network, or not finite."""
    problems = [
        *_listed("missing", [key for key in expected if key not in tensors]),
        *_listed("unexpected", [key for key in tensors if key not in expected]),
        *_listed(
            "misshapen",
            [
                f"{key} (must have shape {tuple(expected[key].shape)}; got {tuple(tensor.shape)})"
                for key, tensor in tensors.items()
                if key in expected and tensor.shape != expected[key].shape
            ],
        ),
    ]
    if not problems:
        tensors = {key: tensor.float() for key, tensor in tensors.items()}
        # By numpy: torch's threads would wait for one another at each of hundreds of small tensors.
        problems = _listed("NaN or infinite", [k for k, t in tensors.items() if not np.isfinite(t.numpy()).all()])
    if problems:
        raise WeightsError(f"{source}: the tensors do not fit the network. {'. '.join(problems)}")


def _listed(kind: str, names: list[str]) -> list[str]:
    """One sentence that names the first few, or nothing."""
    if not names:
        return []
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return [f"{len(names)} {kind}: {', '.join(names[:_NAMES_SHOWN])}{more}"]


def stored_tensor(tensor: Tensor, name: str, path: Path, half: bool = True) -> Tensor:
    """A tensor as it goes to disk.

    Args:
        tensor: Any.
        name: Of it, for the error.
        path: The file that it is for.
        half: Store matrices and kernels as float16.

    Raises:
        WeightsError: If it holds NaN or infinity, or values that float16 cannot hold.
    """
    stored = tensor.detach().cpu().contiguous()
    if stored.is_floating_point():
        stored = stored.to(torch.float16 if half and stored.ndim > 1 else torch.float32)
    if not stored.isfinite().all():
        raise WeightsError(
            f"{name} holds NaN, infinity or values beyond float16, so {path} was not written;"
            " the training has diverged, or half=False is needed"
        )
    return stored


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
