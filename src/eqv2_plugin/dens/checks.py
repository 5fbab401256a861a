"""What DeNS needs, checked before the first step, and labels of every batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.datasets.mt_concat_dataset import ConcatDataset
from fairchem.core.units.mlip_unit.mlip_unit import Task

from eqv2_plugin.common.findings import Verdict
from eqv2_plugin.common.naming import atom_names, structure_name
from eqv2_plugin.data.datasets import evenly_spaced
from eqv2_plugin.data.inspection.forces import ForceCheck
from eqv2_plugin.data.inspection.frames import frame_of_data
from eqv2_plugin.dens.config import DenoisingConfig
from eqv2_plugin.dens.corruption import NOISE_TARGET
from eqv2_plugin.dens.losses import DenoisingLoss


def check_denoising_tasks(
    tasks: Sequence[Task], model: torch.nn.Module, config: DenoisingConfig
) -> None:
    """Raise a ValueError where the recipe cannot train DeNS."""
    by_name = {task.name: task for task in tasks}
    for name in ("energy", "forces", NOISE_TARGET):
        if name not in by_name:
            several = len({one for task in tasks for one in task.datasets}) > 1
            hint = ". Data sets with tasks of their own are trained without DeNS" if several else ""
            raise ValueError(
                f"DeNS needs the tasks energy, forces and {NOISE_TARGET}; {name!r} is missing "
                f"(tasks: {sorted(by_name)}){hint}"
            )
        if not isinstance(by_name[name].loss_fn, DenoisingLoss):
            raise ValueError(
                f"with DeNS the loss of task {name!r} must be eqv2_plugin.dens.losses.DenoisingLoss"
            )
    if NOISE_TARGET not in model.output_heads:
        raise ValueError(
            f"DeNS needs a head {NOISE_TARGET!r} (eqv2_plugin.heads.forces.NoiseHead); "
            f"heads: {sorted(model.output_heads)}"
        )
    if not model.backbone.config.force_encoding:
        raise ValueError("DeNS needs force_encoding=true on the backbone")
    if config.sigma_low is not None and not model.backbone.config.sigma_encoding:
        raise ValueError(
            "with sigma_low each structure has a sigma of its own, which the model must be told: "
            "set model.backbone.sigma_encoding=true"
        )


def check_denoising_data(datasets: ConcatDataset, config: DenoisingConfig) -> None:
    """What can be known before the first step of up to 1000 training frames of each split.

    Raises:
        ValueError: an excluded split that does not exist, LMDB records that do not say which
            atoms are fixed, a missing label, one that is not finite, or forces in another unit.
    """
    splits = [name.partition(".")[2] for name in datasets.dataset_names]
    if unknown := sorted(set(config.exclude_splits) - set(splits)):
        raise ValueError(
            f"exclude_splits names {unknown}, but the splits of the training data are {splits}"
        )
    for name, dataset in zip(datasets.dataset_names, datasets.datasets, strict=True):
        reader = dataset.dataset
        # Of this package's reader of LMDB files; ASE's say it by their constraints.
        if hasattr(reader, "record") and not reader.record(0).has_fixed:
            raise ValueError(
                f"the records of {name} have no 'fixed', and DeNS corrupts free atoms only: write "
                "it (1 for fixed atoms, else 0) where the data was made; zeros if no atom is fixed"
            )
        sizes = ForceCheck()
        for index, frame in evenly_spaced(dataset):
            row = int(dataset.indices[index])  # fairchem shuffles the rows of a split
            check_denoising_batch(frame, f"row {row} of {name}")
            sizes.add(frame_of_data(frame, row))
        for found in sizes.findings():
            if found.check == "forces" and found.verdict is Verdict.BAD:
                raise ValueError(f"the labels of {name}: {found.text}. Training needs eV and eV/Å")


def check_denoising_batch(data: AtomicData, source: str = "the batch") -> None:
    """Raise a ValueError where labels are missing or not finite; ``source`` says of what."""
    for field in ("forces", "energy", "fixed"):
        if field not in data:
            raise ValueError(f"the training data has no {field!r}, which DeNS needs")
    known = torch.isfinite(data.energy).view(-1)
    if not bool(known.all()):
        what = f"the energy of {structure_name(data, int((~known).nonzero()[0]))}"
    else:
        finite = torch.isfinite(data.forces).all(dim=1)
        if bool(finite.all()):
            return
        what = f"the force on {atom_names(data, int((~finite).nonzero()[0]))}"
    raise ValueError(f"{what} of {source} is not finite: fix or remove this structure")
