# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The colour operations of training are those of the published implementation.

Such functions differ between libraries and versions: here contrast is multiplicative about 0, elsewhere about the mean.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvmvs_core.training.augmentation import colour_operation


@pytest.mark.parametrize(
    ("name", "operation", "gamma", "contrast", "brightness"),
    [
        ("co_gamma", 0, 0.9, 1.7, 0.4),
        ("co_contrast", 1, 0.3, 1.15, 0.4),
        ("co_bright", 2, 0.3, 1.7, -0.02),
    ],
)
def test_colour_operation(reference, name, operation, gamma, contrast, brightness):
    units = np.load(reference / "goldens" / "units.npz")
    image = torch.from_numpy(units["co_in"])
    drawn = (torch.tensor([value]) for value in (operation, gamma, contrast, brightness))
    recoloured = colour_operation(image.view(1, 1, *image.shape), *drawn)
    np.testing.assert_allclose(recoloured.view(image.shape).numpy(), units[name], atol=1e-6)
