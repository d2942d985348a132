# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Every setting of the network, the keyframe buffer and the engine, as frozen dataclasses.

Sizes are (height, width) in pixels, distances in metres. Unknown keys fail, so a misspelt setting never goes unnoticed.
"""

from __future__ import annotations

import dataclasses
import numbers
from dataclasses import dataclass, field
from typing import Any

from dvmvs_core.errors import ConfigError

NETWORKS = ("fusionnet", "pairnet")
MATCHINGS = ("learned", "patch")
PRECISIONS = ("auto", "float32", "float16", "bfloat16")
MODES = ("auto", "fast", "reference")
MATCHING_MODES = ("auto", "off", "fast", "full")
SIZE_MULTIPLE = 32
"""The network halves its input five times and joins the halves again, so both sides must divide by this."""


class _Config:
    """Conversion to and from plain dictionaries, shared by all configurations."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]):
        """Build the configuration from a dictionary, refusing names that it does not have.

        Raises:
            ConfigError: for an unknown name, or a value that the configuration refuses.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(fields))
        if unknown:
            raise ConfigError(f"{cls.__name__} has no setting {', '.join(unknown)}; it has {', '.join(sorted(fields))}")
        built = {}
        for name, value in values.items():
            default = fields[name].default_factory
            nested = isinstance(value, dict) and default is not dataclasses.MISSING
            built[name] = default.from_dict(value) if nested else value
            if isinstance(value, list):
                built[name] = tuple(value)
        try:
            return cls(**built)
        except TypeError as error:
            raise ConfigError(f"{cls.__name__}: {error}") from error

    def __post_init__(self) -> None:
        """Refuse values of another type than the defaults have; whole numbers are numbers."""
        for setting in dataclasses.fields(self):
            value = getattr(self, setting.name)
            fits, wanted = _type_of(setting)
            several = isinstance(value, (tuple, list))
            parts = value if several else (value,)
            _require(
                several == wanted.startswith("several") and all(isinstance(part, fits) for part in parts),
                f"{setting.name} must be {wanted}; got {value!r}",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a dictionary that JSON can hold and `from_dict` takes back."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any):
        """Return a copy with some settings changed; unknown names raise ConfigError."""
        return type(self).from_dict({**_shallow(self), **changes})


def _type_of(setting: dataclasses.Field) -> tuple[type, str]:
    """What each value of a setting must be, and how that is said."""
    if setting.default is dataclasses.MISSING:
        return setting.default_factory, f"a {setting.default_factory.__name__}"
    if isinstance(setting.default, tuple):
        return numbers.Integral, "several whole numbers"
    if isinstance(setting.default, bool):
        return bool, "true or false"
    if isinstance(setting.default, int):
        return numbers.Integral, "a whole number"
    return (numbers.Real, "a number") if isinstance(setting.default, float) else (str, "text")


def _shallow(config: _Config) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


MAX_SIDE, MAX_HYPOTHESES = 8192, 1024
"""Beyond what any network has: a damaged header must not claim any memory."""


def _require_depth_range(min_depth_m: float, max_depth_m: float) -> None:
    _require(
        0 < min_depth_m < max_depth_m,
        f"depth range must satisfy 0 < min_depth_m < max_depth_m; got {min_depth_m} and {max_depth_m}",
    )


@dataclass(frozen=True)
class ModelConfig(_Config):
    """The shape of one network: what a checkpoint must agree with.

    Args:
        preset: the name of the preset that the sizes started from.
        network: "fusionnet" (with a ConvLSTM between encoder and decoder) or "pairnet" (without).
        height: network input height in pixels, a multiple of 32.
        width: network input width in pixels, a multiple of 32.
        min_depth_m: nearest depth hypothesis, and the nearest depth that can be predicted.
        max_depth_m: farthest depth hypothesis, and the farthest depth that can be predicted.
        depth_hypotheses: number of planes, spaced evenly in inverse depth.
        extractor_stem: channels of the feature extractor's first convolution.
        extractor_channels: channels after each of its five stages (strides 2 to 32).
        pyramid_channels: channels of every feature-pyramid level.
        hyper_channels: width unit of encoder, ConvLSTM and decoder.
        matching: "learned" correlates pyramid features; "patch" correlates fixed zero-mean normalised 3×3 grey patches.
        mask_out_of_view: leave samples outside a measurement frame's view out of the mean over measurement frames.
            The published network counts them as zeros, and its weights depend on it.
        exact_sampling: sample a measurement frame where the homography points. The published network samples pixel u at
            u·(w-1)/w, up to one pixel off at the right and bottom border, and its weights depend on it.
        refinement_channels: width of FusionNet's second, finer plane sweep around its prediction, which
            corrects it; 0, as published, leaves it out.
    """

    preset: str = "paper"
    network: str = "fusionnet"
    height: int = 256
    width: int = 320
    min_depth_m: float = 0.25
    max_depth_m: float = 20.0
    depth_hypotheses: int = 64
    extractor_stem: int = 32
    extractor_channels: tuple[int, int, int, int, int] = (16, 24, 40, 96, 320)
    pyramid_channels: int = 32
    hyper_channels: int = 32
    matching: str = "learned"
    mask_out_of_view: bool = False
    exact_sampling: bool = False
    refinement_channels: int = 0

    def __post_init__(self) -> None:
        """Refuse values that no network can have."""
        super().__post_init__()
        _require(self.network in NETWORKS, f"network must be one of {NETWORKS}; got {self.network!r}")
        _require(self.matching in MATCHINGS, f"matching must be one of {MATCHINGS}; got {self.matching!r}")
        for name in ("height", "width"):
            size = getattr(self, name)
            _require(
                isinstance(size, int) and size > 0 and size % SIZE_MULTIPLE == 0,
                f"{name} must be a positive multiple of {SIZE_MULTIPLE}; got {size!r}",
            )
            _require(size <= MAX_SIDE, f"{name} must be at most {MAX_SIDE}; got {size}")
        _require(
            self.network != "fusionnet" or min(self.height, self.width) > SIZE_MULTIPLE,
            f"fusionnet warps its hidden state, which needs at least 2 cells a side: height and width of at least"
            f" {2 * SIZE_MULTIPLE}; got {self.height} and {self.width}",
        )
        _require_depth_range(self.min_depth_m, self.max_depth_m)
        _require(
            2 <= self.depth_hypotheses <= MAX_HYPOTHESES,
            f"depth_hypotheses must be at least 2 and at most {MAX_HYPOTHESES}; got {self.depth_hypotheses}",
        )
        _require(
            len(self.extractor_channels) == 5,
            f"extractor_channels must have 5 entries, one a stage; got {self.extractor_channels!r}",
        )
        for name in ("extractor_stem", "pyramid_channels", "hyper_channels"):
            _require(getattr(self, name) > 0, f"{name} must be positive; got {getattr(self, name)!r}")
        _require(
            self.refinement_channels == 0
            or (self.refinement_channels > 0 and self.network == "fusionnet" and self.exact_sampling),
            "refinement_channels must be 0, or positive for a fusionnet with exact_sampling; got"
            f" {self.refinement_channels} for a {self.network} with exact_sampling {self.exact_sampling}",
        )


PRESETS = {
    "paper": ModelConfig(),
    "small": ModelConfig(
        preset="small",
        extractor_stem=16,
        extractor_channels=(16, 24, 32, 64, 128),
        pyramid_channels=16,
        hyper_channels=16,
        matching="patch",
        mask_out_of_view=True,
        exact_sampling=True,
    ),
}


def preset(name: str, **overrides: Any) -> ModelConfig:
    """Return a named preset, with some settings overridden.

    Raises:
        ConfigError: if there is no such preset, or an override is refused.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}; presets are {', '.join(sorted(PRESETS))}")
    return PRESETS[name].replace(**overrides)


@dataclass(frozen=True)
class KeyframeConfig(_Config):
    """When a frame becomes a keyframe, and which earlier keyframes it is measured against (paper, section 3.4).

    Args:
        buffer_size: keyframes kept; the oldest leaves first.
        pose_distance: least combined pose distance to the newest keyframe (unitless, see geometry.pose_distance).
        optimal_baseline_m: translation between reference and measurement frame that is scored best.
        optimal_rotation: rotation measure between them that is scored best.
        measurement_frames: how many measurement frames to select.
        max_lost_frames: invalid poses in a row that are forgiven before tracking counts as lost.
    """

    buffer_size: int = 30
    pose_distance: float = 0.1
    optimal_baseline_m: float = 0.15
    optimal_rotation: float = 0.0
    measurement_frames: int = 2
    max_lost_frames: int = 30

    def __post_init__(self) -> None:
        """Refuse values under which no keyframe could ever be predicted."""
        super().__post_init__()
        _require(self.buffer_size >= 2, f"buffer_size must be at least 2; got {self.buffer_size}")
        _require(self.pose_distance >= 0, f"pose_distance must not be negative; got {self.pose_distance}")
        _require(
            self.optimal_baseline_m >= 0, f"optimal_baseline_m must not be negative; got {self.optimal_baseline_m}"
        )
        _require(
            1 <= self.measurement_frames < self.buffer_size,
            f"measurement_frames must lie between 1 and buffer_size - 1 = {self.buffer_size - 1};"
            f" got {self.measurement_frames}",
        )
        _require(self.max_lost_frames >= 0, f"max_lost_frames must not be negative; got {self.max_lost_frames}")


@dataclass(frozen=True)
class MatchingConfig(_Config):
    """How depth is matched against past keyframes (`dvmvs_core.matching`).

    The penalties and their scales were chosen on rendered worlds and on HoloLens, 7-Scenes and APC images; scores are
    cosines, -1..1.

    Args:
        preset: the name of the preset that the values started from.
        views: past keyframes to match against, the best of the last `window`.
        window: past keyframes that they are chosen from.
        min_depth_m: nearest plane.
        max_depth_m: farthest plane, which stands for everything beyond.
        planes: depth hypotheses, spaced evenly in log depth; a multiple of 16 is fastest.
        patch_planes: of these, how many patches are matched at: those around the plane that the pretrained maps and the
            prior choose at quarter resolution.
        neighbourhoods: sides of the squares, in cells of the half-resolution grid, that patch scores are averaged over.
        map_neighbourhood: the same for the pretrained maps, in cells of the quarter-resolution grid.
        map_weight: part of the pretrained maps in the score; the rest is of patches.
        doubt: views at which a score counts half of what it would with very many.
        past_depths: past keyframes whose depth is splatted into the current view for the prior.
        prior_strength: penalty of a plane whose log depth is 1 off the prior.
        prior_trust: what is added to it where all that the past measured agrees with the prior.
        prior_reach: difference of log depth from which on those penalties no longer grow.
        prior_parallax_px: parallax of a 25 % depth step at which the network no longer decides alone.
        far_strength: penalty of a plane whose log depth is 1 greater than the prior's.
        next_penalty: semi-global penalty of going to a neighbouring plane.
        jump_penalty: that of any other plane where the image is flat.
        edge: difference of colour, of 255, at which the jump penalty has fallen to 1/e.
        fine_planes: planes of a second sweep of patches, about the depth of the first; 0 leaves it out.
        fine_reach: its largest change, in planes of the first sweep.
        fine_neighbourhoods: as `neighbourhoods`.
        fine_bias: score that a change of log depth by 1 must win.
        fine_next_penalty: as `next_penalty`.
    """

    preset: str = "fast"
    views: int = 5
    window: int = 30
    min_depth_m: float = 0.25
    max_depth_m: float = 12.0
    planes: int = 48
    patch_planes: int = 16
    neighbourhoods: tuple[int, ...] = (3, 7)
    map_neighbourhood: int = 3
    map_weight: float = 0.5
    doubt: float = 2.0
    past_depths: int = 30
    prior_strength: float = 0.15
    prior_trust: float = 0.45
    prior_reach: float = 0.35
    prior_parallax_px: float = 2.0
    far_strength: float = 0.1
    next_penalty: float = 0.3
    jump_penalty: float = 4.0
    edge: float = 12.0
    fine_planes: int = 4
    fine_reach: float = 0.5
    fine_neighbourhoods: tuple[int, ...] = (3, 7)
    fine_bias: float = 0.1
    fine_next_penalty: float = 0.05

    def __post_init__(self) -> None:
        """Refuse values that nothing can be matched with."""
        super().__post_init__()
        _require(
            1 <= self.views <= self.window,
            f"views must lie between 1 and window = {self.window}; got {self.views}",
        )
        _require_depth_range(self.min_depth_m, self.max_depth_m)
        _require(self.planes >= 8, f"planes must be at least 8; got {self.planes}")
        sides = (*self.neighbourhoods, *self.fine_neighbourhoods, self.map_neighbourhood)
        _require(
            len(self.neighbourhoods) > 0 and all(side > 0 and side % 2 for side in sides),
            f"neighbourhoods must be odd and positive; got {sides}",
        )
        _require(0 <= self.map_weight <= 1, f"map_weight must lie between 0 and 1; got {self.map_weight}")
        _require(self.past_depths >= 0, f"past_depths must not be negative; got {self.past_depths}")
        _require(self.fine_planes >= 0, f"fine_planes must not be negative; got {self.fine_planes}")


MATCHING_PRESETS = {
    "fast": MatchingConfig(),
    "full": MatchingConfig(preset="full", views=12),
}


def matching_preset(matching: str, network_preset: str) -> str | None:
    """Return the preset of matching that `EngineConfig.matching` means for a network's preset; None for none."""
    if matching == "auto":
        matching = "off" if network_preset == "paper" else "fast"
    return None if matching == "off" else matching


@dataclass(frozen=True)
class EngineConfig(_Config):
    """How the engine runs a network.

    Args:
        device: "auto" (CUDA if there is one, else CPU), "cpu", "cuda", "cuda:N", or a device of OpenVINO:
            "openvino:CPU", "openvino:GPU", "openvino:NPU"; "openvino" is its CPU. On "cpu", too, OpenVINO runs the
            network where it is installed.
        precision: arithmetic of the networks: "float32", "float16", "bfloat16", or "auto": float16 on CUDA, bfloat16 on
            CPUs that compute in it, and float32 elsewhere, in mode reference, and for preset paper where its depth is
            not matched. Geometry, plane sweep and the way from the last convolution to depth are float32 in all of
            them.
        mode: "fast" refuses to start where something is missing that it needs (OpenVINO, numba, Triton, a precision);
            "auto" does without what is missing; "reference" runs the plain network with no cache, which the others are
            tested against.
        matching: multi-view matching against past keyframes after the network, where that runs: "off", "fast" (5
            keyframes) or "full" (12 keyframes, which takes longer); "auto" is off for preset paper,
            whose depth is as published, else fast.
        crop: crop the image to the network's aspect ratio before resizing, instead of stretching it.
        confidence: estimate the confidence of every depth map.
        keyframes: the keyframe rule.
    """

    device: str = "auto"
    precision: str = "auto"
    mode: str = "auto"
    matching: str = "auto"
    crop: bool = False
    confidence: bool = True
    keyframes: KeyframeConfig = field(default_factory=KeyframeConfig)

    def __post_init__(self) -> None:
        """Refuse a precision or a mode that the engine does not have."""
        super().__post_init__()
        _require(self.precision in PRECISIONS, f"precision must be one of {PRECISIONS}; got {self.precision!r}")
        _require(self.mode in MODES, f"mode must be one of {MODES}; got {self.mode!r}")
        _require(self.matching in MATCHING_MODES, f"matching must be one of {MATCHING_MODES}; got {self.matching!r}")
