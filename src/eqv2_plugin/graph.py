"""Input checks and graph construction, on top of fairchem's graph builder.

Everything that depends on the data's values, and therefore waits for the device, is
done here, once per batch and outside torch.compile.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from ase.data import chemical_symbols
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.graph.compute import generate_graph
from fairchem.core.graph.radius_graph_pbc import get_max_neighbors_mask

from eqv2_plugin.config import BackboneConfig
from eqv2_plugin.layers.edges import sort_by_target
from eqv2_plugin.naming import atom_names, structure_name

# fairchem's graph builders take nearer pairs for one and the same atom and drop them.
_COINCIDENT = 1e-2


@dataclass(frozen=True)
class Graph:
    """Edges of a batch, sorted by target.

    Attributes:
        edge_index: [2, E]; row 0 sources j, row 1 targets i.
        vectors: [E, 3] in Å, from target to source: r_j - r_i + periodic offset.
        offsets: [N + 1] first edge of every target.
    """

    edge_index: torch.Tensor
    vectors: torch.Tensor
    offsets: torch.Tensor


@torch.compiler.disable
def build_graph(data: AtomicData, config: BackboneConfig) -> Graph:
    """Check the structures and find the neighbours within the cutoff.

    Atoms may lie outside the cell. Edge vectors are differentiable with respect to
    positions and cell.

    Args:
        data: fairchem's batch: ``pos`` [N, 3] in Å, ``cell`` [B, 3, 3] in Å, ``pbc``
            [B, 3], ``atomic_numbers`` [N], ``natoms`` [B], ``batch`` [N]; without
            ``config.otf_graph`` also ``edge_index``, ``cell_offsets``, ``nedges``.
        config: the backbone's configuration.

    Raises:
        ValueError: an unknown element, a position or cell that is not finite, a periodic
            direction without a cell vector, or coinciding atoms.
    """
    check_structures(data, config.max_num_elements)
    complete = _complete_cells(data.cell.detach(), data.pbc)
    inverse = torch.linalg.inv(complete)[data.batch]
    fractional = torch.einsum("ni,nij->nj", data.pos.detach(), inverse)
    check_no_coincident_atoms(data, fractional)
    # fairchem's builders search only the images within the cutoff of the cell.
    shift = torch.floor(fractional) * data.pbc[data.batch]
    positions = data.pos - torch.einsum("ni,nij->nj", shift, data.cell[data.batch])
    if config.otf_graph:
        edge_index, offsets, per_structure = _search(data, positions, complete, config)
    else:
        edge_index, offsets, per_structure = _given(data, shift)
    cells = data.cell.repeat_interleave(per_structure, dim=0)
    periodic = torch.einsum("ei,eij->ej", offsets.to(positions.dtype), cells)
    vectors = positions[edge_index[0]] - positions[edge_index[1]] + periodic
    if not config.otf_graph:
        kept = _within_limits(edge_index, vectors.detach(), data, config)
        edge_index, vectors = edge_index[:, kept], vectors[kept]
    order, targets = sort_by_target(edge_index, positions.shape[0])
    return Graph(edge_index[:, order], vectors[order], targets)


def check_structures(data: AtomicData, max_num_elements: int) -> None:
    """Raise a ValueError that names the atom or structure at fault."""
    check_not_empty(data.natoms)
    numbers, pos, cell, pbc = data.atomic_numbers, data.pos, data.cell, data.pbc
    # The periodic cell vectors must be there and span a line, an area or a volume: the
    # Gram determinant of their directions.
    lengths = torch.linalg.vector_norm(cell.detach(), dim=2, keepdim=True)
    directions = torch.where(pbc.unsqueeze(2), cell.detach() / lengths.clamp(min=1e-6), 0.0)
    gram = directions @ directions.mT + torch.diag_embed((~pbc).to(cell.dtype))
    no_cell = ~(torch.linalg.det(gram) > 1e-6)
    bad_element = (numbers < 1) | (numbers >= max_num_elements)
    bad_position = ~torch.isfinite(pos.detach()).all(1)
    bad_cell = ~torch.isfinite(cell.detach()).all(2).all(1)
    flags = torch.stack([bad_element.any(), bad_position.any(), bad_cell.any(), no_cell.any()])
    element, position, infinite_cell, missing_cell = flags.tolist()
    if element:
        atom = int(bad_element.nonzero()[0])
        number = int(numbers[atom])
        symbol = chemical_symbols[number] if 0 < number < len(chemical_symbols) else "?"
        raise ValueError(
            f"{atom_names(data, atom)} has atomic number {number} ({symbol}), but the model knows "
            f"1..{max_num_elements - 1}: remove the structure, or train a model with a larger "
            "max_num_elements"
        )
    if position:
        atom = int(bad_position.nonzero()[0])
        raise ValueError(
            f"the position of {atom_names(data, atom)} is not finite: {pos[atom].tolist()}; mend "
            "or remove this structure"
        )
    if infinite_cell:
        raise ValueError(
            f"the cell of {structure_name(data, int(bad_cell.nonzero()[0]))} is not finite"
        )
    if missing_cell:
        structure = int(no_cell.nonzero()[0])
        raise ValueError(
            f"{structure_name(data, structure)} is periodic along {pbc[structure].tolist()}, but "
            f"its cell vectors {cell[structure].tolist()} are zero or parallel: set a cell, or "
            "pbc=False for a molecule"
        )


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


@torch.no_grad()
def check_no_coincident_atoms(data: AtomicData, fractional: torch.Tensor) -> None:
    """Raise a ValueError if two atoms of a structure lie within 0.01 Å of each other.

    The graph builder would silently drop the edge between them. Each atom gets one number
    that is continuous across periodic borders (coordinates as points on circles, projected
    along a direction of no symmetry); coinciding atoms are near neighbours in its order.

    Args:
        data: the batch.
        fractional: [N, 3] fractional coordinates.
    """
    num_atoms = fractional.shape[0]
    if num_atoms < 2:
        return
    batch, pbc = data.batch, data.pbc[data.batch]
    lengths = torch.linalg.vector_norm(data.cell, dim=2)[batch]
    angle = 2 * torch.pi * fractional
    circle = lengths / (2 * torch.pi) * (torch.cos(angle) + 0.6180340 * torch.sin(angle))
    coordinate = torch.where(pbc, circle, data.pos)
    along = coordinate @ coordinate.new_tensor([0.5257311, 0.7320508, 0.4336284])
    span = along.max() - along.min() + 1.0
    order = torch.argsort(along + batch.to(along.dtype) * span)
    for step in range(1, min(8, num_atoms - 1) + 1):
        first, second = order[step:], order[:-step]
        difference = fractional[first] - fractional[second]
        images = torch.round(difference) * pbc[first]
        vector = data.pos[first] - data.pos[second]
        vector = vector - torch.einsum("ni,nij->nj", images, data.cell[batch[first]])
        distance = torch.linalg.vector_norm(vector, dim=1)
        close = (distance <= _COINCIDENT) & (batch[first] == batch[second])
        if bool(close.any()):
            at = int(close.nonzero()[0])
            pair = atom_names(data, int(first[at]), int(second[at]))
            raise ValueError(
                f"{pair} coincide: {float(distance[at]):.4f} Å apart. An edge of no length has no "
                "direction; remove the duplicate atom"
            )


def _complete_cells(cell: torch.Tensor, pbc: torch.Tensor) -> torch.Tensor:
    """Cells [B, 3, 3] with a volume: unit normals in place of vectors that are not periodic.

    A direction without periodicity may have no vector, or one in the plane of the others.
    """
    if bool(pbc.all()):
        return cell
    periodic = torch.where(pbc.unsqueeze(2), cell, 0.0)
    # The last right singular vectors are normal to all periodic cell vectors.
    normals = torch.linalg.svd(periodic).Vh.flip(1)
    place = (torch.cumsum((~pbc).long(), dim=1) - 1).clamp(min=0)
    filling = torch.gather(normals, 1, place.unsqueeze(2).expand_as(cell))
    return torch.where(pbc.unsqueeze(2), cell, filling)


def _search(
    data: AtomicData, positions: torch.Tensor, cells: torch.Tensor, config: BackboneConfig
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Neighbours by fairchem's builder: edge_index, cell offsets, edges per structure."""
    structures = SimpleNamespace(
        pos=positions.detach(),
        cell=cells,
        natoms=data.natoms,
        batch=data.batch,
        pbc=data.pbc,
    )
    version = config.radius_pbc_version
    if version == 1 and bool((data.pbc != data.pbc[:1]).any()):
        # Version 1 takes one periodicity for the whole batch.
        version = 2
    graph = generate_graph(
        structures,
        cutoff=config.cutoff,
        max_neighbors=config.max_neighbors,
        enforce_max_neighbors_strictly=config.enforce_max_neighbors_strictly,
        radius_pbc_version=version,
        pbc=data.pbc,
    )
    edge_index = graph["edge_index"]
    per_structure = torch.bincount(data.batch[edge_index[1]], minlength=len(data.natoms))
    return edge_index, graph["cell_offsets"], per_structure


def _given(
    data: AtomicData, shift: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Edges that came with the input, their offsets relative to the wrapped positions."""
    source, target = data.edge_index
    offsets = data.cell_offsets.to(shift.dtype) + shift[source] - shift[target]
    return data.edge_index, offsets, data.nedges


def _within_limits(
    edge_index: torch.Tensor, vectors: torch.Tensor, data: AtomicData, config: BackboneConfig
) -> torch.Tensor:
    """Indices of the given edges that the model's own graph would hold, too."""
    squared = vectors.square().sum(1)
    near = (squared <= config.cutoff**2).nonzero().squeeze(1)
    near = near[torch.argsort(edge_index[1, near], stable=True)]
    if len(near) == 0:
        return near
    mask, _ = get_max_neighbors_mask(
        data.natoms,
        edge_index[1, near],
        squared[near],
        config.max_neighbors,
        enforce_max_strictly=config.enforce_max_neighbors_strictly,
    )
    return near[mask]
