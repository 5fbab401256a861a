"""Heads read the configuration of the backbone that they are attached to."""

from __future__ import annotations

from torch import nn

from eqv2_plugin.backbones.equiformer_v2.config import BackboneConfig


def config_of(backbone: nn.Module, head: str) -> BackboneConfig:
    """The backbone's configuration.

    Raises:
        ValueError: the backbone is not ours.
    """
    config = getattr(backbone, "config", None)
    if not isinstance(config, BackboneConfig):
        raise ValueError(
            f"{head} needs the backbone "
            "eqv2_plugin.backbones.equiformer_v2.backbone.EquiformerV2Backbone, got "
            f"{type(backbone).__name__}: set backbone.model accordingly"
        )
    return config
