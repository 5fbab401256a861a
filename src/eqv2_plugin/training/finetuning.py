"""The model that a fine-tuning run starts with: weights of a checkpoint, heads kept or new."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import hydra
import torch
from fairchem.core.common.registry import registry
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint
from fairchem.core.units.mlip_unit.utils import load_inference_model
from omegaconf import OmegaConf

from eqv2_plugin.backbones.registered import backbone_class
from eqv2_plugin.heads.forces import NoiseHead
from eqv2_plugin.heads.scalar import ScalarHead
from eqv2_plugin.inference.energy_agreement import kinds_note
from eqv2_plugin.models.hydra import EquiformerV2
from eqv2_plugin.models.metadata import ModelMetadata, energy_kind_of
from eqv2_plugin.training.heads import heads_for
from eqv2_plugin.training.start import ema_weights, read_start

# Parameters that DeNS adds to a backbone without them.
_ADDED = "backbone.force_embedding."


class _Head(NamedTuple):
    """A head's {"module": ..., options}, and the checkpoint's head whose weights it takes."""

    config: dict[str, Any]
    source: str | None


def starting_model(
    checkpoint: str | None,
    backbone: Mapping[str, Any],
    heads: Mapping[str, Any],
    new_heads: Sequence[str] = (),
    freeze_backbone: bool = False,
    from_scratch: bool = False,
    supports_single_atoms: bool = True,
    facts: Mapping[str, Any] | None = None,
    unsafe: bool = False,
    labels: str | None = None,
) -> EquiformerV2:
    """The model that a run starts with: from the EMA weights of a checkpoint, or new.

    Args:
        checkpoint: fairchem 2 inference checkpoint of one of our models; None for a new model.
        backbone: all options of a new one, or those in which it shall differ from the
            checkpoint's (``CHANGEABLE`` of its options); None for a default or the checkpoint's.
        heads: {name: {"module": ...}} that the model shall have; heads of the checkpoint that are
            not among them are dropped.
        new_heads: those of ``heads`` that start from random weights.
        freeze_backbone: train the heads (and what DeNS adds to the backbone) alone.
        from_scratch: start from random weights, with the same architecture, to see what the
            checkpoint is worth.
        supports_single_atoms: fairchem's flag of the model.
        facts: about the energies of the new data (`ModelMetadata`), in place of the checkpoint's.
        unsafe: unpickle and believe whatever is in the checkpoint.
        labels: that are trained (`heads_for`); None leaves heads and backbone as given.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: the checkpoint cannot be read, lacks a head, or does not fit the options.
    """
    heads = {name: _plain(config) for name, config in heads.items()}
    options = {key: value for key, value in _plain(backbone).items() if value is not None}
    if labels is not None:
        heads, options = heads_for(labels, heads, options)
    if checkpoint is None:
        meant = {"freeze_backbone": freeze_backbone, "from_scratch": from_scratch,
                 "new_heads": new_heads}  # fmt: skip
        if given := [name for name, value in meant.items() if value]:
            raise ValueError(f"{given[0]} is for a run from a checkpoint: give checkpoint=FILE")
        return _new_model(options, heads, supports_single_atoms, facts)
    start = read_start(checkpoint, unsafe)
    plan = _planned(start.model["heads"], heads, new_heads, checkpoint)
    changes = _changes(start.model["backbone"], options, checkpoint)
    if from_scratch and freeze_backbone:
        raise ValueError("from_scratch=true with freeze_backbone=true would freeze random weights")
    weights = ema_weights(start.path, unsafe)
    overrides = {
        "_target_": "eqv2_plugin.models.hydra.EquiformerV2",
        "backbone": changes,
        "supports_single_atoms": supports_single_atoms,
    }
    model, config = _with_heads(
        start.model, weights, overrides, {name: head.config for name, head in plan.items()}
    )
    origin = "trained from scratch" if from_scratch else f"fine-tuned from {start.path.name}"
    config["facts"] = {**(_plain(facts) or {}), "basis": origin}
    if from_scratch:
        model = hydra.utils.instantiate(config)
    else:
        fresh = _load(model, weights, plan, checkpoint)
        if freeze_backbone:
            for name, parameter in model.backbone.named_parameters():
                parameter.requires_grad_(f"backbone.{name}" in fresh)
    model.metadata = ModelMetadata.from_mapping(config["facts"])
    before = start.model.get("facts")
    before_kind = energy_kind_of(ModelMetadata.from_mapping(before) if before else None)
    if note := kinds_note(before_kind, energy_kind_of(model.metadata), "the data"):
        # Labels of another kind can be learned, but the energy head has to begin again in effect.
        logging.getLogger(__name__).warning(
            "%s: %s Fit references and a normaliser to the data (references=FILE.npz "
            "normalizer=FILE.yaml), or the first epochs are spent on the difference.",
            start.path,
            note,
        )
    # fairchem writes it into the checkpoints of the run.
    model.finetune_model_full_config = config
    return model


def _new_model(
    backbone: Mapping[str, Any],
    heads: Mapping[str, Any],
    supports_single_atoms: bool,
    facts: Mapping[str, Any] | None,
) -> EquiformerV2:
    config = {
        "_target_": "eqv2_plugin.models.hydra.EquiformerV2",
        "backbone": dict(backbone),
        "heads": dict(heads),
        "supports_single_atoms": supports_single_atoms,
        "facts": _plain(facts) or {},
    }
    model = hydra.utils.instantiate(deepcopy(config))
    # fairchem writes it into the checkpoints of the run.
    model.finetune_model_full_config = config
    return model


def _with_heads(
    saved: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    overrides: Mapping[str, Any],
    heads: Mapping[str, Mapping[str, Any]],
) -> tuple[EquiformerV2, dict[str, Any]]:
    """The model, its weights not yet checked, and its configuration.

    fairchem's ``initialize_finetuning_model`` would unpickle the file by itself. As there, the
    saved model is made first and its heads are exchanged, so that equal seeds give new heads equal
    weights.
    """
    content = MLIPInferenceCheckpoint(deepcopy(dict(saved)), dict(weights), {}, [])
    model, content = load_inference_model(
        "", dict(overrides), strict=False, preloaded_checkpoint=content
    )
    made = {}
    for name in sorted(heads):
        options = {key: value for key, value in heads[name].items() if key != "module"}
        made[name] = registry.get_model_class(heads[name]["module"])(model.backbone, **options)
    model.output_heads = torch.nn.ModuleDict(made)
    kept = {name: deepcopy(dict(config)) for name, config in heads.items()}
    return model, {**content.model_config, "heads": kept}


def _planned(
    saved: Mapping[str, Mapping[str, Any]],
    wanted: Mapping[str, Mapping[str, Any]],
    new_heads: Sequence[str],
    where: str,
) -> dict[str, _Head]:
    """Which head takes which weights.

    A head is kept, with the checkpoint's options, if the checkpoint has one of the same class:
    under its name, or as the only one of that class. The noise head of DeNS, and the head of
    a property, are added if there is none.
    """
    unknown = sorted(set(new_heads) - set(wanted))
    if unknown:
        raise ValueError(f"new_heads names {unknown}, but the model's heads are {sorted(wanted)}")
    plan: dict[str, _Head] = {}
    for name, config in wanted.items():
        kind = registry.get_model_class(config["module"])
        alike = [
            n for n, c in saved.items() if issubclass(registry.get_model_class(c["module"]), kind)
        ]
        if name in alike:
            alike = [name]
        if name in new_heads or (not alike and kind in (NoiseHead, ScalarHead)):
            plan[name] = _Head(dict(config), None)
        elif len(alike) == 1:
            # The weights are the checkpoint's; the data set that they serve is not.
            own = {"dataset": config["dataset"]} if "dataset" in config else {}
            plan[name] = _Head(_plain(saved[alike[0]]) | own, alike[0])
        else:
            kinds = ", ".join(f"{n} ({c['module'].rsplit('.', 1)[-1]})" for n, c in saved.items())
            raise ValueError(
                f"{where} has no head to start {name!r} ({kind.__name__}) from; it has {kinds}. "
                f"Choose other heads=... or labels, or start a new one: new_heads=[{name}]"
            )
    return plan


def _changes(saved: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Options in which the backbone differs from the checkpoint's, if its weights allow them."""
    options = backbone_class(saved["model"]).Options
    before = options.from_options({k: v for k, v in saved.items() if k != "model"})
    changes = {}
    for key, value in wanted.items():
        if key == "model":
            continue
        if not hasattr(before, key):
            options.from_options({key: value})
        if getattr(before, key) == value:
            continue
        if key == "direct_forces":
            kind = "direct" if before.direct_forces else "conservative"
            raise ValueError(
                f"{where} has {kind} forces (direct_forces={str(before.direct_forces).lower()}): "
                f"fine-tune it with heads={kind}"
            )
        if key == "force_encoding" and not value:
            raise ValueError(f"force_encoding=false would drop weights that {where} predicts with")
        if key == "force_scale" and before.force_encoding:
            raise ValueError(
                f"{where} embeds forces in units of {before.force_scale:g} eV/Å, to which its "
                f"weights belong: continue it with force_scale=checkpoint instead of {value}"
            )
        if key not in options.CHANGEABLE:
            may_change = ", ".join(sorted(options.CHANGEABLE))
            raise ValueError(
                f"model.backbone.{key}={value} is not what the weights of {where} were trained "
                f"with ({getattr(before, key)}); only {may_change} can be changed"
            )
        changes[key] = value
    return changes


def _load(
    model: EquiformerV2, weights: Mapping[str, torch.Tensor], plan: Mapping[str, _Head], where: str
) -> set[str]:
    """Load backbone and kept heads; returns the names of the parameters that are new."""
    state = {name: value for name, value in weights.items() if name.startswith("backbone.")}
    for name, head in plan.items():
        if head.source is not None:
            old = f"output_heads.{head.source}."
            state |= {
                f"output_heads.{name}.{key.removeprefix(old)}": value
                for key, value in weights.items()
                if key.startswith(old)
            }
    try:
        found = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"the weights of {where} do not fit its own config: {error}") from error
    fresh = [f"output_heads.{name}." for name, head in plan.items() if head.source is None]
    # An embedding that the checkpoint has must be there as a whole.
    if not any(name.startswith(_ADDED) for name in state):
        fresh.append(_ADDED)
    missing = [name for name in found.missing_keys if not name.startswith(tuple(fresh))]
    if missing or found.unexpected_keys:
        lost = sorted(missing or found.unexpected_keys)[:3]
        raise ValueError(f"the weights of {where} do not fit its own config: {lost}")
    return set(found.missing_keys)


def _plain(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
