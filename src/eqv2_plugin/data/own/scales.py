"""References and scales of training frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from eqv2_plugin.common.text import listed
from eqv2_plugin.data.own.survey import Note
from eqv2_plugin.data.references.coefficients import by_symbol, load_coefficients, reference_energy
from eqv2_plugin.data.references.linear_fit import compositions_of
from eqv2_plugin.data.references.ridge import fit_ridge

FIT, NONE = "fit", "none"
# Of a run that starts from a checkpoint: its references, which are not known here.
CHECKPOINT = "checkpoint"
# Of such a run: fitted, and then to what its predictions lack (`eqv2_plugin.training.refit`).
REFIT = "refit"
_SHOWN = 12
_MOST_MEDIANS = 10.0


def fit_scales(
    notes: Sequence[Note],
    elements: set[int],
    source: str,
    labels: Sequence[str],
    target: str | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """What training needs to know of the labels of its frames, and lines that say it.

    Args:
        elements: that references are needed of, further ones among them: of these a fit says what
            it says of an element without data, the mean energy per atom.
        source: of the element references: ``fit``, ``none``, ``checkpoint``, a published name or an
            ``.npz`` file.
        labels: that are trained, some of energy, forces and stress.
        target: name of what the energies are, if they are another number per structure.

    Returns:
        ``energy_mean`` (eV), ``energy_rmsd`` (eV, see `_rms`, of structures whose composition the
        references have not seen), ``force_rms`` (eV/Å, free atoms), ``stress_rms`` (eV/Å^3; None
        without that label, as for forces) and ``references`` ({symbol: eV per atom} or None).

    Raises:
        ValueError: labels that do not vary, or an element without reference.
    """
    energies = np.array([note.energy for note in notes])
    force_rms = _force_rms(notes) if "forces" in labels else None
    stress_rms = None
    if "stress" in labels:
        stress_rms = float(np.sqrt(np.mean([note.stress_square for note in notes]) / 9))
    coefficients, rest, poor = _references(notes, energies, elements, source)
    energy_rmsd = _rms(rest)
    if np.ptp(energies) == 0 and len(set(map(len, (n.numbers for n in notes)))) == 1:
        what, key = ("energies", "energy_key") if target is None else (target, "target_key")
        raise ValueError(
            f"the {what} of all {len(notes)} training frames are {energies[0]:g}"
            f"{' eV' if target is None else ''}: nothing to learn; is {key} the right one?"
        )
    lines = []
    references = None
    if coefficients is not None:
        references = by_symbol(coefficients)
        shown = [f"{symbol} {energy:.4g}" for symbol, energy in references.items()]
        unit = "eV per atom" if target is None else "per atom"
        lines.append(f"references ({source}), {unit}: {listed(shown, _SHOWN)}")
    if poor:
        names = [chemical_symbols[z] for z in poor]
        lines.append(f"hardly or not determined, near the mean per atom: {listed(names, _SHOWN)}")
    left = [f"energies {energy_rmsd:.4g} eV" if target is None else f"{target} {energy_rmsd:.4g}"]
    left += [] if force_rms is None else [f"forces {force_rms:.4g} eV/Å"]
    left += [] if stress_rms is None else [f"stress {stress_rms:.4g} eV/Å^3"]
    lines.append(f"left to learn (rms): {', '.join(left)}")
    found = {
        "energy_mean": float(energies.mean()),
        "energy_rmsd": energy_rmsd,
        "force_rms": force_rms,
        "stress_rms": stress_rms,
    }
    return {**found, "references": references}, lines


def _references(
    notes: Sequence[Note], energies: np.ndarray, elements: set[int], source: str
) -> tuple[np.ndarray | None, np.ndarray, tuple[int, ...]]:
    """Coefficients, energies without them (eV), and elements that the data hardly determine."""
    if source == NONE:
        return None, energies - energies.mean(), ()
    if source in (FIT, CHECKPOINT):
        compositions = compositions_of([note.numbers for note in notes])
        _, groups = np.unique(compositions, axis=0, return_inverse=True)
        fit = fit_ridge(compositions, energies, groups.ravel())
        unseen = sorted(z for z in elements if np.isnan(fit.coefficients[z]))
        fit.coefficients[unseen] = energies.sum() / compositions.sum()
        if source == CHECKPOINT:
            return None, fit.held_out, ()
        return fit.coefficients, fit.held_out, (*fit.poor, *unseen)
    coefficients = load_coefficients(source)
    sums = [reference_energy(coefficients, note.numbers, note.where) for note in notes]
    return coefficients, energies - sums, ()


def _rms(rest: np.ndarray) -> float:
    """Root mean square in which no frame counts more than ten times the median.

    One of thousands of atoms among small ones, or one that is wrong, would else be the scale of
    all. What is left of ordinary energies lies within four medians.
    """
    sizes = np.abs(rest)
    median = float(np.median(sizes))
    if median > 0:
        sizes = np.minimum(sizes, _MOST_MEDIANS * median)
    return float(np.sqrt(np.mean(sizes**2)))


def _force_rms(notes: Sequence[Note]) -> float:
    components = 3 * sum(note.free for note in notes)
    force_rms = float(np.sqrt(sum(note.square for note in notes) / max(components, 1)))
    if not force_rms > 0:
        raise ValueError(
            f"the forces of all {len(notes)} training frames are zero on free atoms: nothing to "
            "learn; is forces_key the right one? labels=energy trains energies alone"
        )
    return force_rms
