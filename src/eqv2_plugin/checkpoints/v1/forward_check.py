"""One prediction on a small structure: is what comes out finite?"""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch
from fairchem.core.units.mlip_unit.mlip_unit import Task

from eqv2_plugin.models.hydra import EquiformerV2
from eqv2_plugin.models.known_elements import elements_with_references

# Cu, O, C, H where the model knows them; else elements that it does know.
_PREFERRED = (29, 8, 6, 1)


def built_in_structure(known: np.ndarray) -> Atoms:
    """Four atoms in a periodic cell.

    Args:
        known: [elements] from `elements_with_references`.

    Raises:
        ValueError: no element is known.
    """
    others = np.flatnonzero(known)
    if len(others) == 0:
        raise ValueError("the element references hold no finite number for any element")
    numbers = [
        z if z < len(known) and known[z] else int(others[i % len(others)])
        for i, z in enumerate(_PREFERRED)
    ]
    positions = [[0.1, 0.2, 0.0], [1.9, 0.1, 0.3], [2.7, 1.2, 0.2], [2.4, 2.0, 1.0]]
    return Atoms(numbers, positions=positions, cell=[5.2, 5.4, 6.1], pbc=True)


def check_forward(model: EquiformerV2, tasks: list[Task]) -> dict[str, torch.Tensor]:
    """Predict for `built_in_structure`.

    Args:
        model: with its weights.
        tasks: instantiated tasks, named as the heads.

    Returns:
        {task: values in its unit}, without the noise head, which is silent here.

    Raises:
        ValueError: something is not finite.
    """
    used = [task for task in tasks if task.datasets]
    known = elements_with_references(used, model.backbone.config.max_num_elements)
    atoms = built_in_structure(known)
    data = AtomicData.from_ase(atoms, task_name="check")
    batch = atomicdata_list_to_batch([data])
    with torch.no_grad():
        outputs = model.eval()(batch)
    found = {}
    for task in used:
        value = task.normalizer.denorm(outputs[task.name][task.property])
        if task.element_references is not None:
            value = task.element_references.undo_refs(batch, value)
        if not torch.isfinite(value).all():
            raise ValueError(
                f"the converted model's {task.name} are not finite for a small structure of "
                f"{atoms.get_chemical_formula()}: the weights or references hold NaN or infinity"
            )
        found[task.name] = value
    return found
