"""From converted weights to a checked file: the model, one prediction, and its metadata."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import hydra
import numpy as np
import torch
from ase import Atoms
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch
from fairchem.core.units.mlip_unit.mlip_unit import Task

from eqv2_plugin.checkpoints.record import (
    NativeHeader,
    NativeModel,
    as_checkpoint,
    check_weights,
)
from eqv2_plugin.common.files import atomic_write
from eqv2_plugin.common.hashing import file_sha256, state_sha256
from eqv2_plugin.models.hydra import EquiformerV2
from eqv2_plugin.models.known_elements import elements_with_references
from eqv2_plugin.models.metadata import UNITS, ModelMetadata
from eqv2_plugin.version import __version__

# Of the forward check: Cu, O, C, H where the model knows them; else elements that it does know.
_PREFERRED = (29, 8, 6, 1)


@dataclass(frozen=True)
class Written:
    """What lies in the new file."""

    metadata: ModelMetadata
    parameters: int  # their number
    checked: dict[str, torch.Tensor]  # {task: prediction} of the forward check


def refuse_target(target: Path) -> None:
    """Raises FileExistsError or FileNotFoundError where no file can be written."""
    if target.exists():
        raise FileExistsError(f"{target} exists; remove it, or name another file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} for the converted file")


def write_converted(
    content: NativeModel, metadata: ModelMetadata, source: Path, target: Path
) -> Written:
    """Build the model, check a prediction with it, and write fairchem's inference checkpoint.

    Args:
        content: configuration, tasks, weights (of any precision) and references.
        metadata: to which units, hashes and the version are added.
        source: the file that was converted.
        target: the new one.

    Raises:
        ValueError: weights that do not fit, or a prediction that is not finite.
    """
    model = build(content)
    tasks = content.header.tasks
    state = model.state_dict()
    metadata = dataclasses.replace(
        metadata,
        units={task.name: UNITS.get(task.property, "unknown") for task in tasks},
        source_file=source.name,
        source_sha256=file_sha256(source),
        weights_sha256=state_sha256(state),
        converter_version=__version__,
    )
    header = NativeHeader({**content.header.model, "facts": metadata.to_dict()}, tasks)
    converted = as_checkpoint(NativeModel(header, state, content.references))
    checked = check_forward(model, [hydra.utils.instantiate(t) for t in converted.tasks_config])
    with atomic_write(target) as building, building.open("wb") as file:
        torch.save(converted, file)
    return Written(metadata, sum(parameter.numel() for parameter in model.parameters()), checked)


def build(content: NativeModel) -> EquiformerV2:
    """The model with the file's weights, in float32."""
    check_weights(content.weights, content.header.model, exact_types=False)
    options = {key: value for key, value in content.header.model.items() if key != "_target_"}
    model = EquiformerV2(**options)
    # The tensors of the mapped file itself, not copies: large models fit twice, not thrice.
    state = {name: value.to(torch.float32) for name, value in content.weights.items()}
    model.load_state_dict(state, strict=True, assign=True)
    return model


def check_forward(model: EquiformerV2, tasks: list[Task]) -> dict[str, torch.Tensor]:
    """{task: prediction in its unit} for one small structure; the noise head is silent here.

    Raises:
        ValueError: something is not finite, or no element is known.
    """
    used = [task for task in tasks if task.datasets]
    atoms = _structure(elements_with_references(used, model.backbone.config.max_num_elements))
    batch = atomicdata_list_to_batch([AtomicData.from_ase(atoms, task_name="check")])
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


def _structure(known: np.ndarray) -> Atoms:
    """Four atoms in a periodic cell, of elements that are known: [elements]."""
    others = np.flatnonzero(known)
    if len(others) == 0:
        raise ValueError("the element references hold no finite number for any element")
    numbers = [
        z if z < len(known) and known[z] else int(others[i % len(others)])
        for i, z in enumerate(_PREFERRED)
    ]
    positions = [[0.1, 0.2, 0.0], [1.9, 0.1, 0.3], [2.7, 1.2, 0.2], [2.4, 2.0, 1.0]]
    return Atoms(numbers, positions=positions, cell=[5.2, 5.4, 6.1], pbc=True)
