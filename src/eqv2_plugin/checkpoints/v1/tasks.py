"""Normalisers and element references of fairchem-core 1 as fairchem 2's tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from eqv2_plugin.checkpoints.v1.heads import Head
from eqv2_plugin.models.known_elements import references_or_nan

_UNIT = "fairchem.core.units.mlip_unit.mlip_unit"
_NORMALIZATION = "fairchem.core.modules.normalization"
_OCP_TARGETS = {"target": "energy", "grad_target": "forces"}


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


def read_element_references(stored: Mapping[str, Any] | None) -> dict[str, list[float]]:
    """Element references of a checkpoint: {target: [eV, index = atomic number]}.

    NaN for elements that the fit had no data of, where fairchem-core 1 kept 0.0.

    Raises:
        ValueError: no list of numbers.
    """
    references = {}
    for target, values in (stored or {}).items():
        tensor = values.get("element_references") if isinstance(values, Mapping) else None
        if not isinstance(tensor, torch.Tensor) or tensor.ndim != 1:
            raise ValueError(f"element references of {target!r} are no list of numbers")
        references[target] = references_or_nan(tensor.double()).tolist()
    return references


def scaled_references(energy_lin_ref: torch.Tensor, rmsd: float) -> list[float]:
    """References in eV of a model that holds them in units of the energy's normaliser."""
    return references_or_nan(energy_lin_ref.double() * rmsd).tolist()


def make_tasks(
    heads: Mapping[str, Head],
    normalizers: Mapping[str, tuple[float, float]],
    references: Mapping[str, list[float]],
    dataset: str,
) -> list[dict[str, Any]]:
    """Configs of fairchem's tasks, one per head.

    Args:
        heads: from `translate_heads`.
        normalizers: from `read_normalizers`.
        references: {output: [eV]}.
        dataset: name that `FAIRChemCalculator` knows as ``task_name``.

    Raises:
        ValueError: a normaliser or references that no head uses.
    """
    _refuse_unused(heads, normalizers, references)
    tasks = []
    for name, head in heads.items():
        mean, rmsd = normalizers.get(head.normalizer, (0.0, 1.0))
        tasks.append(
            {
                "_target_": f"{_UNIT}.Task",
                "name": name,
                "level": head.level,
                "property": head.output,
                "out_spec": {
                    "_target_": f"{_UNIT}.OutputSpec",
                    "dim": head.dim,
                    "dtype": "float32",
                },
                "normalizer": {
                    "_target_": f"{_NORMALIZATION}.normalizer.Normalizer",
                    "mean": mean,
                    "rmsd": rmsd,
                },
                "element_references": _references(references.get(head.output)),
                # The noise is for training only; no data set has it.
                "datasets": [] if head.output == "noise_forces" else [dataset],
            }
        )
    return tasks


def _references(values: list[float] | None) -> dict[str, Any] | None:
    if values is None:
        return None
    tensor = {"_target_": "torch.tensor", "_convert_": "all", "data": values}
    target = f"{_NORMALIZATION}.element_references.ElementReferences"
    return {"_target_": target, "element_references": tensor}


def _refuse_unused(
    heads: Mapping[str, Head],
    normalizers: Mapping[str, Any],
    references: Mapping[str, Any],
) -> None:
    scaled: set[str] = set()
    for head in heads.values():
        scaled |= {head.normalizer, *head.inner_normalizers}
    for target in normalizers:
        if target not in scaled:
            raise ValueError(f"the checkpoint has a normaliser for {target!r}, which no head uses")
    outputs = {head.output for head in heads.values() if head.dim == [1]}
    for target in references:
        if target not in outputs:
            raise ValueError(f"element references for {target!r}, which no scalar head returns")


def _number(value: Any, key: str) -> float:
    tensor = torch.as_tensor(value) if isinstance(value, (int, float, torch.Tensor)) else None
    if tensor is None or tensor.numel() != 1 or not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"normaliser {key!r} must be one finite number, got {value!r}")
    return float(tensor)
