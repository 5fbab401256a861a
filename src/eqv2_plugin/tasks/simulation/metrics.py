"""Stability and distances of a simulated molecule against a reference (DFT) trajectory.

Both measures are those of X. Fu et al., "Forces are not Enough: Benchmark and Critical Evaluation
for Machine Learning Force Fields with Molecular Simulations", Trans. Mach. Learn. Res. (2023),
sections 4 and 5, with the settings of the published code; the DeNS paper's Table 10 reports them.
Pure functions of float64 arrays; no box.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs

# Å beyond the sum of the covalent radii within which two atoms are bonded.
BOND_SKIN = 0.6
# Å; a bond that is further from its mean length is broken.
BROKEN = 0.5
# Å: edges of the bins of h(r). Zero distances fall below the first.
EDGES = np.linspace(1e-6, 10.0, 501)
_CHUNK = 10_000


def find_bonds(atoms: Atoms) -> np.ndarray:
    """[2, bonds] pairs i < j of atoms nearer than the sum of covalent radii and `BOND_SKIN`."""
    radii = np.array(natural_cutoffs(atoms))
    pairs = np.array(np.triu_indices(len(atoms), 1))
    reach = radii[pairs[0]] + radii[pairs[1]] + BOND_SKIN
    return pairs[:, pair_distances(atoms.positions, pairs) < reach]


def pair_distances(positions: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """[..., pairs] Å between the pairs ([2, pairs]) of atoms at ``positions`` ([..., atoms, 3])."""
    apart = positions[..., pairs[0], :] - positions[..., pairs[1], :]
    return np.sqrt((apart**2).sum(-1))


def bond_deviation(frames: np.ndarray, bonds: np.ndarray, mean_lengths: np.ndarray) -> np.ndarray:
    """[frames] Å, the largest deviation of a bond from its mean length.

    Args:
        frames: [frames, atoms, 3] Å.
        bonds: [2, bonds]; see `find_bonds`.
        mean_lengths: [bonds] Å, of the reference.
    """
    return np.abs(pair_distances(frames, bonds) - mean_lengths).max(-1, initial=0.0)


def counted_frames(deviation: np.ndarray) -> int:
    """How many frames count: up to the first with a broken bond, which is included.

    The last frame is not tested, as in the published code.
    """
    broken = np.flatnonzero(deviation[:-1] > BROKEN)
    return int(broken[0]) + 1 if len(broken) else len(deviation)


def stability_ps(deviation: np.ndarray, interval: float) -> float:
    """ps from the start until a bond is broken, or to the end.

    Args:
        deviation: [frames] Å; see `bond_deviation`.
        interval: ps between frames.
    """
    return (counted_frames(deviation) - 1) * interval


def distance_counts(frames: np.ndarray) -> np.ndarray:
    """[bins] how often two atoms of a frame are so far apart; frames are [frames, atoms, 3] Å."""
    pairs = np.array(np.triu_indices(frames.shape[-2], 1))
    counts = np.zeros(len(EDGES) - 1, np.int64)
    for start in range(0, len(frames), _CHUNK):
        apart = pair_distances(frames[start : start + _CHUNK], pairs)
        counts += np.histogram(apart, EDGES)[0]
    return counts


def distance_density(counts: np.ndarray) -> np.ndarray:
    """[bins] h(r), 1/Å: `distance_counts` with an integral of one."""
    if not counts.sum():
        raise ValueError(
            f"no two atoms were within {EDGES[-1]:g} Å of each other: h(r) needs a molecule"
        )
    return counts / (counts.sum() * np.diff(EDGES))


def hr_error(density: np.ndarray, reference: np.ndarray) -> float:
    """Integral of the absolute difference of two h(r): between 0 (the same) and 2 (disjoint)."""
    return float(np.abs(density - reference).mean() * EDGES[-1])
