# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A function as CUDA graphs: captured once for each combination of input shapes, then replayed."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

WARM_UP_CALLS = 3
"""Calls before a capture, in which libraries choose kernels and allocate, which a capture forbids."""

MAX_GRAPHS = 16
"""Graphs kept of one function: one a number of measurement frames. The one that was not used for longest goes first."""


@dataclass
class Graph:
    """What was captured.

    Attributes:
        replay: runs it on what `inputs` hold.
        inputs: on the device, to be overwritten.
        outputs: which a replay overwrites, of this graph or of any other in its pool.
    """

    replay: Callable[[], None]
    inputs: list[Tensor]
    outputs: tuple[Tensor, ...]


class CudaGraphs:
    """Calls a function; on a CUDA device from a graph for each combination of input shapes.

    All graphs of a device share one pool of memory, so that they need no more than the largest of them. A graph that
    is captured later may have its outputs where an earlier one computes, whose replay then overwrites them. So what is
    returned are copies, one launch for each type.

    Args:
        function: from tensors to a tuple of tensors, without a wait of the host and without a branch on values.
        device: where it runs.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], device: torch.device) -> None:
        self._function = function
        self._device = device
        self._graphs: OrderedDict[tuple, Graph] = OrderedDict()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the function's outputs, which are the caller's to keep.

        Args:
            inputs: on the device, or in pinned memory of the host.
        """
        if self._device.type != "cuda":
            return self._function(*inputs)
        shapes = tuple((x.shape, x.dtype) for x in inputs)
        if shapes in self._graphs:
            self._graphs.move_to_end(shapes)
        else:
            if len(self._graphs) == MAX_GRAPHS:
                self._graphs.popitem(last=False)
            self._graphs[shapes] = capture(self._function, inputs, self._device)
        graph = self._graphs[shapes]
        _copy(inputs, graph.inputs)
        graph.replay()
        copies = tuple(torch.empty_like(x) for x in graph.outputs)
        _copy(graph.outputs, copies)
        return copies


def _copy(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Overwrite tensors: those of a type that are on the device already, in one launch together."""
    together: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for source, target in zip(sources, targets, strict=True):
        if source.device == target.device:
            for tensors, tensor in zip(together.setdefault(source.dtype, ([], [])), (target, source), strict=True):
                tensors.append(tensor)
        else:
            target.copy_(source, non_blocking=True)
    for pairs in together.values():
        torch._foreach_copy_(*pairs)


def capture(function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...], device: torch.device) -> Graph:
    """Capture a call of a function on a CUDA device."""
    with torch.cuda.device(device):
        static = [torch.empty_like(x, device=device).copy_(x) for x in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_CALLS):
                function(*static)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        pool = _shared_pool(device)
        # Other threads, of a camera that runs already, may allocate in the meantime.
        with torch.cuda.graph(graph, pool=pool.handle, capture_error_mode="thread_local"):
            outputs = function(*static)
        pool.users.add(graph)
    return Graph(graph.replay, static, outputs)


@dataclass
class _Pool:
    """Memory that graphs share; torch frees it with the last of them, and then its handle is of no more use."""

    handle: tuple[int, int]
    users: weakref.WeakSet[torch.cuda.CUDAGraph]


_pools: dict[torch.device, _Pool] = {}


def _shared_pool(device: torch.device) -> _Pool:
    """The pool of all graphs of a device that exist."""
    if device not in _pools or not _pools[device].users:
        _pools[device] = _Pool(torch.cuda.graph_pool_handle(), weakref.WeakSet())
    return _pools[device]
