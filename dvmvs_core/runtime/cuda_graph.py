# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A function of tensors that is captured once as a CUDA graph and then replayed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

WARM_UP_CALLS = 3
"""Calls before a capture, in which libraries choose kernels and allocate, which a capture forbids."""

MAX_GRAPHS = 8
"""Graphs kept of one function; each holds its memory. One a number of measurement frames and of cameras is usual."""


@dataclass
class _Graph:
    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    outputs: tuple[Tensor, ...]


class CudaGraphs:
    """Calls a function; on a CUDA device from a graph for each combination of input shapes.

    Args:
        function: from tensors to a tuple of tensors, without a wait of the host and without a branch on values.
        device: where its tensors live.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], device: torch.device) -> None:
        self._function = function
        self._device = device
        self._graphs: dict[tuple, _Graph] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The function's outputs; on CUDA the next call overwrites them."""
        if self._device.type != "cuda":
            return self._function(*inputs)
        shapes = tuple((x.shape, x.dtype) for x in inputs)
        if shapes not in self._graphs:
            if len(self._graphs) == MAX_GRAPHS:
                self._graphs.pop(next(iter(self._graphs)))
            self._graphs[shapes] = self._capture(inputs)
        captured = self._graphs[shapes]
        for static, given in zip(captured.inputs, inputs, strict=True):
            static.copy_(given, non_blocking=True)
        captured.graph.replay()
        return captured.outputs

    def _capture(self, inputs: tuple[Tensor, ...]) -> _Graph:
        with torch.cuda.device(self._device):
            static = [x.clone() for x in inputs]
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP_CALLS):
                    self._function(*static)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                outputs = self._function(*static)
        return _Graph(graph, static, outputs)
