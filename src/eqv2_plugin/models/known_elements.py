"""Which elements a model knows: embedded, and with a reference in every task that has some.

An element that the data of a fit of references lacked has no reference. fairchem-core 1 left 0.0
for it, which gives energies that look like others and lack these atoms' share. Here it is NaN.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase.data import chemical_symbols

from eqv2_plugin.common.text import warn_once

if TYPE_CHECKING:
    from fairchem.core.units.mlip_unit.mlip_unit import Task

# eV. Below it a coefficient is what a fit leaves for an element without data.
_NOTHING = 1e-6


def references_or_nan(values: torch.Tensor) -> torch.Tensor:
    """References ([elements] eV, index = atomic number) with NaN for the elements that have none.

    0.0 beside references that are not means "not fitted"; where all are 0.0, nothing is to be
    added, and 0.0 is true. ``values`` themselves are returned where nothing differs.
    """
    unfitted = values.abs() < _NOTHING
    if not bool((values.abs() >= _NOTHING).any()):
        return values
    # There is no element 0.
    unfitted[:1] = False
    return values.masked_fill(unfitted, float("nan")) if bool(unfitted.any()) else values


def elements_with_references(tasks: Iterable[Task], max_num_elements: int) -> np.ndarray:
    """[max_num_elements] True where a model with the tasks of one data set knows the element."""
    known = np.ones(max_num_elements, bool)
    known[0] = False
    for task in tasks:
        if task.element_references is not None:
            values = references_or_nan(task.element_references.element_references)
            finite = torch.isfinite(values).cpu().numpy()[:max_num_elements]
            known[: len(finite)] &= finite
            known[len(finite) :] = False
    return known


def without_reference(numbers: np.ndarray, known: np.ndarray) -> str:
    """Symbols of the embedded elements among [atoms] that have no reference; "" if all have."""
    lacking = {int(z) for z in numbers if z < len(known) and not known[z]}
    return ", ".join(chemical_symbols[z] for z in sorted(lacking))


def refuse_without_reference(numbers: np.ndarray, known: np.ndarray) -> None:
    """Raises ValueError for an element among [atoms] that is not one of the known."""
    if not known[numbers].all():
        raise ValueError(
            f"the model has no element reference for {without_reference(numbers, known)}, which "
            "the structure contains: its energy would lack the share of these atoms. References "
            f"are there for {_listed(known)}"
        )


def mark_unfitted(tasks: Iterable[Task]) -> None:
    """Put NaN where a task's references hold 0.0 for elements without data, and say so once.

    So that files of before this package wrote NaN predict no energies for such elements,
    whichever way the model is called.
    """
    for task in tasks:
        if task.element_references is None:
            continue
        before = task.element_references.element_references
        after = references_or_nan(before)
        if after is before:
            continue
        task.element_references.element_references = after
        known = torch.isfinite(after).cpu().numpy()
        warn_once(
            f"the element references of task {task.name!r} hold 0.0 for "
            f"{int((~known[1:]).sum())} elements, which were not in the data of their fit: "
            f"energies are predicted for structures of {_listed(known)} alone"
        )


def _listed(known: np.ndarray) -> str:
    symbols = [chemical_symbols[z] for z in np.flatnonzero(known[: len(chemical_symbols)]) if z]
    if len(symbols) > 20:
        return f"{len(symbols)} elements (eqv2 info FILE --json lists them)"
    return ", ".join(symbols) if symbols else "no element"
