# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The colour operations that training takes from kornia are still those of the published implementation.

Such functions differ between libraries and versions: here contrast is multiplicative about 0, elsewhere about the mean.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvmvs_core.training import augmentation


@pytest.mark.parametrize(
    ("name", "operation", "factor"),
    [
        ("co_gamma", augmentation.adjust_gamma, 0.9),
        ("co_contrast", augmentation.adjust_contrast, 1.15),
        ("co_bright", augmentation.adjust_brightness, -0.02),
    ],
)
def test_colour_operation(reference, name, operation, factor):
    units = np.load(reference / "goldens" / "units.npz")
    recoloured = operation(torch.from_numpy(units["co_in"])[None], torch.tensor([factor]))
    np.testing.assert_allclose(recoloured[0].numpy(), units[name], atol=1e-6)
