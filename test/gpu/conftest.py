# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What only a CUDA device can show. With DVMVS_GPU_TESTS_ON=cpu it runs on the CPU, which shows that the tests run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ON = os.environ.get("DVMVS_GPU_TESTS_ON", "cuda")


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if ON == "cuda" and not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="this machine has no CUDA device"))


@pytest.fixture(scope="session")
def device() -> torch.device:
    torch.backends.cudnn.allow_tf32 = False
    return torch.device(ON)


@pytest.fixture(scope="session")
def size(device) -> tuple[int, int]:
    """Height and width of the networks under test."""
    return (256, 320) if device.type == "cuda" else (64, 96)
