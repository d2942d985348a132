# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A function of torch tensors, compiled by OpenVINO for one of its devices: whatever layers a network of `model` has.

Maps of four axes travel channels-last, as OpenVINO's kernels and those of this package want them; inputs and outputs
share their memory with torch.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import openvino
import torch
from openvino.frontend import FrontEndManager, OpConversionFailure
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn

from dvmvs_core import model
from dvmvs_core.errors import DeviceError
from dvmvs_core.runtime import model_cache
from dvmvs_core.runtime.devices import openvino_core
from dvmvs_core.runtime.model_cache import announce_compiling

logger = logging.getLogger(__name__)

_TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_CAPABILITIES = {"float32": "FP32", "float16": "FP16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class Target:
    """Where OpenVINO runs and in what arithmetic.

    Attributes:
        device: as OpenVINO names it.
        precision: "float32", "float16" or "bfloat16".
    """

    device: str
    precision: str

    def has_precision(self) -> bool:
        """Whether the device computes in this precision."""
        capabilities = openvino_core().get_property(self.device, "OPTIMIZATION_CAPABILITIES")
        return self.precision == "float32" or _CAPABILITIES[self.precision] in capabilities

    def properties(self) -> dict[str, object]:
        """What OpenVINO is told."""
        told: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _TYPES[self.precision],
        }
        if self.device == "CPU":
            # A pinned thread waits for its core while other programs of a robot have it.
            told.update(INFERENCE_NUM_THREADS=torch.get_num_threads(), NUM_STREAMS=1, ENABLE_CPU_PINNING=False)
        return told


def network_key(network: nn.Module, target: Target, *settings: object) -> str:
    """Return a hash of all that a compiled network depends on: weights, sources, versions, processor, precision.

    Args:
        network: whose functions are compiled.
        target: where they run.
        settings: what else they depend on, such as the network's configuration or the size of its input.
    """
    core = openvino_core()
    digest = hashlib.sha256()
    sources = {Path(inspect.getfile(type(module))) for module in network.modules()}
    sources = {path for path in sources if "torch" not in path.parts}
    for path in sorted(
        {*sources, *Path(model.__file__).parent.glob("*.py"), *Path(__file__).parent.glob("openvino*.py")}
    ):
        digest.update(path.read_bytes())
    facts = (
        openvino.get_version(),
        torch.__version__,
        core.get_property(target.device, "FULL_DEVICE_NAME"),
        core.get_property(target.device, "OPTIMIZATION_CAPABILITIES"),
        target,
        settings,
        network,
    )
    digest.update(repr(facts).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:40]


class ExportedFunction:
    """A function of tensors that OpenVINO runs. Not thread-safe.

    Args:
        function: from tensors to a tensor or a tuple of them, float32. It is traced: without branches on values.
        examples: makes inputs of the shapes that it will be called with.
        target: where to run.
        name: under which the compiled function is kept on disk: different for whatever would be compiled differently.

    Raises:
        DeviceError: if OpenVINO cannot compile it.
    """

    def __init__(
        self, function: Callable[..., Tensor | tuple], examples: Callable[[], tuple], target: Target, name: str
    ) -> None:
        self._function = function
        self._examples = examples
        self._target = target
        self._name = name
        self._requests: dict[int, openvino.InferRequest] = {}
        self._request()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The function's outputs, in memory of their own."""
        request = self._request()
        # OpenVINO holds no reference to this memory, which must stay until it is done.
        arrays = [_channels_last(tensor).contiguous().numpy() for tensor in inputs]
        for i, array in enumerate(arrays):
            request.set_input_tensor(i, openvino.Tensor(array, shared_memory=True))
        outputs = [torch.empty(tuple(port.shape)) for port in request.model_outputs]
        for i, tensor in enumerate(outputs):
            request.set_output_tensor(i, openvino.Tensor(tensor.numpy(), shared_memory=True))
        request.infer()
        return tuple(_channels_first(tensor) for tensor in outputs)

    def _request(self) -> openvino.InferRequest:
        """What runs it on as many threads as torch uses."""
        threads = torch.get_num_threads()
        if threads not in self._requests:
            self._requests[threads] = self._compiled().create_infer_request()
        return self._requests[threads]

    def _compiled(self) -> openvino.CompiledModel:
        core, properties = openvino_core(), self._target.properties()
        stored = model_cache.load(self._name)
        if stored is not None:
            try:
                return core.import_model(stored, self._target.device, properties)
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[-1]
                logger.warning("OpenVINO refuses the compiled model %s (%s): it is compiled again", self._name, reason)
        announce_compiling()
        try:
            compiled = self._compile(core, properties)
            model_cache.store(self._name, compiled)
            # Not the model that was compiled here: its constants are memory of the trace.
            return core.import_model(compiled, self._target.device, properties)
        except (RuntimeError, OpConversionFailure) as error:
            raise DeviceError(
                f"OpenVINO cannot compile the network for {self._target.device}: {error}. Choose device cpu with mode"
                " reference"
            ) from error

    def _compile(self, core: openvino.Core, properties: dict[str, object]) -> bytes:
        """What the device's compiler makes of the function."""
        # Clones: a trace takes two inputs that are the same tensor for one.
        examples = tuple(_channels_last(x).clone(memory_format=torch.contiguous_format) for x in self._examples())

        def channels_last(*inputs: Tensor) -> tuple[Tensor, ...]:
            outputs = self._function(*(_channels_first(x) for x in inputs))
            return tuple(_channels_last(x) for x in (outputs if isinstance(outputs, tuple) else (outputs,)))

        with torch.no_grad(), warnings.catch_warnings():
            # OpenVINO's own way in; torch.export takes longer.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            # The trace of a function holds weights as constants, and takes a tenth of the time of a module's.
            traced = torch.jit.trace(channels_last, examples, check_trace=False)
            # Not openvino.convert_model, which silences the log of the whole process.
            frontend = FrontEndManager().load_by_framework("pytorch")
            decoder = TorchScriptPythonDecoder(traced)
            loaded = frontend.load(decoder)
            converted = frontend.convert(loaded)
            shapes = (openvino.PartialShape(list(x.shape)) for x in examples)
            converted.reshape(dict(zip(converted.inputs, shapes, strict=True)))
            return core.compile_model(converted, self._target.device, properties).export_model().getvalue()


def _channels_last(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h, w, C); others stay."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x


def _channels_first(x: Tensor) -> Tensor:
    """(B, h, w, C) -> (B, C, h, w); others stay."""
    return x.permute(0, 3, 1, 2) if x.dim() == 4 else x
