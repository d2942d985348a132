# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Networks of random weights that run in milliseconds."""

from __future__ import annotations

import torch

from dvmvs_core.config import ModelConfig, preset
from dvmvs_core.model.dvmvs import FusionNet, PairNet, build_network


def tiny_config(name: str = "small", **changes) -> ModelConfig:
    """A preset with few channels, for images of 96×64."""
    sizes = {"height": 64, "width": 96, "depth_hypotheses": 8, "pyramid_channels": 4, "hyper_channels": 4}
    channels = {"extractor_stem": 4, "extractor_channels": (4, 4, 4, 8, 8)}
    return preset(name, **{**sizes, **channels, **changes})


def tiny_network(name: str = "small", seed: int = 0, **changes) -> FusionNet | PairNet:
    """A network of such a size, in evaluation mode, whose weights are those of the seed."""
    torch.manual_seed(seed)
    return build_network(tiny_config(name, **changes)).eval()
