# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The mean of checkpoints.

Networks that went on from the same weights, or moments of one run, are in one valley of the loss: their mean is often
better than each of them on images unlike those that they were trained on.

Source: Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time", ICML 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from dvmvs_core.errors import WeightsError
from dvmvs_core.model.checkpoint import CheckpointInfo, load_network, read_info, save_checkpoint
from dvmvs_core.model.part_files import save_part
from dvmvs_core.model.regulariser import load_regulariser, regulariser_metadata


def average_checkpoints(sources: Sequence[str | Path], out: str | Path) -> CheckpointInfo:
    """Writes the mean of every network that the checkpoints hold.

    Args:
        sources: files, or names of shipped checkpoints; at least two, of the same networks.
        out: the file to write.

    Returns:
        What was written.

    Raises:
        WeightsError: if there are fewer than two, one cannot be loaded, they hold different networks, or the file
            cannot be written.
    """
    _check_count(sources)
    infos = [read_info(source) for source in sources]
    for info in infos[1:]:
        _check_same_networks(infos[0], info)
    averaged = {name: _mean([load_network(info.path, name)[0] for info in infos]) for name in infos[0].networks}
    save_checkpoint(out, averaged, {"mean_of": [info.path.name for info in infos]})
    return read_info(out)


def average_regularisers(sources: Sequence[Path], out: Path) -> None:
    """Writes the mean of weights of the regulariser, with the commands that made them.

    Args:
        sources: files of `dvmvs train regulariser`, at least two.
        out: the file to write.

    Raises:
        WeightsError: if there are fewer than two, one cannot be loaded, or the file cannot be written.
    """
    _check_count(sources)
    mean = _mean([load_regulariser(source) for source in sources])
    commands = [command for source in sources for command in regulariser_metadata(source).get("commands", ())]
    named = [f"{source.parent.name}/{source.name}" for source in sources]
    save_part(out, mean, {"commands": list(dict.fromkeys(commands)), "mean_of": named})


def _check_count(sources: Sequence[str | Path]) -> None:
    if len(sources) < 2:
        raise WeightsError(f"a mean needs at least 2 checkpoints; got {len(sources)}")


def _check_same_networks(first: CheckpointInfo, other: CheckpointInfo) -> None:
    if set(first.networks) != set(other.networks):
        raise WeightsError(
            f"only checkpoints of the same networks have a mean; {first.path} holds {' and '.join(first.networks)},"
            f" {other.path} holds {' and '.join(other.networks)}"
        )
    for name, config in first.networks.items():
        mine, its = config.to_dict(), other.networks[name].to_dict()
        for key in mine:
            if mine[key] != its[key]:
                raise WeightsError(
                    f"only networks of the same shape have a mean; the {name} of {first.path} has {key} {mine[key]},"
                    f" that of {other.path} {its[key]}"
                )


@torch.no_grad()
def _mean(networks: Sequence[nn.Module]) -> nn.Module:
    """The first network with the mean of all; whole numbers, which only count, stay as they are."""
    states = [network.state_dict() for network in networks]
    for key, value in states[0].items():
        if value.is_floating_point():
            value.copy_(torch.stack([state[key].double() for state in states]).mean(dim=0))
    return networks[0]
