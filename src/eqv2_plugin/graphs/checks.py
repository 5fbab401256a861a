"""What the model refuses to predict, with one message each that names the structure.

All that depends on the data's values, and therefore waits for the device, is asked here, in one go.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from ase import Atoms
from ase.data import chemical_symbols
from fairchem.core.datasets.atomic_data import AtomicData

from eqv2_plugin.common.naming import atom_names, structure_name
from eqv2_plugin.graphs.coincidence import bin_keys, coincident_pair, may_coincide
from eqv2_plugin.graphs.options import GraphOptions

# The search keeps some 400 bytes of each image of each atom: 200 MB. Structures whose cell is
# thicker than half the cutoff have few images, and no limit.
MAX_IMAGES = 500_000
_FEW = 125
# Å. Beyond, the search's grid over the batch would be coarse, or large; see `graphs.compact`.
FAR = 100.0
WIDE = 200.0
# Å. Positions that are rounded more coarsely cost forces about 1e-3 eV/Å.
_COARSE = 1e-4


@dataclass(frozen=True)
class Geometry:
    """Coordinates that search and checks share, without gradients.

    Attributes:
        cells: [B, 3, 3] Å, with a volume: unit normals in place of vectors that are not periodic.
        spacing: [B, 3] Å between the planes of the cells.
        fractional: [N, 3] coordinates; in Å along directions that are not periodic.
    """

    cells: torch.Tensor
    spacing: torch.Tensor
    fractional: torch.Tensor


@torch.no_grad()
def geometry_of(data: AtomicData) -> Geometry:
    """Coordinates of a batch; numbers that are no numbers stay so."""
    cells = complete_cells(data.cell.detach(), data.pbc)
    # Singular ones are refused by name below.
    inverse = torch.linalg.inv_ex(cells).inverse
    fractional = torch.einsum("ni,nij->nj", data.pos.detach(), inverse[data.batch])
    return Geometry(cells, 1.0 / torch.linalg.vector_norm(inverse, dim=1), fractional)


def complete_cells(cell: torch.Tensor, pbc: torch.Tensor) -> torch.Tensor:
    """Cells [B, 3, 3] with a volume: unit normals in place of vectors that are not periodic.

    A direction without periodicity may have no vector, or one in the plane of the others.
    """
    order = torch.argsort((~pbc).byte(), dim=1, stable=True)
    periodic = torch.where(pbc.unsqueeze(2), cell, 0.0)
    first = torch.gather(periodic, 1, order.unsqueeze(2).expand_as(cell))
    # Columns beyond the periodic ones are normal to these and to each other.
    normals = torch.linalg.qr(torch.nan_to_num(first).mT).Q.mT
    place = torch.argsort(order, dim=1)
    filling = torch.gather(normals, 1, place.unsqueeze(2).expand_as(cell))
    return torch.where(pbc.unsqueeze(2), cell, filling)


@torch.no_grad()
def check_structures(data: AtomicData, geometry: Geometry, options: GraphOptions) -> bool:
    """Refuse what cannot be predicted.

    Returns:
        Whether a structure lies far from the origin, or in a wide box, where it may.

    Raises:
        ValueError: names the atom or structure at fault, and what is wrong.
    """
    if len(data.pos) == 0:
        check_not_empty(data.natoms)
    numbers, pos, pbc, batch = data.atomic_numbers, data.pos.detach(), data.pbc, data.batch
    bad_element = (numbers < 1) | (numbers >= options.max_num_elements)
    bad_position = ~torch.isfinite(pos).all(1)
    bad_cell, no_cell = cell_faults(data.cell.detach(), pbc)
    images = _images(geometry.spacing, pbc, options.cutoff)
    crowded = (images > _FEW) & (images * data.natoms > MAX_IMAGES) & options.otf_graph
    atom_pbc = pbc[batch]
    keys = bin_keys(geometry.fractional, geometry.spacing[batch], atom_pbc, batch)
    far = (~atom_pbc & (geometry.fractional.abs() > FAR)).any()
    far = far | (pbc & (geometry.spacing > WIDE)).any()
    coarse = pos.abs().max() * torch.finfo(pos.dtype).eps > _COARSE
    flags = [
        (data.natoms == 0).any(),
        bad_element.any(),
        bad_cell.any(),
        no_cell.any(),
        bad_position.any(),
        crowded.any(),
    ]
    found = torch.stack([*flags, may_coincide(keys), coarse, far]).tolist()
    empty, element, infinite_cell, missing_cell, position, many, twins, is_coarse, is_far = found
    if empty:
        check_not_empty(data.natoms)
    if element:
        atom = int(bad_element.nonzero()[0])
        number = int(numbers[atom])
        symbol = chemical_symbols[number] if 0 < number < len(chemical_symbols) else "?"
        raise ValueError(
            f"{atom_names(data, atom)} has atomic number {number} ({symbol}), but the model knows "
            f"1..{options.max_num_elements - 1}: remove the structure, or train a model with a "
            "larger max_num_elements"
        )
    if infinite_cell:
        structure = int(bad_cell.nonzero()[0])
        raise ValueError(
            f"the cell of {structure_name(data, structure)} is not finite: "
            f"{data.cell[structure].tolist()}; fix or remove this structure"
        )
    if missing_cell:
        structure = int(no_cell.nonzero()[0])
        raise ValueError(
            f"{structure_name(data, structure)} {_no_cell(pbc[structure], data.cell[structure])}"
        )
    if position:
        atom = int(bad_position.nonzero()[0])
        raise ValueError(
            f"the position of {atom_names(data, atom)} is not finite: {pos[atom].tolist()}; fix "
            "or remove this structure"
        )
    if many:
        structure = int(crowded.nonzero()[0])
        raise ValueError(
            f"the cell {data.cell[structure].tolist()} of {structure_name(data, structure)} is so "
            f"thin that the cutoff of {options.cutoff:g} Å reaches {int(images[structure])} images "
            f"of its {int(data.natoms[structure])} atom(s), too many to search: is it in Å?"
        )
    if twins:
        _refuse_coincident(data, keys, geometry)
    if is_coarse:
        _warn_coarse(float(pos.abs().max()), pos.dtype)
    return bool(is_far)


def check_not_empty(natoms: torch.Tensor) -> None:
    """Raise a ValueError for a batch without structures, or with one that has no atoms.

    Args:
        natoms: [B] atoms of each structure.
    """
    if len(natoms) == 0:
        raise ValueError("the batch holds no structures: give the model at least one")
    if bool((natoms == 0).any()):
        structure = int((natoms == 0).nonzero()[0])
        raise ValueError(
            f"structure {structure} of the batch has no atoms: remove it before the model is called"
        )


def check_cell(atoms: Atoms) -> None:
    """The same of one structure, before fairchem wraps its atoms into the cell.

    Raises:
        ValueError: a cell that is not finite, or a periodic direction without a vector of its own.
    """
    cell, pbc = torch.tensor(atoms.cell.array), torch.tensor(atoms.pbc)
    not_finite, missing = cell_faults(cell.unsqueeze(0), pbc.unsqueeze(0))
    if not_finite:
        raise ValueError(f"the cell is not finite: {cell.tolist()}; fix or remove this structure")
    if missing:
        raise ValueError(f"the structure {_no_cell(pbc, cell)}")


def cell_faults(cell: torch.Tensor, pbc: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cells that are not finite, and those whose periodic vectors span no volume, area or line."""
    lengths = torch.linalg.vector_norm(cell, dim=2, keepdim=True)
    directions = torch.where(pbc.unsqueeze(2), cell / lengths.clamp(min=1e-6), 0.0)
    # The Gram determinant of their directions.
    gram = directions @ directions.mT + torch.diag_embed((~pbc).to(cell.dtype))
    return ~torch.isfinite(cell).all(2).all(1), ~(torch.linalg.det(gram) > 1e-6)


def _images(spacing: torch.Tensor, pbc: torch.Tensor, cutoff: float) -> torch.Tensor:
    """Number of images of each cell that the search within the cutoff visits, [B], as floats."""
    around = torch.where(pbc, torch.ceil(cutoff / spacing.double()), 0.0)
    return (2 * around + 1).prod(dim=1)


def _refuse_coincident(data: AtomicData, keys: torch.Tensor, geometry: Geometry) -> None:
    pair = coincident_pair(
        keys,
        data.pos.detach(),
        geometry.fractional,
        geometry.cells[data.batch],
        data.pbc[data.batch],
        data.batch,
    )
    if pair is not None:
        first, second, distance = pair
        raise ValueError(
            f"{atom_names(data, first, second)} coincide: {distance:.4f} Å apart. An edge of no "
            "length has no direction; remove the duplicate atom"
        )


def _warn_coarse(farthest: float, dtype: torch.dtype) -> None:
    if hasattr(_warn_coarse, "said"):
        return
    _warn_coarse.said = True
    logging.warning(
        "Atoms lie up to %.4g Å from the origin, where %s rounds positions to %.1g Å, so that "
        "forces are inaccurate: move the structure to the origin, or wrap it into its cell (said "
        "once).",
        farthest,
        str(dtype).removeprefix("torch."),
        farthest * torch.finfo(dtype).eps,
    )


def _no_cell(pbc: torch.Tensor, cell: torch.Tensor) -> str:
    return (
        f"is periodic along {pbc.tolist()}, but its cell vectors {cell.tolist()} are zero or "
        "parallel: set a cell, or pbc=False for a molecule"
    )
