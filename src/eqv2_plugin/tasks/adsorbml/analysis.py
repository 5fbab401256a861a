"""From relaxed placements to a system's result: energies referenced, anomalies found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ase import Atoms

from eqv2_plugin.inference.relaxed import Relaxed
from eqv2_plugin.tasks.adsorbml.adsorbates import adsorbate_name
from eqv2_plugin.tasks.adsorbml.energy_kind import gas_energy
from eqv2_plugin.tasks.adsorbml.input import System
from eqv2_plugin.tasks.adsorbml.system_result import Candidate, SystemResult
from eqv2_plugin.tasks.relaxation.anomalies import find_anomalies


def analyse(
    system: System,
    placed: Sequence[tuple[str, Atoms]],
    relaxed: Mapping[str, Relaxed],
    slab: Relaxed | None,
    adsorption_energy_model: bool,
) -> SystemResult:
    """What the relaxations of one system mean.

    Args:
        system: see there.
        placed: ids and starting structures.
        relaxed: {id: relaxation} of all of them.
        slab: relaxation of the clean slab with the same model; None where none was needed.
        adsorption_energy_model: the model's energies are adsorption energies. Otherwise energies
            of slab and gas phase are subtracted, and the surface is compared with ``slab``.

    Raises:
        ValueError: an element without gas-phase reference.
    """
    offset, clean, slab_energy = 0.0, system.relaxed, None
    if not adsorption_energy_model:
        assert slab is not None
        clean, slab_energy = slab.atoms, slab.energy
        offset = slab_energy + gas_energy(system.adsorbates)
    return SystemResult(
        system=system.id,
        adsorbate=adsorbate_name(system.adsorbates),
        target=None if math.isnan(system.target) else system.target,
        slab_energy=slab_energy,
        candidates=tuple(
            _candidate(name, initial, relaxed[name], clean, offset) for name, initial in placed
        ),
    )


def failed_system(system: System, error: str) -> SystemResult:
    """A system without any relaxation, and why."""
    return SystemResult(
        system=system.id,
        adsorbate=adsorbate_name(system.adsorbates),
        target=None if math.isnan(system.target) else system.target,
        slab_energy=None,
        candidates=(),
        error=error,
    )


def _candidate(name: str, initial: Atoms, done: Relaxed, clean: Atoms, offset: float) -> Candidate:
    from fairchem.core.components.calculate.recipes.adsorbml import detect_anomaly

    found: tuple[str, ...] = ()
    if not done.failed:
        found = (
            *detect_anomaly(initial, done.atoms, clean),
            *find_anomalies(initial, done.atoms),
        )
    return Candidate(
        id=name,
        energy=None if done.failed else done.energy - offset,
        steps=done.steps,
        converged=done.converged,
        fmax=None if done.failed else float(done.fmax[-1]),
        anomalies=found,
        error=done.error,
        initial=initial,
        relaxed=done.atoms,
    )
