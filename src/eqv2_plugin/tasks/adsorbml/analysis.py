"""What relaxed placements mean: energies referenced, anomalies found, duplicates left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ase import Atoms

from eqv2_plugin.inference.relaxation import Relaxed
from eqv2_plugin.models.metadata import EnergyKind, ModelMetadata, energy_kind_of, same_energies
from eqv2_plugin.tasks.adsorbml.adsorbates import adsorbate_name
from eqv2_plugin.tasks.adsorbml.input import System
from eqv2_plugin.tasks.adsorbml.results import Candidate, SystemResult
from eqv2_plugin.tasks.relaxation.anomalies import find_anomalies

if TYPE_CHECKING:
    from fairchem.data.oc.core import Adsorbate

# Gas-phase references of OC20 per adsorbate atom, RPBE, eV (Chanussot et al. 2021, supporting
# information): with them, total energies give adsorption energies as OC20 defines them.
GAS_REFERENCES = {"H": -3.477, "O": -7.204, "C": -7.282, "N": -8.083}
SAME_ENERGY = 0.02  # eV; beyond it two structures are never the same minimum
SAME_PLACE = 0.2  # Å, of every atom
_FOR_TOTAL = "set adsorption_energy_model=false, which references total energies"
_ADVICE = {
    EnergyKind.ADSORPTION: "leave adsorption_energy_model at true",
    EnergyKind.TOTAL: _FOR_TOTAL,
    EnergyKind.TOTAL_LINEAR: _FOR_TOTAL,
    EnergyKind.LINEAR_RESIDUAL: "AdsorbML needs adsorption energies as of OC20, or total energies",
}


def check_energy_kind(metadata: ModelMetadata | None, adsorption_energy_model: bool) -> str:
    """A sentence on what a checkpoint's energies are; the user's word counts where it is silent.

    Raises:
        ValueError: the checkpoint says that they are something else than the user.
    """
    kind = energy_kind_of(metadata)
    said = EnergyKind.ADSORPTION if adsorption_energy_model else EnergyKind.TOTAL
    fits = same_energies(kind, said)
    if metadata is None or fits is None:
        return f"The checkpoint does not say what its energies are; taken as {said} energies."
    if not fits:
        raise ValueError(
            f"adsorption_energy_model={str(adsorption_energy_model).lower()} does not fit the "
            f"checkpoint. {metadata.sentence()}: {_ADVICE[kind]}"
        )
    return metadata.sentence()


def gas_energy(adsorbates: Sequence[Adsorbate]) -> float:
    """Gas-phase reference of adsorbates, eV; a ValueError for elements that OC20 has none of."""
    symbols = [symbol for one in adsorbates for symbol in one.atoms.get_chemical_symbols()]
    if missing := sorted(set(symbols) - set(GAS_REFERENCES)):
        raise ValueError(
            f"OC20 has no gas-phase reference for {', '.join(missing)}, so that total energies "
            "cannot be made adsorption energies"
        )
    return sum(GAS_REFERENCES[symbol] for symbol in symbols)


def analyse(
    system: System,
    placed: Sequence[tuple[str, Atoms]],
    relaxed: Mapping[str, Relaxed],
    slab: Relaxed | None,
    adsorption_energy_model: bool,
    error: str = "",
) -> SystemResult:
    """What the relaxations of one system mean.

    Args:
        placed, relaxed: initial structures and relaxations by id.
        slab: relaxation of the clean slab with the same model; None where none was needed.
        adsorption_energy_model: otherwise energies of slab and gas phase are subtracted, and the
            surface is compared with ``slab``.
        error: why nothing was placed.
    """
    offset, clean, slab_energy = 0.0, system.relaxed, None
    if placed and not adsorption_energy_model:
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
        error=error,
    )


def _candidate(name: str, initial: Atoms, done: Relaxed, clean: Atoms, offset: float) -> Candidate:
    from fairchem.core.components.calculate.recipes.adsorbml import detect_anomaly

    found: tuple[str, ...] = ()
    if not done.failed:
        found = (*detect_anomaly(initial, done.atoms, clean), *find_anomalies(initial, done.atoms))
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


def distinct(ranked: Sequence[Candidate], most: int) -> list[Candidate]:
    """The best structures that repeat no better one, also on an equivalent site of the surface.

    pymatgen's StructureMatcher compares them, which knows the symmetry of the slab.
    """
    kept: list[Candidate] = []
    for candidate in ranked:
        if len(kept) == most:
            break
        if not any(_same(candidate, other) for other in kept):
            kept.append(candidate)
    return kept


def _same(first: Candidate, second: Candidate) -> bool:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.io.ase import AseAtomsAdaptor

    assert first.energy is not None
    assert second.energy is not None
    if abs(first.energy - second.energy) > SAME_ENERGY:
        return False
    a, b = (AseAtomsAdaptor.get_structure(c.relaxed) for c in (first, second))
    # pymatgen measures distances in units of the mean free length per atom.
    unit = (a.volume / len(a)) ** (1 / 3)
    matcher = StructureMatcher(
        ltol=0.01, angle_tol=1.0, stol=SAME_PLACE / unit, primitive_cell=False, scale=False
    )
    return bool(matcher.fit(a, b))
