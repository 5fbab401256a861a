"""Which atoms of a slab can be reached from the vacuum above it: a probe sphere rolls over them."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from scipy.ndimage import binary_dilation, binary_propagation
from scipy.spatial import cKDTree

# Å. It enters the vacancies of all metals, and no hollow of their close-packed and (100) faces.
PROBE = 1.0
_STEP = 0.35  # Å between the points of the grid that the probe's centre moves on
_TOUCH = _STEP  # Å; a grid point this near to the place where the probe touches counts


def reachable_from_above(atoms: Atoms) -> np.ndarray:
    """[N] True for atoms that a sphere touches which comes from above and goes wherever it fits.

    Atoms are spheres of their covalent radii, in one piece, a and b in the xy plane, the surface
    towards +z. Along a and b the slab is periodic; along c the probe cannot pass through the
    cell's border, so that the lower side is reached through holes only.
    """
    spheres = covalent_radii[atoms.numbers] + PROBE
    positions = _wrapped(atoms)
    shifts = _shifts(atoms, spheres.max() + _TOUCH)  # [ra, rb, 3]
    points = _grid(atoms, spheres.max())  # [na, nb, nz, 3]
    blocked = np.zeros(points.shape[:3], bool)
    for radius in np.unique(spheres):
        images = positions[spheres == radius][:, None] + shifts.reshape(-1, 3)
        nearest, _ = cKDTree(images.reshape(-1, 3)).query(points, distance_upper_bound=radius)
        blocked |= nearest < radius
    # In a patch of repeated cells the probe also finds the way round through a border.
    patch = np.tile(~blocked, (*shifts.shape[:2], 1))
    from_above = np.zeros_like(patch)
    from_above[:, :, -1] = True
    reached = binary_propagation(from_above, structure=np.ones((3, 3, 3)), mask=patch)
    edge = reached & binary_dilation(~patch, structure=np.ones((3, 3, 3)))
    cell_a, point_a, cell_b, point_b, z = np.nonzero(
        edge.reshape(len(shifts), len(points), shifts.shape[1], *points.shape[1:3])
    )
    touching = points[point_a, point_b, z] + shifts[cell_a, cell_b]
    distances, _ = cKDTree(touching).query(positions)
    return np.asarray(distances <= spheres + _TOUCH)


def _shifts(atoms: Atoms, reach: float) -> np.ndarray:
    """Translations of a patch of cells whose middle one sees ``reach`` Å around it, [ra, rb, 3]."""
    cell = np.asarray(atoms.cell)
    area = np.linalg.norm(np.cross(cell[0], cell[1]))
    around = np.ceil(reach * np.linalg.norm(cell[[1, 0], :2], axis=1) / area).astype(int)
    i, j = (np.arange(-n, n + 1) for n in around)
    return np.stack(np.meshgrid(i, j, indexing="ij"), axis=-1) @ cell[:2]


def _wrapped(atoms: Atoms) -> np.ndarray:
    """Positions within the cell along a and b; heights stay."""
    in_plane = np.asarray(atoms.cell)[:2, :2]
    fractions = atoms.positions[:, :2] @ np.linalg.inv(in_plane) % 1.0
    return np.column_stack((fractions @ in_plane, atoms.positions[:, 2]))


def _grid(atoms: Atoms, margin: float) -> np.ndarray:
    """Points of one cell, [na, nb, nz, 3], up to heights that no atom's sphere reaches."""
    cell = np.asarray(atoms.cell)
    numbers = np.ceil(np.linalg.norm(cell[:2], axis=1) / _STEP).astype(int)
    low = atoms.positions[:, 2].min() - margin
    high = atoms.positions[:, 2].max() + margin + 2 * _STEP
    i, j, z = np.meshgrid(
        np.arange(numbers[0]) / numbers[0],
        np.arange(numbers[1]) / numbers[1],
        np.linspace(low, high, int(np.ceil((high - low) / _STEP)) + 1),
        indexing="ij",
    )
    plane = i[..., None] * cell[0, :2] + j[..., None] * cell[1, :2]
    return np.concatenate((plane, z[..., None]), axis=-1)
