"""Models of every kind of derivative, and their inputs as tensors alone."""

from __future__ import annotations

import torch
from ase import Atoms
from helpers import CONSERVATIVE, DIRECT_HEADS, TOY, V1, batch_of, crystal, molecule, randn, slab

from eqv2_plugin.graphs.build import find_edges
from eqv2_plugin.graphs.static_batch import StaticBatch
from eqv2_plugin.models.hydra import EquiformerV2

NOISE = {"noise_forces": {"module": "eqv2_plugin.heads.forces.NoiseHead"}}
DENS = {"force_encoding": True, "sigma_encoding": True}
KINDS = {
    "direct": ({**DIRECT_HEADS, **NOISE}, DENS),
    "conservative": (
        {"head": CONSERVATIVE, **NOISE},
        {**DENS, "direct_forces": False, "regress_stress": True},
    ),
    "v1": (
        {"head": CONSERVATIVE, **NOISE},
        {"backbone": V1, **DENS, "direct_forces": False, "regress_stress": True},
    ),
    "toy": (DIRECT_HEADS, {"backbone": TOY}),
}
STRUCTURES = [crystal(), molecule(), Atoms("He"), slab()]


def static_batch(model: EquiformerV2, structures: list[Atoms], dtype: torch.dtype) -> StaticBatch:
    """With random forces to encode where the model takes them."""
    data = batch_of(*structures, dtype=dtype)
    atoms = len(data.pos)
    encoded = None, None
    if model.backbone.config.force_encoding:
        encoded = randn(3, atoms, 3, dtype=dtype), randn(4, atoms, dtype=dtype).abs()
    return StaticBatch(
        data.pos,
        data.cell,
        data.pbc,
        data.natoms,
        data.batch,
        data.atomic_numbers,
        find_edges(data, model.backbone.config),
        *encoded,
    )
