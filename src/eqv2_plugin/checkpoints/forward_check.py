"""One prediction on a small structure: is what comes out finite?"""

from __future__ import annotations

import torch
from ase import Atoms
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch
from fairchem.core.units.mlip_unit.mlip_unit import Task

from eqv2_plugin.model import EquiformerV2

# Cu, O, C, H where the model knows them; else the elements that it does know.
_PREFERRED = (29, 8, 6, 1)


def built_in_structure(max_num_elements: int) -> Atoms:
    """Four atoms in a periodic cell, of elements below ``max_num_elements``."""
    numbers = [z if z < max_num_elements else 1 for z in _PREFERRED]
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
    atoms = built_in_structure(model.backbone.config.max_num_elements)
    data = AtomicData.from_ase(atoms, task_name="check")
    batch = atomicdata_list_to_batch([data])
    with torch.no_grad():
        outputs = model.eval()(batch)
    found = {}
    for task in tasks:
        if not task.datasets:
            continue
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
