# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What would run on a CUDA device, on fake tensors: shapes, types and devices are real, numbers are not computed.

On a machine without a GPU, torch's CPU build needs a device guard for CUDA that does nothing, which is compiled here.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
using Guard = c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>;
static c10::impl::DeviceGuardImplRegistrar registrar(c10::DeviceType::CUDA, new Guard());
"""

# Fake tensors themselves refuse what depends on numbers (`item`, `nonzero`, boolean masks); this only waits.
WAITS = {
    "aten._linalg_check_errors.default",
    "aten.linalg_inv.default",
    "aten.equal.default",
    "aten.is_nonzero.default",
}


class Watch(TorchDispatchMode):
    """Notes what a CUDA graph cannot hold, and every way between host and device.

    Attributes:
        waits: operations for which the host would wait, with the line of this project.
        mixed: operations on tensors of both, and uploads and downloads that wait.
        uploads: copies to the device that do not wait.
        launches: operations with a result on the device; views are among them.
        operations: how often each came.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.mixed: list[str] = []
        self.uploads: list[str] = []
        self.launches = 0
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = operation(*args, **kwargs)
        name, inputs, outputs = str(operation), _devices((args, kwargs)), _devices(result)
        self.operations[name] += 1
        if "cuda" in inputs and name in WAITS:
            self.waits.append(f"{name} {_line()}")
        if name.startswith("prim.device"):
            return result
        if len(inputs | outputs) > 1:
            upload = outputs == {"cuda"} and _is_copy(name) and _does_not_wait(name, args, kwargs)
            (self.uploads if upload else self.mixed).append(f"{name} {_line()}")
        self.launches += "cuda" in outputs
        return result

    def assert_capturable(self) -> None:
        assert self.launches > 0, "nothing ran on the device"
        forbidden = self.waits + self.mixed + self.uploads
        assert not forbidden, "\n".join(sorted(set(forbidden)))


def _devices(values) -> set[str]:
    return {leaf.device.type for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)}


def _is_copy(name: str) -> bool:
    return name.split(".")[1] in ("_to_copy", "copy_", "to")


def _does_not_wait(name: str, args: tuple, kwargs: dict) -> bool:
    """Whether a copy was asked not to wait; only from pinned memory it does not."""
    tensor = args[1] if name.startswith("aten.copy_") else args[0]
    asked = kwargs.get("non_blocking", False) or any(flag is True for flag in args[2:])
    return asked and getattr(tensor, "pinned", False)


def _line() -> str:
    frames = [frame for frame in traceback.extract_stack() if "/dvmvs_core/" in frame.filename]
    if not frames:
        return ""
    return f"at {frames[-1].filename.split('/dvmvs_core/')[-1]}:{frames[-1].lineno}: {frames[-1].line}"


@pytest.fixture(scope="session")
def device_guard(tmp_path_factory) -> None:
    """Lets a CPU build of torch have fake CUDA tensors."""
    if torch.backends.cuda.is_built():
        return
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the device guard with that fake CUDA tensors need on a CPU build of torch")
    folder, torch_folder = tmp_path_factory.mktemp("guard"), Path(torch.__file__).parent
    (folder / "guard.cpp").write_text(GUARD)
    command = [compiler, "-O0", "-shared", "-fPIC", "-std=c++20", f"-I{torch_folder / 'include'}", "guard.cpp"]
    command += ["-o", "libguard.so", f"-L{torch_folder / 'lib'}", "-Wl,--no-as-needed", "-lc10"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    ctypes.CDLL(str(folder / "libguard.so"))


@pytest.fixture
def fake_cuda(device_guard, monkeypatch):
    """Context manager in which tensors are fake, and which gives a `Watch`."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", _pinned)
    # Or autocast would be off where there is no GPU.
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *arguments: True)
    return _fake_cuda


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    copy = tensor.clone()
    copy.pinned = True
    return copy


@contextmanager
def _fake_cuda(**options) -> Iterator[Watch]:
    with FakeTensorMode(**options), Watch() as watch:
        yield watch


@pytest.fixture
def on_the_host(monkeypatch):
    """Function of a module and a name of it: its result, CPU tensors, is worked out on real numbers.

    Geometry goes through numpy, which has no use for fake tensors.
    """

    def replace(module, name):
        function = getattr(module, name)

        def real(*arguments):
            with _disable_current_modes():
                result = function(*arguments)
            blank = tree_map(lambda part: torch.empty(part.shape, dtype=part.dtype), result)
            assert all(part.device.type == "cpu" for part in tree_leaves(blank))
            return blank

        monkeypatch.setattr(module, name, real)

    return replace


@pytest.fixture
def on_cuda():
    """Function that gives a module fake parameters and buffers on the device, in the types and layouts they have."""
    return _on_cuda


def _on_cuda(module: torch.nn.Module, trainable: bool = False) -> torch.nn.Module:
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = torch.nn.Parameter(_blank(value), requires_grad=trainable)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = _blank(value)
    return module


def _blank(value: torch.Tensor) -> torch.Tensor:
    layout = torch.channels_last if value.dim() == 4 else torch.contiguous_format
    return torch.empty(value.shape, dtype=value.dtype, device="cuda", memory_format=layout)
