"""What the layers know of the edges of a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from eqv2_plugin.common.tracing import is_traced
from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.kernels.interface import Kernels
from eqv2_plugin.kernels.reference import REFERENCE
from eqv2_plugin.kernels.segments import segment_offsets
from eqv2_plugin.layers.radial import AtomPairEmbedding, EndElements


@dataclass(frozen=True)
class EdgeBatch:
    """Edges sorted by target, with everything that all layers share.

    Attributes:
        source, target: [E] atom indices; messages go from source to target.
        elements: of the sources and of the targets.
        basis: [E, num_basis] radial basis of the distances.
        wigner: rows of the Wigner D matrices, one block [E, rows, 2l+1] per degree.
        offsets: [num_targets + 1] first edge of every target.
        layout: layout of edge features.
        kernels: that act on them in this forward pass.
        packed: the Wigner rows as these kernels want them.
        shared_pairs: atom-pair scalars that all blocks share, or None where each has its own.
        recompute: compute per-edge intermediates again in the backward pass, to keep none.
        first_target: atom that the first offset belongs to (chunks start later).
        cuts: the pieces, see `cut`; empty where all edges go at once.
    """

    source: torch.Tensor
    target: torch.Tensor
    elements: EndElements
    basis: torch.Tensor
    wigner: list[torch.Tensor]
    offsets: torch.Tensor
    layout: EdgeLayout
    kernels: Kernels = REFERENCE
    packed: torch.Tensor | None = None
    shared_pairs: AtomPairEmbedding | None = None
    recompute: bool = False
    first_target: int = 0
    cuts: tuple[EdgeBatch, ...] = ()

    @property
    def local_target(self) -> torch.Tensor:
        """Targets counted from ``first_target``."""
        return self.target - self.first_target if self.first_target else self.target

    def pairs(self, own: AtomPairEmbedding | None) -> AtomPairEmbedding | None:
        """The atom-pair scalars of a layer: its own, else those that all share, if there are."""
        return self.shared_pairs if own is None else own

    def by_chunk(self, function: Callable[..., torch.Tensor], *inputs: Any) -> torch.Tensor:
        """``function(*inputs, chunk)`` of one piece after the other, joined along the targets."""
        pieces = [
            checkpoint(function, *inputs, chunk, use_reentrant=False)
            if self.recompute
            else function(*inputs, chunk)
            for chunk in self.chunks
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=0)

    @property
    def chunks(self) -> tuple[EdgeBatch, ...]:
        """The pieces that layers take one after the other."""
        return self.cuts or (self,)

    def cut(self, size: int | None) -> EdgeBatch:
        """The same edges, to be taken in pieces of about ``size`` that split no target's edges.

        Softmax and sums over the neighbours of an atom then stay within one piece, and
        the large per-edge intermediates exist for one piece at a time.

        Args:
            size: edges; an atom with more is a piece of its own. None: all at once.
        """
        if size is None or self.target.shape[0] <= size:
            return dataclasses.replace(self, cuts=())
        offsets = self.offsets.tolist()
        pieces, node = [], 0
        while node < len(offsets) - 1:
            end = node + 1
            while end < len(offsets) - 1 and offsets[end + 1] - offsets[node] <= size:
                end += 1
            pieces.append(self._piece(node, end, offsets[node], offsets[end]))
            node = end
        return dataclasses.replace(self, cuts=tuple(pieces))

    def _piece(self, first_node: int, end_node: int, first: int, end: int) -> EdgeBatch:
        cut = slice(first, end)
        return EdgeBatch(
            source=self.source[cut],
            target=self.target[cut],
            elements=self.elements.cut(cut),
            basis=self.basis[cut],
            wigner=[block[cut] for block in self.wigner],
            offsets=self.offsets[first_node : end_node + 1] - first,
            layout=self.layout,
            kernels=self.kernels,
            shared_pairs=self.shared_pairs,
            packed=None if self.packed is None else self.packed[cut],
            recompute=self.recompute,
            first_target=first_node,
        )


def sort_by_target(edge_index: torch.Tensor, num_nodes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Stable order of edges by target, and the offsets of the targets.

    Args:
        edge_index: [2, E], row 0 the sources, row 1 the targets.
        num_nodes: number of atoms.
    """
    order = torch.argsort(edge_index[1], stable=True)
    return order, segment_offsets(edge_index[1][order], num_nodes)


def chunk_size(
    configured: int | None, features: torch.Tensor, recompute: bool = False
) -> int | None:
    """Edges to process at a time: as configured, else what suits the device.

    On a CPU a few hundred edges keep the intermediates in the cache, where none of them is kept
    for a backward pass. Otherwise, and inside torch.compile, all edges go at once.
    """
    if configured is not None:
        return configured
    if is_traced() or features.device.type != "cpu":
        return None
    return 512 if recompute or not torch.is_grad_enabled() else None
