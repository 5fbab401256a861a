"""Small structures, tiny models and rotations that the tests share."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import fcc111
from ase.build import molecule as ase_molecule
from e3nn import o3
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch
from fairchem.core.launchers.api import DeviceType, JobConfig, SchedulerConfig, SchedulerType
from omegaconf import DictConfig, OmegaConf

from eqv2_plugin.backbones.equiformer_v2.config import EquiformerV2Config
from eqv2_plugin.models.hydra import EquiformerV2

BACKBONE = "eqv2_plugin.backbones.equiformer_v2.backbone.EquiformerV2Backbone"
V1 = "eqv2_plugin.backbones.equiformer_v1.backbone.EquiformerV1Backbone"
TOY = "toy_backbone.ToyBackbone"
ENERGY = {"module": "eqv2_plugin.heads.energy.EnergyHead"}
FORCES = {"module": "eqv2_plugin.heads.forces.ForceHead"}
STRESS = {"module": "eqv2_plugin.heads.stress.StressHead"}
CONSERVATIVE = {"module": "eqv2_plugin.heads.conservative.ConservativeHead"}
DIRECT_HEADS = {"energy": ENERGY, "forces": FORCES}

TINY = {
    "cutoff": 4.0,
    "max_neighbors": 30,
    "max_num_elements": 84,
    "lmax": 2,
    "mmax": 2,
    "grid_resolution": 18,
    "num_layers": 2,
    "sphere_channels": 8,
    "attn_hidden_channels": 6,
    "num_heads": 2,
    "attn_alpha_channels": 4,
    "attn_value_channels": 3,
    "ffn_hidden_channels": 10,
    "edge_channels": 5,
    "num_distance_basis": 12,
    "avg_num_nodes": 10.0,
    "avg_degree": 12.0,
}
GATE = {"activation": "gate", "use_grid_mlp": False}
# Every kind of activation with every function F of the feed-forward network.
ACTIVATIONS = {
    "gate": GATE,
    "s2": {"activation": "s2", "use_grid_mlp": False},
    "s2_grid_mlp": {"activation": "s2", "use_grid_mlp": True},
    "sep_s2": {"activation": "sep_s2", "use_grid_mlp": False},
    "sep_s2_grid_mlp": {"activation": "sep_s2", "use_grid_mlp": True},
}
TINY_V1 = {
    "cutoff": 4.0,
    "max_neighbors": 30,
    "max_num_elements": 84,
    "direct_forces": True,
    "irreps_node": "8x0e+6x1e+4x2e",
    "irreps_feature": "10x0e+5x1e+3x2e",
    "irreps_head": "4x0e+3x1e+2x2e",
    "num_heads": 2,
    "irreps_ffn": "9x0e+7x1e+5x2e",
    "num_layers": 2,
    "edge_channels": 5,
    "num_distance_basis": 12,
    "avg_num_nodes": 10.0,
    "avg_degree": 12.0,
}
SIZES = {
    BACKBONE: TINY,
    V1: TINY_V1,
    TOY: {"cutoff": 4.0, "max_neighbors": 30, "max_num_elements": 84, "avg_num_nodes": 10.0},
}
# Every registered backbone, in the variants that matter.
BACKBONES = {**{k: {"backbone": BACKBONE, **v} for k, v in ACTIVATIONS.items()},
             "v1": {"backbone": V1}, "toy": {"backbone": TOY}}  # fmt: skip
# Backbones whose node features are not one tensor for all degrees.
WITHOUT_STRESS_HEAD = {V1, TOY}
backbones = pytest.mark.parametrize("options", BACKBONES.values(), ids=BACKBONES)
periodicities = pytest.mark.parametrize(
    "pbc", list(itertools.product([False, True], repeat=3)), ids=str
)
# Those that are equivariant up to rounding: S2 grids of the usual size are not.
EXACT = {
    "gate": {"backbone": BACKBONE, **GATE, "lmax": 3},
    "sep_s2": {"backbone": BACKBONE, "grid_resolution": 40},
    "v1": {
        "backbone": V1,
        "irreps_node": "8x0e+6x1e+4x2e+3x3e",
        "irreps_feature": "10x0e+5x1e+3x2e+2x3e",
        "irreps_head": "4x0e+3x1e+2x2e+1x3e",
        "irreps_ffn": "9x0e+7x1e+5x2e+4x3e",
    },
    "toy": {"backbone": TOY},
}

activations = pytest.mark.parametrize("options", ACTIVATIONS.values(), ids=ACTIVATIONS)

# Edges per target. Atoms without edges lie at the start, side by side, and at the end.
EVERY_ATOM = [3, 1, 5, 2, 8, 4]
SOME_ISOLATED = [0, 3, 0, 0, 5, 1, 0]
graphs = pytest.mark.parametrize("counts", [EVERY_ATOM, SOME_ISOLATED], ids=["all", "isolated"])


def targets_of(counts: list[int]) -> torch.Tensor:
    """The target of every edge, from the edges per target."""
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def tiny_config(**changes) -> EquiformerV2Config:
    return EquiformerV2Config.from_options({**TINY, **changes})


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64).to(dtype)


def randomise(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Move every parameter, so that none is left at zero, one or a tiny start value."""
    source = generator(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=source, dtype=torch.float64)
            parameter.add_(0.2 * noise)
    return module


def tiny_model(
    heads: dict | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    backbone: str = BACKBONE,
    **options,
) -> EquiformerV2:
    """A tiny model in evaluation mode whose parameters are all random."""
    torch.manual_seed(seed)
    model = EquiformerV2(
        backbone={"model": backbone, **SIZES[backbone], **options},
        heads=DIRECT_HEADS if heads is None else heads,
        pass_through_head_outputs=True,
    )
    return randomise(model, seed).to(dtype).eval()


def conservative_model(stress: bool = True, **options) -> EquiformerV2:
    changes = {"direct_forces": False, "regress_stress": stress, **options}
    return tiny_model({"head": CONSERVATIVE}, **changes)


def batch_of(*structures: Atoms, dtype: torch.dtype = torch.float64) -> AtomicData:
    """The batch that fairchem would hand to the model, but exactly as the atoms are.

    ``from_ase`` would wrap positions into the cell and complete missing cell vectors.
    """
    return atomicdata_list_to_batch([_unwrapped(atoms, dtype) for atoms in structures])


def _unwrapped(atoms: Atoms, dtype: torch.dtype) -> AtomicData:
    boxed = atoms.copy()
    if atoms.cell.rank < 3:
        boxed.set_cell(atoms.cell.complete())
    data = AtomicData.from_ase(boxed, task_name="oc20", target_dtype=dtype)
    data.pos = torch.tensor(atoms.positions, dtype=dtype)
    data.cell = torch.tensor(np.array(atoms.cell), dtype=dtype).view(1, 3, 3)
    return data


def hessian_by_differences(forces: Callable[[Atoms], np.ndarray], atoms: Atoms) -> np.ndarray:
    """[3 atoms, 3 atoms] eV/Å^2, from central differences of the forces (eV/Å)."""
    columns, step = [], 1e-5
    for i in range(3 * len(atoms)):
        near, far = atoms.copy(), atoms.copy()
        near.positions.flat[i] -= step
        far.positions.flat[i] += step
        columns.append((forces(near) - forces(far)).ravel() / (2 * step))
    return np.array(columns)


def predict(model: EquiformerV2, *structures: Atoms) -> dict[str, torch.Tensor]:
    """Outputs for these structures in the dtype of the model, detached."""
    dtype = next(model.parameters()).dtype
    outputs = model(batch_of(*structures, dtype=dtype))
    return {name: value.detach() for name, value in flatten(outputs).items()}


def flatten(outputs: dict) -> dict[str, torch.Tensor]:
    """A conservative head returns {"energy": {"energy": ...}, ...}, the others {"energy": ...}."""
    return {k: v[k] if isinstance(v, dict) else v for k, v in outputs.items()}


def job_config(folder: Path, job: int = 0, jobs: int = 1, mode: str = "SLURM") -> DictConfig:
    """What fairchem tells a runner; results go to ``folder/run/results``."""
    config = OmegaConf.structured(
        JobConfig(
            run_name="test",
            run_dir=str(folder),
            timestamp_id="run",
            device_type=DeviceType.CPU,
            scheduler=SchedulerConfig(mode=SchedulerType[mode], num_array_jobs=jobs),
        )
    )
    config.metadata.array_job_num = job
    return config


def molecule(seed: int = 0) -> Atoms:
    atoms = ase_molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=seed)
    return atoms


def boxed_molecule() -> Atoms:
    """Periodic, so that it has a stress, in a box in which it does not see its images."""
    atoms = molecule()
    atoms.set_cell([9.0, 10.0, 11.0])
    atoms.pbc = True
    return atoms


def slab(seed: int = 1) -> Atoms:
    """A periodic slab with an adsorbate, away from any symmetry."""
    atoms = fcc111("Cu", size=(2, 2, 2), a=3.7, vacuum=6.0, periodic=True)
    atoms += Atoms("CO", positions=atoms.positions[-1] + np.array([[0.3, 0.2, 1.8], [0.5, 0.1, 3]]))
    atoms.rattle(0.12, seed=seed)
    return atoms


def crystal(seed: int = 2) -> Atoms:
    """Four atoms in a skew cell that is smaller than the cutoff."""
    cell = np.array([[3.9, 0.1, 0.2], [0.6, 3.7, -0.1], [-0.4, 0.3, 4.1]])
    scaled = np.array([[0.02, 0.05, 0.0], [0.5, 0.48, 0.03], [0.47, 0.04, 0.51], [0.03, 0.5, 0.45]])
    atoms = Atoms("NaClKO", scaled_positions=scaled, cell=cell, pbc=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def random_rotation(seed: int) -> torch.Tensor:
    q, r = torch.linalg.qr(randn(seed, 3, 3))
    q = q * torch.sign(torch.diagonal(r))
    return q * torch.linalg.det(q)


def rotated(atoms: Atoms, rotation: torch.Tensor) -> Atoms:
    """The structure with positions and cell rotated."""
    result = atoms.copy()
    result.positions = atoms.positions @ rotation.numpy().T
    result.set_cell(np.array(atoms.cell) @ rotation.numpy().T)
    return result


def node_wigner(rotation: torch.Tensor, lmax: int) -> torch.Tensor:
    """D with Y(R v) = D Y(v) for all degrees up to ``lmax``, fitted to e3nn's harmonics."""
    points = randn(99, 4 * (lmax + 1) ** 2, 3)
    before = o3.spherical_harmonics(list(range(lmax + 1)), points, normalize=True)
    after = o3.spherical_harmonics(list(range(lmax + 1)), points @ rotation.T, normalize=True)
    return torch.linalg.lstsq(before, after).solution.T


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Writes beyond ``size`` bytes fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def largest(tensor: torch.Tensor) -> float:
    return float(tensor.detach().abs().max())


def relative_error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return largest(ours - reference) / largest(reference)
