"""Corrupting a batch: lines 5 to 20 of Algorithm 2, and the targets of both tasks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from fairchem.core.datasets.atomic_data import AtomicData

from eqv2_plugin.backbones.protocol import ENCODED_FORCES, NOISE_SIGMA
from eqv2_plugin.dens.config import DenoisingConfig

NOISE_TARGET = "noise_forces"


@dataclass(frozen=True)
class Corruption:
    """What was drawn for a batch of N atoms in B structures."""

    structures: torch.Tensor  # [B] structures that optimise DeNS
    atoms: torch.Tensor  # [N] corrupted atoms, the m_i of Algorithm 2
    noise: torch.Tensor  # [N, 3] in units of sigma, zero on atoms that are not corrupted
    # [N] standard deviation in Å of all atoms of a corrupted structure, zero of a plain one.
    sigma: torch.Tensor

    @property
    def displacements(self) -> torch.Tensor:
        """[N, 3] in Å, to be added to the positions."""
        return self.noise * self.sigma.unsqueeze(1)

    def to(self, device: torch.device | str) -> Corruption:
        """The same on another device."""
        return Corruption(*(tensor.to(device) for tensor in vars(self).values()))


def draw_corruption(
    config: DenoisingConfig, data: AtomicData, generator: torch.Generator
) -> Corruption:
    """Draw structures, atoms and noise; nothing is read back from the device.

    Every number is drawn for every structure and atom, used or not, so that one decision
    does not shift the random numbers of the next.

    Args:
        config: probabilities, sigma and exclusions.
        data: a labelled batch: ``batch``, ``fixed`` and ``forces`` (eV/Å) of N atoms, ``natoms``
            and ``dataset_name`` ("name.split") of B structures.
        generator: source of all randomness (on the CPU).
    """
    batch, device, num_structures = data.batch, data.batch.device, len(data.natoms)
    structure_draw = torch.rand(num_structures, generator=generator).to(device)
    sigma_draw = torch.rand(num_structures, generator=generator).to(device)
    atom_draw = torch.rand(len(batch), generator=generator).to(device)
    noise = torch.randn(len(batch), 3, generator=generator).to(device, data.forces.dtype)

    free = data.fixed == 0
    structures = (structure_draw < config.probability) & ~_excluded(config, data, free)
    atoms = free & structures[batch] & (atom_draw < config.corruption_ratio)
    if config.max_corrupted_fraction is not None:
        limit = config.max_corrupted_fraction * _counts(data, free).double()
        atoms = _bounded(atoms, atom_draw, data, torch.floor(limit + 1e-9).long())
    sigma = torch.full_like(sigma_draw, config.sigma)
    if config.sigma_low is not None:
        # Log-uniform between sigma_low and sigma.
        sigma = config.sigma_low * (config.sigma / config.sigma_low) ** sigma_draw
    per_atom = (sigma * structures)[batch].to(data.forces.dtype)
    return Corruption(structures, atoms, noise * atoms.unsqueeze(1), per_atom)


def corrupt_batch(data: AtomicData, corruption: Corruption, config: DenoisingConfig) -> AtomicData:
    """A copy of the batch with noise, encoded forces and the targets of both tasks.

    Targets that a task does not have are marked for fairchem's losses and for ours: NaN on
    atoms of the other task, infinity on fixed atoms, which belong to neither (see
    `eqv2_plugin.dens.losses`).

    Args:
        data: a labelled batch with ``pos`` [N, 3] in Å, ``forces`` [N, 3] in eV/Å,
            ``energy`` [B], ``fixed`` [N].
        config: which of the ablations are on.
    """
    corrupted = _copy(data)
    atoms, fixed = corruption.atoms.unsqueeze(1), (data.fixed != 0).unsqueeze(1)
    corrupted.pos = data.pos + corruption.displacements
    zero = torch.zeros_like(data.forces)
    encoded = torch.where(atoms, data.forces, zero) if config.encode_forces else zero
    corrupted[ENCODED_FORCES] = encoded
    corrupted[NOISE_SIGMA] = corruption.sigma
    forces = torch.where(atoms, torch.nan, data.forces)
    corrupted.forces = torch.where(fixed, torch.inf, forces)
    noise = torch.where(atoms, corruption.noise, torch.nan)
    corrupted[NOISE_TARGET] = torch.where(fixed, torch.inf, noise)
    if not config.energy_on_corrupted:
        corrupted.energy = torch.where(corruption.structures, torch.nan, data.energy)
    return corrupted


def _copy(data: AtomicData) -> AtomicData:
    """A copy; fairchem's own refuses energies in float64 beside positions that are not."""
    energy = data.get("energy", None)
    if energy is None:  # of structures without labels
        return data.clone()
    data.energy = energy.to(data.pos.dtype)
    copied = data.clone()
    data.energy = copied.energy = energy
    return copied


def _excluded(config: DenoisingConfig, data: AtomicData, free: torch.Tensor) -> torch.Tensor:
    """[B] structures of excluded splits, or whose forces exceed a limit."""
    splits = [name.partition(".")[2] for name in data.dataset_name]
    named = [split in config.exclude_splits for split in splits]
    excluded = torch.tensor(named, dtype=torch.bool, device=free.device)
    norms = torch.linalg.vector_norm(data.forces, dim=1) * free
    zeros = norms.new_zeros(len(named))
    if config.max_force_norm is not None:
        largest = zeros.scatter_reduce(0, data.batch, norms, "amax")
        excluded |= largest > config.max_force_norm
    if config.max_mean_force_norm is not None:
        total = zeros.index_add(0, data.batch, norms)
        excluded |= total / _counts(data, free).clamp(min=1) > config.max_mean_force_norm
    return excluded


def _bounded(
    atoms: torch.Tensor, atom_draw: torch.Tensor, data: AtomicData, limit: torch.Tensor
) -> torch.Tensor:
    """Of the drawn atoms, those with the smallest draws, up to the limit of each structure, [B]."""
    # Rank within the structure: sort by (structure, not drawn, draw).
    key = data.batch.double() * 4.0 + (~atoms).double() * 2.0 + atom_draw.double()
    order = torch.argsort(key)
    starts = torch.cumsum(data.natoms, 0) - data.natoms
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - starts[data.batch[order]]
    return atoms & (rank < limit[data.batch])


def _counts(data: AtomicData, mask: torch.Tensor) -> torch.Tensor:
    """[B] atoms in the mask; `torch.bincount` would wait for the device."""
    return torch.zeros_like(data.natoms).index_add(0, data.batch, mask.to(data.natoms.dtype))
