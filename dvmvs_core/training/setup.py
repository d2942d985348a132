"""What a training run starts from: a network, clips to train on, and clips to validate on."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator

from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from dvmvs_core.config import preset
from dvmvs_core.data.synthetic.clips import ClipBatch, SyntheticClips
from dvmvs_core.errors import ConfigError
from dvmvs_core.model.checkpoint import load_network, read_info
from dvmvs_core.model.dvmvs import FusionNet, PairNet, build_network
from dvmvs_core.training.loop import HeldOut
from dvmvs_core.training.stages import FUSIONNET_STAGES, FUSIONNET_TUNING_STAGES, PAIRNET_STAGES, TUNING_STAGES, Stage

HELD_OUT_SEED = 2**31 - 1
"""Worlds of this seed are never trained on."""
_HELD_OUT_BATCHES = 8
_PREFETCH = 6


def initial_network(
    network: str, preset_name: str, init: str | None, height: int | None, width: int | None
) -> tuple[PairNet | FusionNet, dict[str, nn.Module]]:
    """Build the network to train.

    Args:
        network: "pairnet" or "fusionnet".
        preset_name: sizes of a network that starts from random weights.
        init: weights to start from; a file without a FusionNet gives FusionNet all but its memory from its PairNet.
        height: network input height, or None to keep the preset's or the file's.
        width: network input width, or None.

    Returns:
        The network; and the PairNet that belongs beside a FusionNet in its file, if there is one.

    Raises:
        WeightsError: if `init` cannot be loaded.
        ConfigError: if they hold no network to start from.
    """
    size = {name: value for name, value in (("height", height), ("width", width)) if value is not None}
    if init is None:
        return build_network(preset(preset_name, network=network, **size)), {}
    held = read_info(init).networks
    origin = network if network in held else "pairnet"
    if origin not in held:
        raise ConfigError(f"{network} needs a pairnet to start from; {init} holds only {', '.join(held)}")
    loaded, config = load_network(init, origin)
    built = build_network(config.replace(network=network, **size))
    fresh = {key: value for key, value in built.state_dict().items() if key.startswith("lstm_fusion.")}
    built.load_state_dict({**fresh, **loaded.state_dict()})
    return built, _companion(init, network)


def stages_of(network: str, init: str | None) -> tuple[Stage, ...]:
    """Choose what learns when: a network that goes on from its own weights is tuned as a whole.

    Args:
        network: "pairnet" or "fusionnet".
        init: weights that it starts from, or None.
    """
    goes_on = init is not None and network in read_info(init).networks
    if network == "fusionnet":
        return FUSIONNET_TUNING_STAGES if goes_on else FUSIONNET_STAGES
    return TUNING_STAGES if goes_on else PAIRNET_STAGES


def training_clips(
    size: tuple[int, int], frames: int, batch_size: int, seed: int
) -> Callable[[int], Iterator[ClipBatch]]:
    """Return what gives the batches from a step on, rendered ahead in another process."""

    def stream(start: int) -> Iterator[ClipBatch]:
        dataset = _RenderedClips(SyntheticClips(*size, frames, seed=seed), batch_size, start)
        return iter(
            DataLoader(
                dataset,
                batch_size=None,
                num_workers=1,
                prefetch_factor=_PREFETCH,
                worker_init_fn=_leave_interrupts_to_the_trainer,
                # A fork of a process whose threads have computed can hang in its first parallel loop.
                multiprocessing_context="spawn",
            )
        )

    return stream


def held_out_clips(size: tuple[int, int], frames: int, batch_size: int) -> HeldOut:
    """Render the clips of worlds that are never trained on."""
    clips = SyntheticClips(*size, frames, seed=HELD_OUT_SEED)
    batches = [clips.batch(batch_size, index) for index in range(2 * _HELD_OUT_BATCHES)]
    return HeldOut(calibration=batches[:_HELD_OUT_BATCHES], validation=batches[_HELD_OUT_BATCHES:])


class _RenderedClips(IterableDataset):
    """The batches from a number on, for a process of their own."""

    def __init__(self, clips: SyntheticClips, batch_size: int, start: int) -> None:
        self._clips = clips
        self._batch_size = batch_size
        self._start = start

    def __iter__(self) -> Iterator[ClipBatch]:
        return (self._clips.batch(self._batch_size, index) for index in itertools.count(self._start))


def _companion(init: str, network: str) -> dict[str, nn.Module]:
    """The PairNet of a file that a FusionNet starts from."""
    if network != "fusionnet" or "pairnet" not in read_info(init).networks:
        return {}
    return {"pairnet": load_network(init, "pairnet")[0]}


def _leave_interrupts_to_the_trainer(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the trainer still needs a whole batch to end its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
