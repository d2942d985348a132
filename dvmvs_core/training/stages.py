"""Which modules learn in which part of a training run.

FusionNet starts from a trained PairNet: its new memory, and the decoder that must read it, learn first; the rest joins
later. A module that does not learn is frozen altogether: no gradient is computed for it and its batch-norm statistics
stand still.

Source: Düzçeker et al., "DeepVideoMVS", CVPR 2021, section 4 and its supplement.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from dvmvs_core.errors import ConfigError

EVERY_MODULE = ("feature_extractor", "feature_pyramid", "encoder", "lstm_fusion", "decoder")


@dataclass(frozen=True)
class Stage:
    """A part of a training run.

    Args:
        name: what the log calls it.
        share: the part of the whole run that it takes, 0…1.
        trained: names of the network's modules that learn; the others are frozen.
        predicted_state: how often the hidden state is warped with the depth that the network predicted, as at
            inference, instead of ground-truth depth, 0…1. PairNet has no state and ignores it.
        batch_norm: whether the batch-norm statistics and affine weights of the modules that learn, learn too.
        calibrate: whether the batch-norm statistics are estimated anew when the stage begins.
    """

    name: str
    share: float
    trained: tuple[str, ...] = EVERY_MODULE
    predicted_state: float = 0.0
    batch_norm: bool = True
    calibrate: bool = False


PAIRNET_STAGES = (
    Stage("everything", 0.8),
    Stage("everything, batch norm fixed", 0.2, batch_norm=False, calibrate=True),
)
"""From random weights. In the end the network trains on the statistics that it will be used with."""

TUNING_STAGES = (Stage("tuning, batch norm fixed", 1.0, batch_norm=False, calibrate=True),)
"""PairNet from trained weights, as for another input size, at which its statistics are others."""

FUSIONNET_STAGES = (
    Stage("memory and decoder", 0.15, ("lstm_fusion", "decoder"), batch_norm=False),
    Stage("all but the extractor", 0.35, EVERY_MODULE[1:], batch_norm=False),
    Stage("everything", 0.3, predicted_state=0.5, batch_norm=False),
    Stage("everything, predicted state", 0.2, predicted_state=1.0, batch_norm=False),
)
"""Gradual unfreezing. Batch norm stays as PairNet left it, since a clip's frames resemble each other too much to
estimate statistics from a small batch of them."""


FUSIONNET_TUNING_STAGES = (
    Stage("tuning, batch norm fixed", 0.6, predicted_state=0.5, batch_norm=False, calibrate=True),
    Stage("tuning, predicted state", 0.4, predicted_state=1.0, batch_norm=False),
)
"""FusionNet from a trained FusionNet, as for another input size."""


def stage_at(stages: tuple[Stage, ...], progress: float) -> int:
    """Return the index of the stage that a run has reached.

    Args:
        stages: in order; their shares add up to 1.
        progress: the part of the run that is over, 0…1.
    """
    end = 0.0
    for index, stage in enumerate(stages):
        end += stage.share
        if progress < end - 1e-9:
            return index
    return len(stages) - 1


def enter_stage(network: nn.Module, stage: Stage) -> list[nn.Parameter]:
    """Freeze and unfreeze a network's modules.

    Args:
        network: PairNet or FusionNet; modules that it lacks (PairNet has no lstm_fusion) are passed over.
        stage: what to train.

    Returns:
        The parameters that learn.

    Raises:
        ConfigError: if the stage would train nothing.
    """
    learning = []
    for name, module in network.named_children():
        trained = name in stage.trained
        module.train(trained)
        for parameter in module.parameters():
            parameter.requires_grad_(trained)
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d) and not stage.batch_norm:
                layer.eval().requires_grad_(False)
        learning += [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not learning:
        have = ", ".join(name for name, _ in network.named_children())
        raise ConfigError(f"stage {stage.name!r} trains none of the network's modules: {have}")
    return learning
