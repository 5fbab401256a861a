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
# Configurations of our models have some hundred values, in six levels. A file of a kilobyte can
# hold lists that hold each other, and have a billion.
_MAX_VALUES, _MAX_DEPTH = 20_000, 20
_SCALARS = (str, int, float, bool, type(None))


def plain_config(config: Any, where: str, strict: bool = True, data_only: bool = False) -> Any:
    """A configuration as dicts, lists, texts, numbers and tensors; nothing is evaluated.

    OmegaConf's containers are taken apart by hand: their interpolations stay as they are written.

    Args:
        where: its name in errors.
        strict: refuse interpolations, most keys that Hydra obeys, and values of other types.
        data_only: refuse all keys that Hydra obeys, and tensors.

    Raises:
        ValueError: names what is not allowed, or the configuration has no end.
    """
    return _Walk(strict, () if data_only else _OBEYED, not data_only).plain(config, where)


class _Walk:
    def __init__(self, strict: bool, obeyed: tuple[str, ...], tensors: bool) -> None:
        self.strict, self.obeyed, self.tensors = strict, obeyed, tensors
        self.count = 0

    def plain(self, value: Any, where: str, depth: int = 0) -> Any:
        self.count += 1
        if self.count > _MAX_VALUES or depth > _MAX_DEPTH:
            raise ValueError(
                f"{where}: the configuration has more than {_MAX_VALUES:,} values or {_MAX_DEPTH} "
                "levels, which no checkpoint of EquiformerV2 has"
            )
        value = _content(value)
        if isinstance(value, Mapping):
            if self.strict:
                self.check_keys(value, where)
            return {k: self.plain(v, f"{where}.{k}", depth + 1) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.plain(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
        if isinstance(value, np.generic):
            value = value.item()
        if self.strict and self.tensors and isinstance(value, torch.Tensor):
            check_tensor(value, where)
        elif self.strict:
            _check_scalar(value, where)
        return value

    def check_keys(self, config: Mapping[Any, Any], where: str) -> None:
        for key in config:
            obeyed = type(key) is str and key.startswith("_") and key not in self.obeyed
            if type(key) is not str or "${" in key or obeyed:
                raise ValueError(f"{where}: the key {str(key)[:80]!r} is not allowed")


def _check_scalar(value: Any, where: str) -> None:
    if type(value) not in _SCALARS:
        raise ValueError(f"{where} is a {type(value).__name__}, which is no plain value")
    if isinstance(value, str) and "${" in value:
        raise ValueError(f"{where}: the text {value[:80]!r} is not allowed: it would be evaluated")


def check_tensor(value: torch.Tensor, where: str) -> None:
    """Refuse tensors that pretend to be larger than what is stored of them, or have no memory."""
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
    for _ in range(_MAX_DEPTH):
        if isinstance(value, (DictConfig, ListConfig)):
            value = value.__dict__.get("_content")
        elif isinstance(value, ValueNode):
            value = value.__dict__.get("_val")
        else:
            break
    return value
