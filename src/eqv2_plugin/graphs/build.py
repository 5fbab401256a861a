"""Graph construction on top of fairchem's graph builder, outside torch.compile."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.graph.compute import generate_graph
from fairchem.core.graph.radius_graph_pbc import get_max_neighbors_mask

from eqv2_plugin.graphs.checks import check_structures, geometry_of
from eqv2_plugin.graphs.compact import compact
from eqv2_plugin.graphs.options import GraphOptions
from eqv2_plugin.layers.edges import sort_by_target


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
def build_graph(data: AtomicData, options: GraphOptions) -> Graph:
    """Check the structures and find the neighbours within the cutoff.

    Atoms may lie outside the cell. Edge vectors are differentiable with respect to
    positions and cell.

    Args:
        data: fairchem's batch: ``pos`` [N, 3] in Å, ``cell`` [B, 3, 3] in Å, ``pbc``
            [B, 3], ``atomic_numbers`` [N], ``natoms`` [B], ``batch`` [N]; without
            ``options.otf_graph`` also ``edge_index``, ``cell_offsets``, ``nedges``.
        options: of the backbone.

    Raises:
        ValueError: an unknown element, a position or cell that is not finite, a periodic
            direction without a cell vector, a cell with too many images within the cutoff, or
            coinciding atoms.
    """
    geometry = geometry_of(data)
    may_be_far = check_structures(data, geometry, options)
    pbc = data.pbc
    # fairchem's builders search only the images within the cutoff of the cell.
    shift = torch.floor(geometry.fractional) * pbc[data.batch]
    if may_be_far and options.otf_graph:
        near, pbc, shift = compact(geometry, pbc, data.batch, options.cutoff)
    positions = data.pos - torch.einsum("ni,nij->nj", shift, data.cell[data.batch])
    if options.otf_graph:
        searched = SimpleNamespace(
            pos=near if may_be_far else positions.detach(),
            cell=geometry.cells,
            natoms=data.natoms,
            batch=data.batch,
            pbc=pbc,
        )
        edge_index, offsets, per_structure = _search(searched, options)
    else:
        edge_index, offsets, per_structure = _given(data, shift)
    cells = data.cell.repeat_interleave(per_structure, dim=0)
    periodic = torch.einsum("ei,eij->ej", offsets.to(positions.dtype), cells)
    vectors = positions[edge_index[0]] - positions[edge_index[1]] + periodic
    if not options.otf_graph:
        kept = _within_limits(edge_index, vectors.detach(), data, options)
        edge_index, vectors = edge_index[:, kept], vectors[kept]
    order, targets = sort_by_target(edge_index, positions.shape[0])
    return Graph(edge_index[:, order], vectors[order], targets)


def _search(
    structures: SimpleNamespace, options: GraphOptions
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Neighbours by fairchem's builder: edge_index, cell offsets, edges per structure."""
    pbc = structures.pbc
    version = options.radius_pbc_version
    if version == 1 and bool((pbc != pbc[:1]).any()):
        # Version 1 takes one periodicity for the whole batch.
        version = 2
    graph = generate_graph(
        structures,
        cutoff=options.cutoff,
        max_neighbors=options.max_neighbors,
        enforce_max_neighbors_strictly=options.enforce_max_neighbors_strictly,
        radius_pbc_version=version,
        pbc=pbc,
    )
    edge_index = graph["edge_index"]
    targets = structures.batch[edge_index[1]]
    per_structure = torch.bincount(targets, minlength=len(structures.natoms))
    return edge_index, graph["cell_offsets"], per_structure


def _given(
    data: AtomicData, shift: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Edges that came with the input, their offsets relative to the wrapped positions."""
    source, target = data.edge_index
    offsets = data.cell_offsets.to(shift.dtype) + shift[source] - shift[target]
    return data.edge_index, offsets, data.nedges


def _within_limits(
    edge_index: torch.Tensor, vectors: torch.Tensor, data: AtomicData, options: GraphOptions
) -> torch.Tensor:
    """Indices of the given edges that the model's own graph would hold, too."""
    squared = vectors.square().sum(1)
    near = (squared <= options.cutoff**2).nonzero().squeeze(1)
    near = near[torch.argsort(edge_index[1, near], stable=True)]
    if len(near) == 0:
        return near
    mask, _ = get_max_neighbors_mask(
        data.natoms,
        edge_index[1, near],
        squared[near],
        options.max_neighbors,
        enforce_max_strictly=options.enforce_max_neighbors_strictly,
    )
    return near[mask]
