"""Corrupting structures: lines 5 to 20 of Algorithm 2, as pure functions of a generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from eqv2_plugin.dens.config import DenoisingConfig


@dataclass(frozen=True)
class Corruption:
    """What was drawn for a batch of N atoms in B structures.

    Attributes:
        structures: [B] structures that optimise DeNS.
        atoms: [N] corrupted atoms, the m_i of Algorithm 2.
        noise: [N, 3] in units of sigma, zero on atoms that are not corrupted.
        sigma: [N] standard deviation in Å of all atoms of a corrupted structure, zero on those
            of plain structures.
    """

    structures: torch.Tensor
    atoms: torch.Tensor
    noise: torch.Tensor
    sigma: torch.Tensor

    @property
    def displacements(self) -> torch.Tensor:
        """[N, 3] in Å, to be added to the positions."""
        return self.noise * self.sigma.unsqueeze(1)


def draw_corruption(
    config: DenoisingConfig,
    batch: torch.Tensor,
    num_structures: int,
    free: torch.Tensor,
    forces: torch.Tensor,
    excluded: torch.Tensor,
    generator: torch.Generator,
) -> Corruption:
    """Draw structures, atoms and noise.

    Every number is drawn for every structure and atom, used or not, so that one decision
    does not shift the random numbers of the next.

    Args:
        config: probabilities, sigma and exclusions.
        batch: [N] structure of each atom.
        num_structures: B.
        free: [N] atoms that may move.
        forces: [N, 3] labels in eV/Å.
        excluded: [B] structures that are never corrupted.
        generator: source of all randomness (on the CPU).

    Returns:
        The corruption, on the device of ``batch``.
    """
    device, num_atoms = batch.device, len(batch)
    structure_draw = torch.rand(num_structures, generator=generator).to(device)
    sigma_draw = torch.rand(num_structures, generator=generator).to(device)
    atom_draw = torch.rand(num_atoms, generator=generator).to(device)
    noise = torch.randn(num_atoms, 3, generator=generator).to(device, forces.dtype)

    allowed = ~(excluded | _too_large(config, batch, num_structures, free, forces))
    structures = (structure_draw < config.probability) & allowed
    atoms = free & structures[batch] & (atom_draw < config.corruption_ratio)
    if config.max_corrupted_fraction is not None:
        atoms = _bounded(atoms, atom_draw, batch, num_structures, free, config)
    sigma = torch.full_like(sigma_draw, config.sigma)
    if config.sigma_low is not None:
        # Log-uniform between sigma_low and sigma.
        sigma = config.sigma_low * (config.sigma / config.sigma_low) ** sigma_draw
    per_atom = (sigma * structures)[batch].to(forces.dtype)
    return Corruption(structures, atoms, noise * atoms.unsqueeze(1), per_atom)


def _too_large(
    config: DenoisingConfig,
    batch: torch.Tensor,
    num_structures: int,
    free: torch.Tensor,
    forces: torch.Tensor,
) -> torch.Tensor:
    """[B] structures whose forces exceed a limit."""
    norms = torch.linalg.vector_norm(forces, dim=1) * free
    too_large = torch.zeros(num_structures, dtype=torch.bool, device=batch.device)
    if config.max_force_norm is not None:
        largest = norms.new_zeros(num_structures).scatter_reduce(0, batch, norms, "amax")
        too_large |= largest > config.max_force_norm
    if config.max_mean_force_norm is not None:
        total = norms.new_zeros(num_structures).index_add(0, batch, norms)
        count = torch.bincount(batch[free], minlength=num_structures).clamp(min=1)
        too_large |= total / count > config.max_mean_force_norm
    return too_large


def _bounded(
    atoms: torch.Tensor,
    atom_draw: torch.Tensor,
    batch: torch.Tensor,
    num_structures: int,
    free: torch.Tensor,
    config: DenoisingConfig,
) -> torch.Tensor:
    """Of the drawn atoms, keep those with the smallest draws, up to the bound."""
    free_counts = torch.bincount(batch[free], minlength=num_structures).double()
    limit = torch.floor(config.max_corrupted_fraction * free_counts + 1e-9).long()
    # Rank within the structure: sort by (structure, not drawn, draw).
    key = batch.double() * 4.0 + (~atoms).double() * 2.0 + atom_draw.double()
    order = torch.argsort(key)
    starts = torch.cumsum(torch.bincount(batch, minlength=num_structures), 0)
    starts = starts - torch.bincount(batch, minlength=num_structures)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - starts[batch[order]]
    return atoms & (rank < limit[batch])
