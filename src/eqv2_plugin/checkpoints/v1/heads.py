"""Heads, normalisers and element references of fairchem-core 1 as our heads and their tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from eqv2_plugin.checkpoints.record import TaskRecord
from eqv2_plugin.models.known_elements import references_or_nan

_ENERGY = "eqv2_plugin.heads.energy.EnergyHead"
_FORCES = "eqv2_plugin.heads.forces.ForceHead"
_NOISE = "eqv2_plugin.heads.forces.NoiseHead"
_STRESS = "eqv2_plugin.heads.stress.StressHead"
_JOINED_STRESS = "eqv2_plugin.heads.joined_stress.JoinedStressHead"

# Last part of the name in a config (registered name or dotted path) -> kind.
_KINDS = {
    "equiformer_v2_energy_head": "energy",
    "equiformerV2_scalar_head": "energy",
    "EquiformerV2EnergyHead": "energy",
    "EqV2ScalarHead": "energy",
    "eqV2_DeNS_scalar_head": "energy",
    "DeNSScalarHead": "energy",
    "equiformer_v2_force_head": "forces",
    "equiformerV2_vector_head": "forces",
    "EquiformerV2ForceHead": "forces",
    "EqV2VectorHead": "forces",
    "eqV2_DeNS_vector_head": "dens_forces",
    "DeNSVectorHead": "dens_forces",
    "rank2_symmetric_head": "stress",
    "Rank2SymmetricTensorHead": "stress",
    "dens_rank2_symmetric_head": "stress",
    "DeNSRank2Head": "stress",
}
# Options of each kind that ours have, too.
_OPTIONS = {
    "energy": {"output_name", "reduce"},
    "forces": {"output_name"},
    "dens_forces": {"output_name"},
    "stress": {
        "output_name", "decompose", "edge_level_mlp", "num_mlp_layers",
        "use_source_target_embedding", "extensive", "avg_num_nodes",
    },
}  # fmt: skip
# An ablation of the training; and a norm for backbones that name none, which ours always do.
_WITHOUT_EFFECT = {"module", "use_denoising", "default_norm_type"}
_OCP_TARGETS = {"target": "energy", "grad_target": "forces"}


@dataclass(frozen=True)
class Head:
    """Our config of a head, and what it returns.

    Attributes:
        config: {"module": ..., options}.
        output: property that it returns.
        level, dim: see `TaskRecord`.
        normalizer: v1's name of the normaliser of the output.
        inner_normalizers: names of those that the head itself applies before.
    """

    config: dict[str, Any]
    output: str
    level: Literal["system", "atom"]
    dim: tuple[int, ...]
    normalizer: str
    inner_normalizers: tuple[str, ...] = ()


def translate_heads(
    heads: Mapping[str, Mapping[str, Any]], normalizers: Mapping[str, tuple[float, float]]
) -> dict[str, Head]:
    """Our heads for those of a v1 config.

    Args:
        heads: {name: {"module": ..., options}}.
        normalizers: {target: (mean, rmsd)}; the decomposed stress needs its own two.

    Raises:
        ValueError: an unknown head or option.
    """
    translated: dict[str, Head] = {}
    for name, head in heads.items():
        module = str(head.get("module"))
        kind = _KINDS.get(module.rsplit(".", 1)[-1])
        if kind is None:
            raise ValueError(f"head {name!r}: {module!r} is no head of EquiformerV2 known here")
        unknown = set(head) - _OPTIONS[kind] - _WITHOUT_EFFECT
        if unknown:
            raise ValueError(f"head {name!r}: unknown options {', '.join(sorted(unknown))}")
        options = {key: value for key, value in head.items() if key in _OPTIONS[kind]}
        output = str(options.get("output_name", kind.removeprefix("dens_")))
        if kind == "energy":
            translated[name] = Head({"module": _ENERGY, **options}, output, "system", (1,), output)
        elif kind == "stress":
            translated[name] = _stress(options, output, normalizers)
        else:
            translated[name] = Head({"module": _FORCES, **options}, output, "atom", (3,), output)
        if kind == "dens_forces":
            # v1 keeps the noise block in the force head.
            noise = {"module": _NOISE, "output_name": "noise_forces"}
            translated["noise_forces"] = Head(
                noise, "noise_forces", "atom", (3,), "denoising_pos_target"
            )
    return translated


def _stress(
    options: dict[str, Any], output: str, normalizers: Mapping[str, tuple[float, float]]
) -> Head:
    if not options.get("decompose", False):
        return Head({"module": _STRESS, **options}, output, "system", (1, 9), output)
    config: dict[str, Any] = {"module": _JOINED_STRESS, **options}
    del config["decompose"]
    inner = {part: f"{output}_{part}" for part in ("isotropic", "anisotropic")}
    for part, name in inner.items():
        mean, rmsd = normalizers.get(name, (0.0, 1.0))
        config[part] = {"mean": mean, "rmsd": rmsd}
    return Head(config, output, "system", (1, 9), output, tuple(inner.values()))


def read_normalizers(stored: Mapping[str, Any] | None) -> dict[str, tuple[float, float]]:
    """Means and scales of a checkpoint: {target: (mean, rmsd)}.

    Raises:
        ValueError: not two numbers per target.
    """
    normalizers: dict[str, tuple[float, float]] = {}
    for key, values in (stored or {}).items():
        target = _OCP_TARGETS.get(key, key)
        if not isinstance(values, Mapping) or "mean" not in values:
            raise ValueError(f"normaliser {key!r} is no mean and rmsd: {values!r}")
        scale = values["std"] if "std" in values else values.get("rmsd")
        if target in normalizers:
            raise ValueError(f"the checkpoint has two normalisers for {target!r}")
        mean, rmsd = _number(values["mean"], key), _number(scale, key)
        if not rmsd > 0:
            raise ValueError(f"normaliser {key!r} has the scale {rmsd}, which is not positive")
        normalizers[target] = mean, rmsd
    return normalizers


def read_element_references(stored: Mapping[str, Any] | None) -> dict[str, torch.Tensor]:
    """Element references of a checkpoint: {target: [elements] eV, in double}.

    NaN for elements that the fit had no data of, where fairchem-core 1 kept 0.0.

    Raises:
        ValueError: no list of numbers.
    """
    references = {}
    for target, values in (stored or {}).items():
        tensor = values.get("element_references") if isinstance(values, Mapping) else None
        if not isinstance(tensor, torch.Tensor) or tensor.ndim != 1:
            raise ValueError(f"element references of {target!r} are no list of numbers")
        references[target] = references_or_nan(tensor.double())
    return references


def make_tasks(
    heads: Mapping[str, Head],
    normalizers: Mapping[str, tuple[float, float]],
    references: Mapping[str, torch.Tensor],
    dataset: str,
) -> tuple[TaskRecord, ...]:
    """fairchem's tasks, one per head.

    Args:
        heads: from `translate_heads`.
        normalizers: from `read_normalizers`.
        references: {output: [elements] eV}.
        dataset: name that `FAIRChemCalculator` knows as ``task_name``.

    Raises:
        ValueError: a normaliser or references that no head uses.
    """
    scaled = {
        name for head in heads.values() for name in (head.normalizer, *head.inner_normalizers)
    }
    for target in normalizers:
        if target not in scaled:
            raise ValueError(f"the checkpoint has a normaliser for {target!r}, which no head uses")
    outputs = {head.output for head in heads.values() if head.dim == (1,)}
    for target in references:
        if target not in outputs:
            raise ValueError(f"element references for {target!r}, which no scalar head returns")
    tasks = []
    for name, head in heads.items():
        mean, rmsd = normalizers.get(head.normalizer, (0.0, 1.0))
        # The noise is for training only; no data set has it.
        datasets = () if head.output == "noise_forces" else (dataset,)
        level, dim, known = head.level, head.dim, head.output in references
        tasks.append(
            TaskRecord(name, level, head.output, dim, "float32", datasets, mean, rmsd, known)
        )
    return tuple(tasks)


def _number(value: Any, key: str) -> float:
    tensor = torch.as_tensor(value) if isinstance(value, (int, float, torch.Tensor)) else None
    if tensor is None or tensor.numel() != 1 or not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"normaliser {key!r} must be one finite number, got {value!r}")
    return float(tensor)
