"""A molecule of springs, whose replicas cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.md.velocitydistribution import thermalize_momenta

from eqv2_plugin.inference.replicas import PredictReplicas
from eqv2_plugin.tasks.simulation.dynamics import Dynamics, Frame
from eqv2_plugin.tasks.simulation.thermostats import NoseHooverChain

ETHANOL: Atoms = molecule("CH3CH2OH")
Change = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], None]


def springs(change: Change | None = None) -> Callable[[int], PredictReplicas]:
    """Springs between all atoms; ``change`` edits energies and forces of a call, or raises."""
    rest = torch.cdist(*[torch.tensor(ETHANOL.positions)] * 2)
    calls = count(1)

    def predict(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        apart = positions[:, :, None] - positions[:, None]
        lengths = torch.sqrt((apart**2).sum(-1) + 1e-30)
        energies = ((lengths - rest) ** 2).sum((1, 2))
        forces = -4 * (((lengths - rest) / lengths)[..., None] * apart).sum(2)
        if change is not None:
            change(next(calls), positions, energies, forces)
        return energies, forces

    return lambda replicas: predict


def dynamics(model: Callable[[int], PredictReplicas]) -> Dynamics:
    masses = torch.tensor(ETHANOL.get_masses())[:, None]
    return Dynamics(NoseHooverChain(masses, 500.0, 0.5 * units.fs, 50 * units.fs), model)


def start(run: Dynamics, replicas: int = 3) -> Frame:
    momenta = []
    for seed in range(replicas):
        atoms = ETHANOL.copy()
        thermalize_momenta(atoms, 500.0, rng=np.random.default_rng(seed))
        momenta.append(atoms.get_momenta())
    return run.start(np.stack([ETHANOL.positions] * replicas), np.stack(momenta))


def assert_equal(found: Frame, wanted: Frame, replicas: list[int]) -> None:
    """To the last bit."""
    assert found.step == wanted.step
    for name in ("positions", "momenta", "eta", "rates", "energies", "forces"):
        np.testing.assert_array_equal(
            getattr(found, name)[replicas], getattr(wanted, name)[replicas], name
        )
