"""Which neighbours a model sees, and which elements it knows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GraphOptions:
    """What the graph of a batch depends on.

    Attributes:
        cutoff: Å.
        max_neighbors: neighbours kept per atom, the nearest ones.
        enforce_max_neighbors_strictly: drop further neighbours even if as near as the last.
        max_num_elements: atomic numbers below this are known.
        otf_graph: build the graph here; otherwise the input brings ``edge_index``.
        radius_pbc_version: fairchem's graph builder, 1, 2 or 3.
    """

    cutoff: float = 12.0
    max_neighbors: int = 20
    enforce_max_neighbors_strictly: bool = False
    max_num_elements: int = 90
    otf_graph: bool = True
    radius_pbc_version: int = 2

    def __post_init__(self) -> None:
        if self.radius_pbc_version not in (1, 2, 3):
            raise ValueError(f"radius_pbc_version must be 1, 2 or 3, got {self.radius_pbc_version}")
