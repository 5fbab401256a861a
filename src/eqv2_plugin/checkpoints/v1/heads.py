"""Heads, normalisers and element references of fairchem-core 1 as our heads and their tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from eqv2_plugin.checkpoints.record import TaskRecord
from eqv2_plugin.models.known_elements import references_or_nan

_HEADS = {
    "energy": "eqv2_plugin.heads.energy.EnergyHead",
    "forces": "eqv2_plugin.heads.forces.ForceHead",
    "dens_forces": "eqv2_plugin.heads.forces.ForceHead",
    "noise": "eqv2_plugin.heads.forces.NoiseHead",
    "stress": "eqv2_plugin.heads.stress.StressHead",
    "joined_stress": "eqv2_plugin.heads.joined_stress.JoinedStressHead",
}
# Level and shape of what a kind predicts, as fairchem's tasks state it.
_LABELS: dict[str, tuple[Literal["system", "atom"], tuple[int, ...]]] = {
    "energy": ("system", (1,)),
    "forces": ("atom", (3,)),
    "dens_forces": ("atom", (3,)),
    "stress": ("system", (1, 9)),
}

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


def translate_heads(
    heads: Mapping[str, Mapping[str, Any]],
    normalizers: Mapping[str, tuple[float, float]],
    references: Mapping[str, torch.Tensor],
    dataset: str,
) -> tuple[dict[str, dict[str, Any]], tuple[TaskRecord, ...]]:
    """Our heads for those of a v1 config, and fairchem's tasks, one per head.

    Args:
        heads: {name: {"module": ..., options}}.
        normalizers: from `read_normalizers`; the decomposed stress has two of its own.
        references: {output: [elements] eV}.
        dataset: name that `FAIRChemCalculator` knows as ``task_name``.

    Raises:
        ValueError: an unknown head or option, or a normaliser or references that no head uses.
    """
    made: dict[str, dict[str, Any]] = {}
    tasks: list[TaskRecord] = []
    used: set[str] = set()

    def scale(name: str) -> tuple[float, float]:
        used.add(name)
        return normalizers.get(name, (0.0, 1.0))

    def add_task(name: str, kind: str, output: str, scaled_as: str, *datasets: str) -> None:
        (level, dim), (mean, rmsd) = _LABELS[kind], scale(scaled_as)
        known = kind == "energy" and output in references
        tasks.append(TaskRecord(name, level, output, dim, "float32", datasets, mean, rmsd, known))

    for name, head in heads.items():
        kind, options = _kind_and_options(name, head)
        output = str(options.get("output_name", kind.removeprefix("dens_")))
        made[name] = {"module": _HEADS[kind], **options}
        if kind == "stress" and options.get("decompose", False):
            made[name]["module"] = _HEADS["joined_stress"]
            del made[name]["decompose"]
            for part in ("isotropic", "anisotropic"):
                mean, rmsd = scale(f"{output}_{part}")
                made[name][part] = {"mean": mean, "rmsd": rmsd}
        add_task(name, kind, output, output, dataset)
        if kind == "dens_forces":
            # v1 keeps the noise block in the force head. It is for training; no data set has it.
            made["noise_forces"] = {"module": _HEADS["noise"], "output_name": "noise_forces"}
            add_task("noise_forces", kind, "noise_forces", "denoising_pos_target")
    for target in normalizers:
        if target not in used:
            raise ValueError(f"the checkpoint has a normaliser for {target!r}, which no head uses")
    scalars = {task.property for task in tasks if task.dim == (1,)}
    for target in references:
        if target not in scalars:
            raise ValueError(f"element references for {target!r}, which no scalar head returns")
    return made, tuple(tasks)


def _kind_and_options(name: str, head: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    module = str(head.get("module"))
    kind = _KINDS.get(module.rsplit(".", 1)[-1])
    if kind is None:
        raise ValueError(f"head {name!r}: {module!r} is no head of EquiformerV2 known here")
    unknown = set(head) - _OPTIONS[kind] - _WITHOUT_EFFECT
    if unknown:
        raise ValueError(f"head {name!r}: unknown options {', '.join(sorted(unknown))}")
    return kind, {key: value for key, value in head.items() if key in _OPTIONS[kind]}


def read_normalizers(stored: Mapping[str, Any] | None) -> dict[str, tuple[float, float]]:
    """Means and scales of a checkpoint: {target: (mean, rmsd)}."""
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
    """
    references = {}
    for target, values in (stored or {}).items():
        tensor = values.get("element_references") if isinstance(values, Mapping) else None
        if not isinstance(tensor, torch.Tensor) or tensor.ndim != 1:
            raise ValueError(f"element references of {target!r} are no list of numbers")
        references[target] = references_or_nan(tensor.double())
    return references


def _number(value: Any, key: str) -> float:
    tensor = torch.as_tensor(value) if isinstance(value, (int, float, torch.Tensor)) else None
    if tensor is None or tensor.numel() != 1 or not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"normaliser {key!r} must be one finite number, got {value!r}")
    return float(tensor)
