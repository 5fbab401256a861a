"""Edges of molecules that move, searched anew only where they may have changed.

In molecular dynamics of a small molecule the search takes as long as half of a compiled forward
pass, and finds the same edges again as long as no pair of atoms comes near the cutoff.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from fairchem.core.datasets.atomic_data import AtomicData

from eqv2_plugin.graphs.build import Topology, find_edges
from eqv2_plugin.graphs.checks import FAR
from eqv2_plugin.graphs.options import GraphOptions

# Å. Nearer to the cutoff than this, rounding might decide; nearer to each other, atoms coincide.
_MARGIN, _NEAREST = 1e-3, 0.1
# Beyond, looking at all pairs costs more than the search.
_MOST_ATOMS, _MOST_PAIRS = 2000, 20_000
_SAME = ("natoms", "atomic_numbers", "batch", "cell")


@dataclass(frozen=True)
class _Kept:
    """Edges, and what has to hold for them to be those of another batch."""

    topology: Topology
    fields: dict[str, torch.Tensor]
    first: torch.Tensor  # [P] atoms of all pairs within structures
    second: torch.Tensor
    least: torch.Tensor  # [P] Å^2 between them
    most: torch.Tensor

    def hold(self, data: AtomicData) -> bool:
        if data.pos.dtype != self.least.dtype or bool(data.pbc.any()):
            return False
        if not all(torch.equal(data[name], value) for name, value in self.fields.items()):
            return False
        pos = data.pos.detach()
        squared = _squared(pos, self.first, self.second)
        # Whatever is no number is in no range.
        within = (squared > self.least) & (squared < self.most)
        return bool(within.all() & (pos.abs().amax() < FAR))


class KeptEdges:
    """`find_edges` for batches that follow each other: the same edges.

    It remembers edges of molecules (no periodic directions) of which no atom has more neighbours
    than the model takes; other batches are searched each time. The order of those edges is by
    target and source, where that of a search depends on positions: so it does not depend on which
    batch was searched last, and neither do the bits of what is computed.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def find(self, data: AtomicData, options: GraphOptions) -> Topology:
        """See `find_edges`."""
        if self._kept is not None and self._kept.hold(data):
            return self._kept.topology
        topology = find_edges(data, options)
        self._kept = _kept(data, topology, options)
        return topology if self._kept is None else self._kept.topology


def _kept(data: AtomicData, topology: Topology, options: GraphOptions) -> _Kept | None:
    pairs = int((data.natoms * (data.natoms - 1)).sum()) // 2
    large = len(data.pos) > _MOST_ATOMS or pairs > _MOST_PAIRS
    if large or not options.otf_graph or bool(data.pbc.any()):
        return None
    together = data.batch.unsqueeze(0) == data.batch.unsqueeze(1)
    first, second = together.triu(1).nonzero().unbind(1)
    squared = _squared(data.pos.detach(), first, second)
    inside = squared < options.cutoff**2
    if 2 * int(inside.sum()) != topology.edge_index.shape[1]:  # too many neighbours
        return None
    near, far = (options.cutoff - _MARGIN) ** 2, (options.cutoff + _MARGIN) ** 2
    least = torch.where(inside, _NEAREST**2, far).to(squared.dtype)
    most = torch.where(inside, near, torch.inf).to(squared.dtype)
    fields = {name: data[name].detach().clone() for name in _SAME}
    return _Kept(_by_ends(topology, len(data.pos)), fields, first, second, least, most)


def _by_ends(topology: Topology, atoms: int) -> Topology:
    """Edges by target, then source; a molecule has one at most of both."""
    source, target = topology.edge_index
    order = torch.argsort(target * atoms + source)
    return topology._replace(
        edge_index=topology.edge_index[:, order],
        images=topology.images[order],
        structure_of_edge=topology.structure_of_edge[order],
    )


def _squared(pos: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """[P] Å^2."""
    return (pos.index_select(0, first) - pos.index_select(0, second)).square().sum(1)
