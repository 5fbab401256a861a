"""Random edges and features for the compiled kernels and their plain twins."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from eqv2_plugin.geometry.edge_frames import edge_frames
from eqv2_plugin.geometry.irreps import EdgeLayout, num_coefficients
from eqv2_plugin.geometry.wigner import stretched_coupling, wigner_rows
from eqv2_plugin.kernels.segments import segment_offsets


@dataclass
class Inputs:
    """Twelve nodes, some without edges; two edges may share both ends."""

    layout: EdgeLayout
    nodes: torch.Tensor
    source: torch.Tensor
    target: torch.Tensor
    offsets: torch.Tensor
    blocks: list[torch.Tensor]
    generator: torch.Generator

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator)

    @property
    def edges(self) -> int:
        return len(self.source)


def make_inputs(lmax: int, mmax: int, channels: int, edges: int = 37) -> Inputs:
    generator = torch.Generator().manual_seed(100 * lmax + 10 * mmax + channels)
    layout = EdgeLayout(lmax, mmax)
    vectors = torch.randn(edges, 3, generator=generator, dtype=torch.float64)
    couplings = [torch.from_numpy(stretched_coupling(l)) for l in range(2, lmax + 1)]
    blocks = [block.float() for block in wigner_rows(edge_frames(vectors), layout, couplings)]
    # Nodes 0, 5 and 11 have no edges.
    with_edges = torch.tensor([1, 2, 3, 4, 6, 7, 8, 9, 10])
    picked = torch.randint(len(with_edges), (edges,), generator=generator)
    target = with_edges[picked].sort().values
    return Inputs(
        layout=layout,
        nodes=torch.randn(12, num_coefficients(lmax), channels, generator=generator),
        source=torch.randint(12, (edges,), generator=generator),
        target=target,
        offsets=segment_offsets(target, 12),
        blocks=blocks,
        generator=generator,
    )


def strided(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers with other strides in the first two dimensions."""
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted.double()).abs().max() / wanted.double().abs().max())
