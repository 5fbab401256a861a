"""The thermostats of replicas: ASE's numbers, a conserved energy, the temperature asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.nose_hoover_chain import NoseHooverChainNVT
from ase.md.velocitydistribution import thermalize_momenta

from eqv2_plugin.tasks.simulation.thermostats import THERMOSTATS, NoseHooverChain

DT, PERIOD, KELVIN = 0.5 * units.fs, 50 * units.fs, 500.0


def crystal(seed: int) -> Atoms:
    """Four atoms that stay near their sites: elsewhere rounding grows too fast to compare."""
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=seed)
    thermalize_momenta(atoms, KELVIN, rng=np.random.default_rng(seed))
    atoms.calc = EMT()
    return atoms


def tensor(values) -> torch.Tensor:
    return torch.tensor(np.array(values))


@pytest.mark.parametrize("steps", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_the_chain_is_that_of_ase_for_every_replica(steps):
    replicas = [crystal(seed) for seed in range(2)]
    thermostat = NoseHooverChain(tensor(replicas[0].get_masses())[:, None], KELVIN, DT, PERIOD)
    state = thermostat.start(
        tensor([a.positions for a in replicas]), tensor([a.get_momenta() for a in replicas])
    )
    alone = [NoseHooverChainNVT(a, DT, KELVIN, PERIOD) for a in replicas]
    own = [a.copy() for a in replicas]
    for atoms in own:
        atoms.calc = EMT()

    def forces(positions: torch.Tensor) -> torch.Tensor:
        for atoms, new in zip(own, positions.numpy(), strict=True):
            atoms.positions[:] = new
        return tensor([atoms.get_forces() for atoms in own])

    force = forces(state.positions)
    start = conserved(thermostat, state, own)
    for _ in range(steps):
        state = thermostat.before(state, force)
        force = forces(state.positions)
        state = thermostat.after(state, force)
    for dynamics in alone:
        dynamics.run(steps)
    for name, wanted in {
        "positions": [a.positions for a in replicas],
        "momenta": [a.get_momenta() for a in replicas],
        "eta": [d._thermostat._eta for d in alone],
        "rates": [d._thermostat._p_eta / d._thermostat._Q for d in alone],
    }.items():
        found = getattr(state, name).numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())
    ase = [d.get_conserved_energy() for d in alone]
    np.testing.assert_allclose(conserved(thermostat, state, own), ase, rtol=0, atol=1e-11)
    assert np.abs(ase - start).max() < 1e-3


def conserved(thermostat, state, own) -> np.ndarray:
    potential = tensor([atoms.get_potential_energy() for atoms in own])
    return (potential + thermostat.kinetic_energy(state) + thermostat.energy(state)).numpy()


# The published scheme is of first order in the time step, ASE's of second.
@pytest.mark.parametrize(("name", "loss"), [("chain", 5e-4), ("published", 0.1)])
def test_springs_reach_the_temperature_and_keep_the_conserved_energy(name, loss):
    torch.manual_seed(0)
    masses = torch.tensor([12.0, 16.0, 14.0], dtype=torch.float64)[:, None]
    stiffness = torch.tensor([9.0, 4.0, 16.0], dtype=torch.float64)[:, None]  # eV/Å^2
    thermostat = THERMOSTATS[name](masses, KELVIN, DT, 20 * units.fs)
    # Far too hot at first.
    momenta = torch.randn(100, 3, 3, dtype=torch.float64) * (4 * masses * units.kB * KELVIN).sqrt()
    state = thermostat.start(torch.zeros_like(momenta), momenta)
    temperatures, energies = [], []
    for _ in range(1000):
        state = thermostat.before(state, -stiffness * state.positions)
        state = thermostat.after(state, -stiffness * state.positions)
        temperatures.append(thermostat.temperatures(state))
        potential = (stiffness * state.positions**2).sum((1, 2)) / 2
        energies.append(potential + thermostat.kinetic_energy(state) + thermostat.energy(state))
    assert temperatures[0].mean() > 3 * KELVIN
    assert torch.stack(temperatures[300:]).mean() == pytest.approx(KELVIN, rel=0.03)
    drift = torch.stack(energies) - energies[0]
    assert drift.abs().max() < loss * energies[0].max()


def test_replicas_that_are_not_chosen_stay():
    torch.manual_seed(0)
    thermostat = NoseHooverChain(torch.ones(2, 1, dtype=torch.float64), KELVIN, DT, PERIOD)
    first = thermostat.start(*torch.randn(2, 3, 2, 3, dtype=torch.float64))
    moved = thermostat.before(first, torch.randn(3, 2, 3, dtype=torch.float64))
    mixed = moved.where(torch.tensor([True, False, True]), first)
    for name in ("positions", "momenta", "eta", "rates"):
        found, new, old = (getattr(one, name) for one in (mixed, moved, first))
        assert torch.equal(found[[0, 2]], new[[0, 2]])
        assert torch.equal(found[1], old[1])
