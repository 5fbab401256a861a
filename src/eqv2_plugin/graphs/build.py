"""Graph construction on top of fairchem's graph builder, outside torch.compile.

Which atoms are neighbours (`find_edges`) depends on the values of a batch, waits for the device and
has no derivative; where they are (`edge_vectors`) is a pure function of fixed shapes.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import torch
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.graph.compute import generate_graph
from fairchem.core.graph.radius_graph_pbc import get_max_neighbors_mask

from eqv2_plugin.geometry.exact import exact_einsum, whole_products
from eqv2_plugin.graphs.checks import Geometry, check_structures, geometry_of
from eqv2_plugin.graphs.compact import compact
from eqv2_plugin.graphs.options import GraphOptions
from eqv2_plugin.kernels.gather import gather_ends, gather_few
from eqv2_plugin.layers.edges import sort_by_target


class Topology(NamedTuple):
    """Which atoms of a batch are neighbours; edges sorted by target.

    Attributes:
        edge_index: [2, E]; row 0 sources j, row 1 targets i.
        images: [E, 3] cells that lie between j and i as seen by i, whole numbers in the
            positions' dtype.
        structure_of_edge: [E].
        offsets: [N + 1] first edge of every target.
    """

    edge_index: torch.Tensor
    images: torch.Tensor
    structure_of_edge: torch.Tensor
    offsets: torch.Tensor


class Graph(NamedTuple):
    """Edges of a batch, sorted by target.

    Attributes:
        edge_index: [2, E]; row 0 sources j, row 1 targets i.
        vectors: [E, 3] in Å, from target to source: r_j - r_i + periodic offset.
        offsets: [N + 1] first edge of every target.
    """

    edge_index: torch.Tensor
    vectors: torch.Tensor
    offsets: torch.Tensor


def build_graph(data: AtomicData, options: GraphOptions) -> Graph:
    """`find_edges`, and their vectors, differentiable with respect to positions and cell."""
    return graph_of(find_edges(data, options), data.pos, data.cell)


def graph_of(topology: Topology, positions: torch.Tensor, cells: torch.Tensor) -> Graph:
    """The graph of these edges at other positions [N, 3] and cells [B, 3, 3] in Å."""
    vectors = edge_vectors(topology, positions, cells)
    return Graph(topology.edge_index, vectors, topology.offsets)


def edge_vectors(topology: Topology, positions: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """[E, 3] in Å, from target to source, of positions [N, 3] and cells [B, 3, 3] in Å."""
    ends = gather_ends(positions.unsqueeze(1), *topology.edge_index).squeeze(1)  # [E, 6]
    source, target = ends.chunk(2, dim=1)
    across = exact_einsum(
        "ei,eij->ej", topology.images, gather_few(cells, topology.structure_of_edge)
    )
    return source - target + across


@torch.compiler.disable
@torch.no_grad()
@whole_products()
def find_edges(data: AtomicData, options: GraphOptions) -> Topology:
    """Check the structures and find the neighbours within the cutoff.

    Atoms may lie outside the cell. Which pairs are neighbours is decided in full precision, also
    under TF32.

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
    if options.otf_graph:
        edge_index, images = _search(data, geometry, may_be_far, options)
    else:
        edge_index, images = data.edge_index, data.cell_offsets.to(data.pos.dtype)
    structure_of_edge = data.batch[edge_index[1]]
    found = Topology(edge_index, images, structure_of_edge, edge_index.new_empty(0))
    if not options.otf_graph:
        found = _chosen(found, _within_limits(found, data, options))
    order, offsets = sort_by_target(found.edge_index, len(data.pos))
    return _chosen(found, order)._replace(offsets=offsets)


def _chosen(topology: Topology, edges: torch.Tensor) -> Topology:
    """Some edges, by index."""
    return Topology(
        topology.edge_index[:, edges],
        topology.images[edges],
        topology.structure_of_edge[edges],
        topology.offsets,
    )


def _search(
    data: AtomicData, geometry: Geometry, may_be_far: bool, options: GraphOptions
) -> tuple[torch.Tensor, torch.Tensor]:
    """Neighbours by fairchem's builder: edge_index, and the cells between them."""
    pbc = data.pbc
    # fairchem's builders search only the images within the cutoff of the cell.
    shift = torch.floor(geometry.fractional) * pbc[data.batch]
    if may_be_far:
        near, pbc, shift = compact(geometry, pbc, data.batch, options.cutoff)
    else:
        near = data.pos - torch.einsum("ni,nij->nj", shift, data.cell[data.batch])
    version = options.radius_pbc_version
    if version == 1 and bool((pbc != pbc[:1]).any()):
        # Version 1 takes one periodicity for the whole batch.
        version = 2
    searched = SimpleNamespace(
        pos=near, cell=geometry.cells, natoms=data.natoms, batch=data.batch, pbc=pbc
    )
    graph = generate_graph(
        searched,
        cutoff=options.cutoff,
        max_neighbors=options.max_neighbors,
        enforce_max_neighbors_strictly=options.enforce_max_neighbors_strictly,
        radius_pbc_version=version,
        pbc=pbc,
    )
    source, target = edge_index = graph["edge_index"]
    # From the shifted atoms to the atoms as given.
    images = graph["cell_offsets"].to(data.pos.dtype) - shift[source] + shift[target]
    return edge_index, images


def _within_limits(topology: Topology, data: AtomicData, options: GraphOptions) -> torch.Tensor:
    """Indices of the given edges that the model's own graph would hold, too."""
    edge_index = topology.edge_index
    squared = edge_vectors(topology, data.pos, data.cell).square().sum(1)
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
