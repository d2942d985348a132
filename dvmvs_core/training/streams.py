# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Batches made ahead, in processes of their own, in an order that no number of processes changes.

Batch g of a run, over all processes that train together, is one fixed batch. A process that trains takes every
world_size-th of them, and its loading processes take turns: none shares a random stream with another, because
whatever is drawn for a batch is drawn from its number.


Sources are mixed without anything random: with two parts of share w and 1 − w, batch i is the first part's where
⌊(i + 1) w⌋ > ⌊i w⌋, and ⌊i w⌋ batches of it came before. More parts divide what is left over in the same way. So a run
can go on at any batch without a record of those before it, and processes that share a run agree without a word.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from dvmvs_core.synthetic.clips import ClipBatch
from dvmvs_core.training.clip_sources import ClipSource


def mix(index: int, weights: Sequence[Fraction]) -> tuple[int, int]:
    """Return the part that batch `index` comes from, and how many batches of that part came before it.

    Args:
        index: number of the batch in the whole mix.
        weights: positive weight of each part.
    """
    left = sum(weights)
    for part, weight in enumerate(weights[:-1]):
        share = weight / left
        before = floor(index * share)
        if floor((index + 1) * share) > before:
            return part, before
        index -= before
        left -= weight
    return len(weights) - 1, index


logger = logging.getLogger(__name__)

_PREFETCH = 6


@dataclass(frozen=True)
class StreamPart:
    """One source of a stream.

    Args:
        source: makes its batches.
        weight: its weight in the mix.
        workers: processes that make them ahead; 0 makes them where they are used.
        rendered_here: whether those processes only draw what synthetic clips will show, which is then rendered where
            it is used: a GPU renders faster than another process could hand over, but drawing is work for CPUs.
    """

    source: ClipSource
    weight: Fraction
    workers: int = 1
    rendered_here: bool = False


class ClipStream:
    """The batches of a run for one of the processes that train it.

    Args:
        parts: what they are mixed from.
        batch_size: clips of each batch.
        rank: number of this process among those that train.
        world_size: how many those are.

    Attributes:
        skipped: what the sources have left out so far: its name, and why.
    """

    def __init__(self, parts: Sequence[StreamPart], batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.skipped = {name: why for part in parts for name, why in getattr(part.source, "skipped", {}).items()}
        self._parts = parts
        self._batch_size = batch_size
        self._rank = rank
        self._world_size = world_size

    def __call__(self, step: int) -> Iterator[ClipBatch]:
        """Yield the batches of a step and of all later ones."""
        weights = [part.weight for part in self._parts]
        feeds = [self._feed(number, step) for number in range(len(self._parts))]
        for index in itertools.count(step * self._world_size + self._rank, self._world_size):
            part = mix(index, weights)[0]
            batch, skipped = next(feeds[part])
            if self._parts[part].rendered_here:
                batch = self._parts[part].source.render(batch)
            for name in skipped.keys() - self.skipped.keys():
                logger.warning("left out %s: %s", name, skipped[name])
            self.skipped.update(skipped)
            yield batch

    def _feed(self, number: int, step: int) -> Iterator[tuple[Any, dict[str, str]]]:
        part = self._parts[number]
        weights = [each.weight for each in self._parts]
        first = step * self._world_size + self._rank
        make = part.source.draw if part.rendered_here else part.source.batch
        dataset = _MadeAhead(part.source, make, number, weights, self._batch_size, first, self._world_size)
        if part.workers == 0:
            return iter(dataset)
        return iter(
            DataLoader(
                dataset,
                batch_size=None,
                collate_fn=_unchanged,
                num_workers=part.workers,
                prefetch_factor=_PREFETCH,
                worker_init_fn=_prepare_worker,
                pin_memory=torch.cuda.is_available(),
                # A fork of a process whose threads have computed can hang in its first parallel loop.
                multiprocessing_context="spawn",
            )
        )


@dataclass(frozen=True, eq=False)
class _MadeAhead(IterableDataset):
    """One part's batches for one training process; each of its workers makes every n-th."""

    source: ClipSource
    make: Callable[[int, int], Any]
    number: int
    weights: Sequence[Fraction]
    batch_size: int
    first: int
    stride: int

    def __iter__(self) -> Iterator[tuple[Any, dict[str, str]]]:
        worker = get_worker_info()
        turn, turns = (worker.id, worker.num_workers) if worker else (0, 1)
        mixed = (mix(index, self.weights) for index in itertools.count(self.first, self.stride))
        own = (before for number, before in mixed if number == self.number)
        for index in itertools.islice(own, turn, None, turns):
            batch = self.make(self.batch_size, index)
            yield batch, dict(getattr(self.source, "skipped", {}))


def _unchanged(made: Any) -> Any:
    """In place of the DataLoader's own conversion, which turns numpy arrays into tensors."""
    return made


def _prepare_worker(_worker: int) -> None:
    # Ctrl-C reaches every process of a terminal; the trainer still needs a whole batch to end its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a worker made has left it by then. Taking down the libraries beneath a thread that still runs can abort it,
    # and the trainer would be told that a worker was killed.
    atexit.register(os._exit, 0)
