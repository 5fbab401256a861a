"""Configurations of a checkpoint as plain data, in which nothing is left to be obeyed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig
from omegaconf.nodes import ValueNode

# What Hydra obeys; of these, fairchem's and our configs use two.
_OBEYED = ("_target_", "_convert_")
_INTERPOLATION = "${"
# Configurations of our models have some hundred values, in six levels. A file of a kilobyte can
# hold lists that hold each other, and have a billion.
_MOST, _DEEPEST = 20_000, 20
_SCALARS = (str, int, float, bool, type(None))


class _Walk:
    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.count = 0

    def plain(self, value: Any, where: str, depth: int = 0) -> Any:
        self.count += 1
        if self.count > _MOST or depth > _DEEPEST:
            raise ValueError(
                f"{where}: the configuration has more than {_MOST:,} values or {_DEEPEST} levels, "
                "which no checkpoint of EquiformerV2 has"
            )
        value = _content(value)
        if isinstance(value, Mapping):
            return {
                self.key(key, where): self.plain(item, f"{where}.{key}", depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.plain(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, torch.Tensor):
            if self.strict:
                check_tensor(value, where)
            return value
        if self.strict:
            self.check_scalar(value, where)
        return value

    def key(self, key: Any, where: str) -> Any:
        if self.strict:
            if type(key) is not str or _INTERPOLATION in key:
                raise ValueError(f"{where}: the key {str(key)[:80]!r} is not allowed")
            if key.startswith("_") and key not in _OBEYED:
                raise ValueError(f"{where}: the key {key[:80]!r} is not allowed")
        return key

    def check_scalar(self, value: Any, where: str) -> None:
        if type(value) not in _SCALARS:
            raise ValueError(f"{where} is a {type(value).__name__}, which is no plain value")
        if isinstance(value, str) and _INTERPOLATION in value:
            raise ValueError(
                f"{where}: the text {value[:80]!r} is not allowed: it would be evaluated"
            )


def plain_config(config: Any, where: str, strict: bool = True) -> Any:
    """A configuration as dicts, lists, texts, numbers and tensors; nothing is evaluated.

    OmegaConf's containers are taken apart by hand: their interpolations stay as they are written.

    Args:
        config: of any kind.
        where: its name in errors.
        strict: refuse interpolations, keys that Hydra obeys, and values of other types.

    Raises:
        ValueError: names what is not allowed, or the configuration has no end.
    """
    return _Walk(strict).plain(config, where)


def check_tensor(value: torch.Tensor, where: str) -> None:
    """Refuse tensors that pretend to be larger than what is stored of them.

    Raises:
        ValueError: such a tensor, or one without ordinary memory.
    """
    if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.layout != torch.strided:
        raise ValueError(f"{where} is no ordinary tensor")
    if value.device.type != "cpu":
        raise ValueError(f"{where} is a tensor without values (device {value.device})")
    stored = value.untyped_storage().nbytes() // value.element_size()
    if value.numel() > stored:
        raise ValueError(
            f"{where} has shape {tuple(value.shape)}, but the file stores {stored:,} numbers of it"
        )


def _content(value: Any) -> Any:
    """What an object of OmegaConf holds, without asking it: it may be made up."""
    for _ in range(_DEEPEST):
        if isinstance(value, (DictConfig, ListConfig)):
            value = value.__dict__.get("_content")
        elif isinstance(value, ValueNode):
            value = value.__dict__.get("_val")
        else:
            break
    return value
