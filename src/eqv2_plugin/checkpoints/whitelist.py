"""Which classes, keys and values the model's configuration in a file may have.

A file may be anybody's, and classes are made from its configuration. So it names classes of a
fixed list, and options that these classes have, with values in the range of models that exist.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from eqv2_plugin.backbones.registered import backbone_class, registered_backbones
from eqv2_plugin.checkpoints.plain import plain_config
from eqv2_plugin.earlier_paths import current_name
from eqv2_plugin.models.metadata import ModelMetadata

MODELS = ("eqv2_plugin.models.hydra.EquiformerV2",)
HEADS = (
    "eqv2_plugin.heads.conservative.ConservativeHead",
    "eqv2_plugin.heads.energy.EnergyHead",
    "eqv2_plugin.heads.forces.ForceHead",
    "eqv2_plugin.heads.forces.NoiseHead",
    "eqv2_plugin.heads.joined_stress.JoinedStressHead",
    "eqv2_plugin.heads.scalar.ScalarHead",
    "eqv2_plugin.heads.stress.StressHead",
)
_FLAGS = ("pass_through_head_outputs", "supports_single_atoms", "otf_graph", "freeze_backbone")
_MODEL_KEYS = {"_target_", "backbone", "heads", "facts", "model_id", *_FLAGS}
# Building a model of any size takes memory and time before its weights are compared. The paper's
# largest has 20 blocks of degree 6 on grids of resolution 18.
_LARGEST = {"lmax": 20, "mmax": 20, "num_layers": 200, "grid_resolution": 128, "num_mlp_layers": 50}
_LARGEST_NUMBER = 100_000


def check_model_config(model: Any) -> None:
    """Refuse what is not one of our models (classes by full names) with plain options."""
    require(isinstance(model, dict), "the model's configuration must be a JSON object")
    unknown = sorted(set(map(str, model)) - _MODEL_KEYS)
    require(not unknown, f"the model's configuration has unknown keys: {', '.join(unknown)}")
    missing = sorted({"_target_", "backbone", "heads"} - set(model))
    require(not missing, f"the model's configuration lacks {', '.join(missing)}")
    allowed(model["_target_"], MODELS, "model")
    for flag in _FLAGS:
        require(type(model.get(flag, False)) is bool, f"{flag} must be true or false")
    require(isinstance(model.get("model_id", ""), str), "model_id must be text")
    rest = {key: value for key, value in model.items() if key != "_target_"}
    # Classes of a model stand under the keys that are checked, and nowhere else.
    plain_config(rest, "the model", data_only=True)
    facts = model.get("facts", {})
    require(isinstance(facts, dict), "facts must be a JSON object")
    require(isinstance(facts.get("units", {}), dict), "units among the facts must be an object")
    ModelMetadata.from_mapping(facts)
    _check_backbone(model["backbone"])
    heads = model["heads"]
    require(isinstance(heads, dict) and len(heads) > 0, "heads must be a JSON object, not empty")
    for name, head in heads.items():
        _check_head(head, f"head {name!r}")


def with_full_names(config: Any) -> Any:
    """The model's configuration, with full names in place of those that the package registers.

    Options that fairchem writes although they are not set are left out.
    """
    if not isinstance(config, dict):
        return config
    unset = ("finetune_config", "model_id", "facts")
    config = {k: v for k, v in config.items() if not (k in unset and v is None)}
    if isinstance(config.get("_target_"), str):
        config["_target_"] = current_name(config["_target_"])
    if isinstance(config.get("backbone"), dict):
        config["backbone"] = _named(config["backbone"], "model", registered_backbones())
    if isinstance(config.get("heads"), dict):
        config["heads"] = {n: _named(head, "module", HEADS) for n, head in config["heads"].items()}
    return config


def class_of(name: Any) -> type:
    """The class of a whitelisted name, and no other: importing a module runs it."""
    allowed(name, MODELS + registered_backbones() + HEADS, "part of a model")
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


def allowed(name: Any, classes: tuple[str, ...], what: str) -> None:
    """Raises ValueError for a name that is not on the list."""
    require(
        isinstance(name, str) and name in classes,
        f"the class {str(name)[:200]!r} is not allowed as {what}: allowed are {', '.join(classes)}",
    )


def require(condition: bool, message: str) -> None:
    """Raises ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def _named(part: Any, key: str, classes: tuple[str, ...]) -> Any:
    """``part`` with its class's registered (v1's) name written out."""
    if not isinstance(part, dict) or not isinstance(part.get(key), str):
        return part
    name = part[key]
    if "." not in name:
        from fairchem.core.common.registry import registry

        for known in classes:
            class_of(known)  # its module registers the short names
        found = registry.mapping["model_name_mapping"].get(name)
        full = f"{found.__module__}.{found.__qualname__}" if found is not None else name
        name = full if full in classes else name
    return {**part, key: current_name(name)}


def _check_backbone(backbone: Any) -> None:
    require(isinstance(backbone, dict), "backbone must be a JSON object")
    allowed(backbone.get("model"), registered_backbones(), "backbone")
    options = {key: value for key, value in backbone.items() if key != "model"}
    _check_sizes(options, "backbone")
    backbone_class(backbone["model"]).Options.from_options(options)


def _check_head(head: Any, where: str) -> None:
    require(isinstance(head, dict), f"{where} must be a JSON object")
    allowed(head.get("module"), HEADS, where)
    options = {key: value for key, value in head.items() if key != "module"}
    known = _options_of(class_of(head["module"]))
    unknown = sorted(set(map(str, options)) - known)
    require(not unknown, f"{where} has no option {', '.join(unknown)} ({head['module']})")
    _check_sizes(options, where)
    for key, value in options.items():
        scales = key in ("isotropic", "anisotropic")
        if scales:
            numbers = isinstance(value, dict) and set(value) == {"mean", "rmsd"}
            require(
                numbers and all(type(v) in (int, float) for v in value.values()),
                f"{where}: {key} must have a mean and an rmsd",
            )
        else:
            require(
                value is None or isinstance(value, (bool, int, float, str)),
                f"{where}: {key} must be one number, text or flag, got {str(value)[:80]!r}",
            )


def _options_of(head: type) -> set[str]:
    """Keywords of a head, with those that it hands on to the head it is derived from."""
    names: set[str] = set()
    for one in head.__mro__:
        own = one.__dict__.get("__init__")
        if own is None:
            continue
        parameters = inspect.signature(own).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names - {"self", "backbone"}


def _check_sizes(options: Mapping[str, Any], where: str) -> None:
    for key, value in options.items():
        most = _LARGEST.get(str(key), _LARGEST_NUMBER)
        too_large = type(value) in (int, float) and not abs(value) <= most
        require(not too_large, f"{where}: {key}={value} is more than {most:,}, or no number")
