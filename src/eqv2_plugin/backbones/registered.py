"""The backbones that configs and model files may name: a new one adds its line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eqv2_plugin.backbones.protocol import Backbone

_CLASSES = [
    "eqv2_plugin.backbones.equiformer_v2.backbone.EquiformerV2Backbone",
    "eqv2_plugin.backbones.equiformer_v1.backbone.EquiformerV1Backbone",
]


def registered_backbones() -> tuple[str, ...]:
    """Full names of the classes."""
    return tuple(_CLASSES)


def register_backbone(name: str) -> None:
    """Let files name a class of another package, from now on and in this process."""
    if name not in _CLASSES:
        _CLASSES.append(name)


def backbone_class(name: str) -> type[Backbone]:
    """The class of a registered name, and no other: importing a module runs it.

    Raises:
        ValueError: a name that is not registered.
    """
    if name not in _CLASSES:
        raise ValueError(
            f"{name[:200]!r} is no backbone of this package; there are {', '.join(_CLASSES)}"
        )
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)
