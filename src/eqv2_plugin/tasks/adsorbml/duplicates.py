"""Relaxed structures that are the same, also on equivalent sites of the surface."""

from __future__ import annotations

from collections.abc import Sequence

from eqv2_plugin.tasks.adsorbml.system_result import Candidate

SAME_ENERGY = 0.02  # eV; beyond it two structures are never the same minimum
SAME_PLACE = 0.2  # Å, of every atom


def distinct(ranked: Sequence[Candidate], most: int | None = None) -> list[Candidate]:
    """Leave out structures that repeat a better one.

    pymatgen's StructureMatcher compares them, which knows the symmetry of the slab.

    Args:
        ranked: of one system, lowest energy first.
        most: stop when there are so many.
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

    if first.energy is None or second.energy is None:
        return False
    if abs(first.energy - second.energy) > SAME_ENERGY:
        return False
    a, b = (AseAtomsAdaptor.get_structure(c.relaxed) for c in (first, second))
    # pymatgen measures distances in units of the mean free length per atom.
    unit = (a.volume / len(a)) ** (1 / 3)
    matcher = StructureMatcher(
        ltol=0.01, angle_tol=1.0, stol=SAME_PLACE / unit, primitive_cell=False, scale=False
    )
    return bool(matcher.fit(a, b))
