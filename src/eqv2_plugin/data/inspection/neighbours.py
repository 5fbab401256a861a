"""Nearest neighbours of the atoms of a frame, periodic images included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.geometry import complete_cell
from scipy.spatial import KDTree

# Å. Farther neighbours count as none: the largest nearest-neighbour distance in 6,300 OC20,
# 465 CuM(111), 16 OC22 and 3,900 inorganic frames is 5.6 Å, and our smallest cutoff 6 Å.
ISOLATED = 6.0
# Among so many nearest neighbours is the one that is closest in units of the radii: atoms
# differ in radius by less than a factor of 9, and no more than twelve equal ones touch.
_NEIGHBOURS = 12
# Atoms per Å^3; hydrogen-rich solids reach 0.3. Within 6 Å of denser ones are 1e5 images and more.
_CROWDED = 1.0
_NOBLE = np.isin(np.arange(len(chemical_symbols)), (2, 10, 18, 36, 54, 86))


@dataclass(frozen=True)
class Nearest:
    """Nearest neighbours of a frame's atoms."""

    distance: np.ndarray  # [atoms] Å; inf beyond `ISOLATED`
    # [atoms] In units of the sum of the two covalent radii, of the neighbour that is nearest in
    # these units; inf beyond `ISOLATED`, NaN for noble gases, which have no bond length.
    ratio: np.ndarray
    problem: str | None = None  # why there are no distances, or None


def nearest_neighbours(
    numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray
) -> Nearest:
    """Distances in a frame, or what makes it impossible to have them; positions and cell in Å."""
    problem = _problem(numbers, positions, cell, pbc)
    if problem:
        return Nearest(np.zeros(0), np.zeros(0), problem)
    cell = complete_cell(cell)
    crowded = pbc.all() and len(numbers) > _CROWDED * abs(np.linalg.det(cell))
    for cutoff in (0.5, ISOLATED) if crowded else (ISOLATED,):
        distances, partners = _within(positions, cell, pbc, cutoff)
        if np.isfinite(distances[:, 0]).all():
            break
    radii = covalent_radii[numbers]
    ratio = (distances / (radii[:, None] + radii[partners])).min(1)
    ratio[_NOBLE[numbers]] = np.nan
    return Nearest(distances[:, 0], ratio)


def _problem(
    numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray
) -> str | None:
    if len(numbers) == 0:
        return "no atoms"
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        return "positions or cells that are not finite"
    periodic = cell[pbc]
    # The volume that the periodic vectors span, against that of a box of their lengths.
    spanned = np.sqrt(max(np.linalg.det(periodic @ periodic.T), 0.0)) if len(periodic) else 1.0
    box = np.linalg.norm(periodic, axis=1).prod()
    if len(periodic) and spanned <= 1e-3 * box:
        return "periodic directions without a cell vector, or flat cells"
    if ((numbers < 1) | (numbers >= len(covalent_radii))).any():
        return "atomic numbers that no element has"
    return None


def _within(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """Distances [atoms, neighbours], inf where there are fewer, and the neighbours' indices."""
    fractional = np.linalg.solve(cell.T, positions.T).T
    fractional -= np.where(pbc, np.floor(fractional), 0.0)
    # An image within the cutoff of the cell lies in it, or in this margin around it.
    margin = cutoff * np.linalg.norm(np.linalg.inv(cell), axis=0)
    reach = np.where(pbc, np.ceil(margin), 0).astype(int)
    shifts = np.stack(
        np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), -1
    ).reshape(-1, 1, 3)
    images = (fractional + shifts).reshape(-1, 3)
    near = ((images >= -margin) & (images <= 1 + margin))[:, pbc].all(1)
    atoms = np.tile(np.arange(len(fractional)), len(shifts))[near]
    tree = KDTree(images[near] @ cell)
    # The nearest of all is the atom itself (or one at the same place).
    distances, found = tree.query(
        fractional @ cell, k=np.arange(2, _NEIGHBOURS + 2), distance_upper_bound=cutoff
    )
    partners = np.append(atoms, 0)[found]  # what is not found has the index after the last
    return distances, partners
