# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The watch of these tests sees what a CUDA graph cannot hold."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

FORBIDDEN = {
    "list index": lambda x: x[:, [0, 1], [0, 1]],
    "new tensor": lambda x: x * x.new_tensor((1.0, 2.0, 3.0)),
    "inverse": torch.linalg.inv,
    "blocking copy": lambda x: torch.zeros(3).to("cuda"),
    "copy that is not pinned": lambda x: torch.zeros(3).to("cuda", non_blocking=True),
    "to the host": lambda x: x.cpu(),
    "mixed devices": lambda x: x * torch.tensor(2.0),
}


@pytest.mark.parametrize("name", FORBIDDEN)
@pytest.mark.parametrize("inference", [True, False])
def test_it_notes_waits_and_copies(fake_cuda, name, inference):
    with fake_cuda() as watch, torch.inference_mode(inference):
        FORBIDDEN[name](torch.empty(1, 3, 3, device="cuda"))
    with pytest.raises(AssertionError):
        watch.assert_capturable()


@pytest.mark.parametrize("wait", [lambda x: x.sum().item(), lambda x: x.nonzero(), lambda x: x[x > 0]])
def test_fake_tensors_refuse_what_depends_on_numbers(fake_cuda, wait):
    with fake_cuda(), pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        wait(torch.empty(4, device="cuda"))


def test_a_pinned_upload_is_counted_and_work_on_the_device_is_free(fake_cuda):
    with fake_cuda() as watch:
        x = torch.zeros(3).pin_memory().to("cuda", non_blocking=True)
        y = (x + 1).sum() * 2.0
    assert y.device.type == "cuda" and len(watch.uploads) == 1 and not watch.mixed and not watch.waits
