"""Random graphs as the layers see them."""

from __future__ import annotations

import torch
from helpers import generator, randn, targets_of

from eqv2_plugin.backbones.equiformer_v2.config import EquiformerV2Config
from eqv2_plugin.geometry.edge_frames import edge_frames
from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.geometry.wigner import stretched_coupling, wigner_rows
from eqv2_plugin.layers.edges import EdgeBatch, sort_by_target
from eqv2_plugin.layers.radial import EndElements, GaussianBasis


def random_vectors(num_edges: int, seed: int) -> torch.Tensor:
    """Edge vectors of 1 to 4 Å."""
    directions = torch.nn.functional.normalize(randn(seed, num_edges, 3), dim=1)
    return directions * (1 + 3 * torch.rand(num_edges, 1, generator=generator(seed)).double())


def edge_batch(
    config: EquiformerV2Config,
    counts: list[int],
    seed: int = 0,
    rotation: torch.Tensor | None = None,
    vectors: torch.Tensor | None = None,
) -> EdgeBatch:
    """Edges of random direction, source and elements; ``rotation`` turns their vectors."""
    target = targets_of(counts)
    num_edges = len(target)
    source = torch.randint(len(counts), (num_edges,), generator=generator(seed))
    numbers = torch.randint(1, config.max_num_elements, (len(counts),), generator=generator(seed))
    vectors = random_vectors(num_edges, seed) if vectors is None else vectors
    if rotation is not None:
        vectors = vectors @ rotation.T
    layout = EdgeLayout(config.lmax, config.mmax)
    couplings = [torch.from_numpy(stretched_coupling(l)) for l in range(2, config.lmax + 1)]
    basis = GaussianBasis(config.cutoff, config.num_distance_basis).double()
    order, offsets = sort_by_target(torch.stack((source, target)), len(counts))
    assert torch.equal(order, torch.arange(num_edges))
    return EdgeBatch(
        source=source,
        target=target,
        elements=EndElements(numbers[source], numbers[target]),
        basis=basis(torch.linalg.vector_norm(vectors, dim=1)),
        wigner=wigner_rows(edge_frames(vectors), layout, couplings),
        offsets=offsets,
        layout=layout,
    )
