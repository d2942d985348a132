# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The parts of a network between the plane sweeps: functions of tensors whose shapes are fixed.

They hold all that is trained. Compilers of other frameworks take them one by one; the plane sweeps, the way of the
hidden state into the new view and all state between keyframes are left to whoever runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dvmvs_core.model.convlstm import LSTMState
from dvmvs_core.model.dvmvs import FusionNet, PairNet
from dvmvs_core.model.features import ImageFeatures
from dvmvs_core.model.lite0 import LEVEL_STAGES, Lite0
from dvmvs_core.model.monocular import CELL, MonocularDepth, MonocularHead
from dvmvs_core.model.patch_matching import PATCH_CHANNELS
from dvmvs_core.model.regulariser import Regularised, Regulariser, RegulariserInputs, example_inputs, prepared

STATE = LSTMState._fields


class Part(NamedTuple):
    """A function of tensors.

    Attributes:
        run: from inputs to outputs, in the order of their names.
        inputs: shape of each.
        outputs: shape of each.
    """

    run: Callable[..., tuple[Tensor, ...]]
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]

    def examples(self) -> tuple[Tensor, ...]:
        """Return inputs of the right shapes, all 0."""
        return tuple(torch.zeros(shape) for shape in self.inputs.values())


def network_parts(network: PairNet | FusionNet) -> dict[str, Part]:
    """Return the parts by name, in the order in which a keyframe runs them, for a batch of one.

    "features" is run once an image; "decode" follows the plane sweep; "refine", which a FusionNet may have, follows
    the matching around the decoded depth (its name is that of the ONNX file).
    """
    shapes = _shapes(network)

    def part(run: Callable[..., tuple[Tensor, ...]], inputs: Sequence[str], outputs: Sequence[str]) -> Part:
        return Part(run, *({name: shapes[name] for name in names} for names in (inputs, outputs)))

    def extract(image: Tensor) -> tuple[Tensor, ...]:
        return tuple(network.extract(image))

    sees_image = not network.ends_at_quarter

    def decode(*inputs: Tensor) -> tuple[Tensor, ...]:
        image, inputs = (inputs[0], inputs[1:]) if sees_image else (None, inputs)
        # The matching map has gone into the costs.
        features, costs, state = ImageFeatures(*inputs[:4], matching=inputs[0]), inputs[4], inputs[5:]
        if not state:
            return (network.decode(image, features, costs).full,)
        pyramid, decoded, state = network.decode(image, features, costs, LSTMState(*state))
        return pyramid.full, *((decoded,) if network.fine_sweep is not None else ()), *state

    def correct(depth: Tensor, cosines: Tensor, in_view: Tensor, matching: Tensor, decoded: Tensor, half: Tensor):
        sweep = network.fine_sweep
        return (sweep(depth, sweep.with_texture(cosines, in_view, matching), decoded, half),)

    state = STATE if isinstance(network, FusionNet) else ()
    sweeps_again = bool(state) and network.fine_sweep is not None
    new_state = tuple(f"new_{name}" for name in state)
    parts = {
        "features": part(extract, ("image",), ImageFeatures._fields),
        "decode": part(
            decode,
            (*(("image",) if sees_image else ()), *ImageFeatures._fields[:4], "costs", *state),
            ("depth", *(("decoded",) if sweeps_again else ()), *new_state),
        ),
    }
    if sweeps_again:
        inputs = ("depth", "cosines", "in_view", "matching", "decoded", "half")
        parts["refine"] = part(correct, inputs, ("refined_depth",))
    return parts


def lite0_part(network: Lite0, height: int, width: int) -> Part:
    """Return EfficientNet-Lite0 up to its maps at 1/4, 1/8, 1/16 and 1/32, for images of that size."""
    inputs = _regulariser_shapes(height, width)

    def maps(image: Tensor) -> tuple[Tensor, ...]:
        outputs = network(image)
        return tuple(outputs[stage] for stage in LEVEL_STAGES)

    return Part(maps, {"image": inputs["image"]}, {name: inputs[name] for name in inputs if name.startswith("level")})


def regulariser_part(network: Regulariser, height: int, width: int) -> Part:
    """Return the regulariser for images of that size, which takes an image of 0…255 and Lite0's maps as they are."""
    cells = (1, 1, height // 2, width // 2)
    outputs = dict(zip(Regularised._fields, ((1, 1, height, width), cells, cells), strict=True))

    def regularise(*inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(network(prepared(RegulariserInputs(*inputs))))

    return Part(regularise, _regulariser_shapes(height, width), outputs)


def monocular_part(network: MonocularHead, height: int, width: int) -> Part:
    """Return the head of monocular depth for images of that size."""
    shapes, cells = _regulariser_shapes(height, width), (1, height // CELL, width // CELL)
    inputs = {name: shapes[name] for name in ("level8", "level16", "level32")}
    inputs |= {"rays": (1, 2, *cells[1:]), "focal_px": (1,)}

    def answer(*inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(network(*inputs))

    return Part(answer, inputs, dict.fromkeys(MonocularDepth._fields, cells))


def _regulariser_shapes(height: int, width: int) -> dict[str, tuple[int, ...]]:
    return {name: tuple(example.shape) for name, example in example_inputs(height, width)._asdict().items()}


def _shapes(network: PairNet | FusionNet) -> dict[str, tuple[int, ...]]:
    """The shape of everything that goes into a part or comes out of one."""
    c = network.config
    half = (c.height // 2, c.width // 2)
    levels = {
        name: (1, c.pyramid_channels, c.height // scale, c.width // scale)
        for name, scale in zip(ImageFeatures._fields[:4], (2, 4, 8, 16), strict=True)
    }
    shapes = {
        "image": (1, 3, c.height, c.width),
        **levels,
        "matching": (1, c.pyramid_channels if c.matching == "learned" else PATCH_CHANNELS, *half),
        "costs": (1, c.depth_hypotheses, *half),
        "depth": (1, c.height, c.width),
        "refined_depth": (1, c.height, c.width),
    }
    if isinstance(network, FusionNet):
        state = tuple(network.zero_state().hidden.shape)
        shapes.update({name: state for kept in STATE for name in (kept, f"new_{kept}")})
        if network.fine_sweep is not None:
            around = (1, len(network.fine_sweep.log_shifts), *half)
            shapes.update(decoded=(1, c.hyper_channels, *half), cosines=around, in_view=around)
    return shapes
