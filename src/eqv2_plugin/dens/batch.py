"""From a labelled batch and a corruption to the batch that the model trains on."""

from __future__ import annotations

import torch
from fairchem.core.datasets.atomic_data import AtomicData

from eqv2_plugin.backbones.equiformer_v2.backbone import ENCODED_FORCES, NOISE_SIGMA
from eqv2_plugin.dens.config import DenoisingConfig
from eqv2_plugin.dens.corruption import Corruption

NOISE_TARGET = "noise_forces"


def corrupt_batch(data: AtomicData, corruption: Corruption, config: DenoisingConfig) -> AtomicData:
    """A copy of the batch with noise, encoded forces and the targets of both tasks.

    Targets that a task does not have are marked for fairchem's losses and for ours: NaN on
    atoms of the other task, infinity on fixed atoms, which belong to neither (see
    `eqv2_plugin.dens.losses`).

    Args:
        data: a labelled batch with ``pos`` [N, 3] in Å, ``forces`` [N, 3] in eV/Å,
            ``energy`` [B], ``fixed`` [N].
        corruption: what was drawn.
        config: which of the ablations are on.

    Returns:
        The batch to train on; ``data`` stays as it is.
    """
    corrupted = data.clone()
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
