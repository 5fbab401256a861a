"""Labelled batches, corruptions made by hand and tasks that the DeNS tests share."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from ase import Atoms
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.modules.normalization.normalizer import Normalizer
from fairchem.core.units.mlip_unit.mlip_unit import OutputSpec, Task, compute_loss
from helpers import batch_of, generator, randn

from eqv2_plugin.dens.config import DenoisingConfig
from eqv2_plugin.dens.corruption import Corruption, corrupt_batch, draw_corruption
from eqv2_plugin.dens.losses import DenoisingLoss

NORMALIZERS = {"energy": (-0.75, 2.5), "forces": (0.0, 1.7), "noise_forces": (0.0, 1.0)}
# Of tests of statistics, whose seeds are fixed.
SIGNIFICANCE = 1e-3
COEFFICIENTS = {"energy": 2.0, "forces": 100.0, "noise_forces": 10.0}
SCENARIOS = [
    "random", "one structure", "one atom each", "excluded structures", "single corrupted atom",
    "all atoms corrupted", "no atom corrupted", "fully fixed structure", "nothing free",
]  # fmt: skip
NORMALIZATIONS = ["per_structure", "per_batch", "per_task"]


def config(**changes) -> DenoisingConfig:
    options = {"probability": 0.5, "corruption_ratio": 0.5, "sigma": 0.1, "coefficient": 10.0}
    return DenoisingConfig.from_options({**options, **changes})


def labelled_batch(
    sizes: Sequence[int],
    fixed: torch.Tensor | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> AtomicData:
    """Random structures of these numbers of atoms with random labels."""
    structures = []
    for index, size in enumerate(sizes):
        positions = 2.0 + 6.0 * torch.rand(size, 3, generator=generator(1000 * seed + index))
        structures.append(Atoms("H" * size, positions.numpy(), cell=[10, 10, 10], pbc=True))
    data = batch_of(*structures, dtype=dtype)
    count = sum(sizes)
    data.forces = 2.0 * randn(seed + 1, count, 3, dtype=dtype)
    data.energy = 3.0 * randn(seed + 2, len(sizes), dtype=dtype)
    data.fixed = torch.zeros(count, dtype=torch.long) if fixed is None else fixed.long()
    data.sid = [f"frame {index}" for index in range(len(sizes))]
    data.dataset_name = ["oc20"] * len(sizes)
    return data


def draw(sizes, seed=0, free=None, forces=None, excluded=None, **options) -> Corruption:
    """For structures of these sizes; ``excluded``: those of a split that is never corrupted."""
    natoms = torch.as_tensor(sizes)
    count = int(natoms.sum())
    free = torch.ones(count, dtype=torch.bool) if free is None else free
    excluded = [False] * len(natoms) if excluded is None else excluded
    data = SimpleNamespace(
        batch=torch.repeat_interleave(natoms),
        natoms=natoms,
        fixed=(~free).long(),
        forces=randn(17, count, 3) if forces is None else forces,
        dataset_name=["oc20.md" if flag else "oc20.train" for flag in excluded],
    )
    return draw_corruption(config(exclude_splits=["md"], **options), data, generator(seed))


def corruption_of(
    data: AtomicData, structures: torch.Tensor, atoms: torch.Tensor, seed: int = 0
) -> Corruption:
    """These structures and atoms (where free), with random noise and a sigma per structure."""
    atoms = atoms & structures[data.batch] & (data.fixed == 0)
    sigma = 0.05 + 0.2 * torch.rand(len(structures), generator=generator(seed + 3)).double()
    noise = randn(seed + 4, len(atoms), 3) * atoms.unsqueeze(1)
    return Corruption(structures, atoms, noise, (sigma * structures)[data.batch])


def tasks(
    normalization: str = "per_structure",
    coefficients: dict[str, float] = COEFFICIENTS,
    normalizers: dict[str, tuple[float, float]] = NORMALIZERS,
) -> list[Task]:
    """The tasks of the recipe, with normalisers in float64."""
    return [
        Task(
            name=name,
            level="system" if name == "energy" else "atom",
            property=name,
            out_spec=OutputSpec(dim=[1 if name == "energy" else 3], dtype="float64"),
            normalizer=Normalizer(*torch.tensor(normalizers[name], dtype=torch.float64)),
            datasets=["oc20"],
            loss_fn=DenoisingLoss(
                coefficients[name], normalization, "system" if name == "energy" else "atom"
            ),
        )
        for name in NORMALIZERS
    ]


def random_predictions(data: AtomicData, seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """Leaves that want gradients, in the nested form of fairchem's models."""
    shapes = {"energy": (len(data.natoms), 1), "forces": data.pos.shape}
    shapes["noise_forces"] = data.pos.shape
    return {
        name: {name: randn(seed + 5 + index, *shape).requires_grad_()}
        for index, (name, shape) in enumerate(shapes.items())
    }


def scenario(name: str, seed: int):
    """A labelled batch and what was drawn for it."""
    source = generator(100 + seed)
    number = 1 if name == "one structure" else int(torch.randint(1, 6, (1,), generator=source))
    sizes = torch.randint(1, 2 if name == "one atom each" else 9, (number,), generator=source)
    count = int(sizes.sum())
    fixed = torch.rand(count, generator=source) < 0.3
    structures = torch.rand(number, generator=source) < 0.6
    atoms = torch.rand(count, generator=source) < 0.5
    if name == "excluded structures":
        structures[::2] = False
    if name == "single corrupted atom":
        fixed[0], structures[:], atoms[:] = False, True, False
        atoms[0] = True
    if name == "all atoms corrupted":
        fixed[:], structures[:], atoms[:] = False, True, True
    if name == "no atom corrupted":
        atoms[:] = False
    if name == "fully fixed structure":
        fixed[: int(sizes[0])], structures[0] = True, True
    if name == "nothing free":
        fixed[:] = True
    data = labelled_batch(sizes.tolist(), fixed, seed)
    return data, corruption_of(data, structures, atoms, seed)


def losses_of(data, corruption, predictions, normalization="per_structure", **options):
    corrupted = corrupt_batch(data, corruption, config(**options))
    return compute_loss(tasks(normalization), predictions, corrupted)
