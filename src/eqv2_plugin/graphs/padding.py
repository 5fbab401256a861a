"""Few sizes: dummy structures, atoms and edges fill a batch up to the size of its bucket.

Compiled and captured forward passes want shapes that stay. Dummy edges join dummy atoms of dummy
structures, so that nothing of them reaches a real atom; outputs are cut back to the real rows, so
that no gradient reaches a parameter through them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from eqv2_plugin.graphs.build import Topology
from eqv2_plugin.graphs.static_batch import StaticBatch

# Å. A volume, and a first vector whose direction is far from both poles and from the border of the
# edge frames' charts: dummy edges lead from an atom to its own image along it.
_CELL = ((1.2, 0.5, 0.7), (0.0, 1.3, 0.4), (0.3, 0.0, 1.1))
_ELEMENT = 1


class Sizes(NamedTuple):
    """Numbers of structures, atoms and edges of a batch."""

    structures: int
    atoms: int
    edges: int

    def hold(self, other: Sizes) -> bool:
        """Whether a batch of the other size can be padded to this one, or has it already."""
        extra = Sizes(*(mine - its for mine, its in zip(self, other, strict=True)))
        if not any(extra):
            return True
        return 0 < extra.structures < extra.atoms and extra.edges >= 0


def sizes_of(batch: StaticBatch) -> Sizes:
    """Read from shapes."""
    return Sizes(len(batch.natoms), len(batch.pos), batch.topology.edge_index.shape[1])


def bucket(sizes: Sizes, growth: float) -> Sizes:
    """The size of the bucket that holds a batch, with room for at least one dummy structure.

    Atoms and edges are rounded up to a power of ``growth``, and then to a multiple of 8.

    Args:
        sizes: of the batch.
        growth: ratio of neighbouring buckets, above 1.
    """
    structures = sizes.structures + 1
    return Sizes(
        structures,
        _rounded_up(sizes.atoms + 2, growth),
        _rounded_up(max(sizes.edges, 1), growth),
    )


def bucket_of_copies(copies: int, atoms: int, edges: int) -> Sizes:
    """The size of a bucket that holds up to so many structures of at most these sizes each."""
    return Sizes(copies + 1, _multiple_of_8(copies * atoms + 2), _multiple_of_8(copies * edges))


def _rounded_up(number: int, growth: float) -> int:
    power = math.ceil(math.log(number, growth) - 1e-9)
    return _multiple_of_8(max(growth**power, number))


def _multiple_of_8(number: float) -> int:
    return math.ceil(number / 8) * 8


def pad(batch: StaticBatch, sizes: Sizes) -> StaticBatch:
    """The batch with dummies behind its structures, atoms and edges.

    Args:
        batch: of B structures, N atoms and E edges.
        sizes: which hold it; see `Sizes.hold`.

    Raises:
        ValueError: a batch that does not fit.
    """
    own = sizes_of(batch)
    if own == sizes:
        return batch
    if not sizes.hold(own):
        raise ValueError(f"{own} does not fit into {sizes}: choose a larger bucket")
    structures, atoms, edges = (b - a for a, b in zip(own, sizes, strict=True))
    device = batch.pos.device
    # Spread evenly, so that no dummy has many more neighbours than others.
    structure_of_atom = torch.arange(atoms, device=device) * structures // atoms
    atom_of_edge = torch.arange(edges, device=device) * atoms // max(edges, 1)
    ends = own.atoms + atom_of_edge
    cells = batch.cell.new_tensor(_CELL).expand(structures, 3, 3)
    natoms = torch.searchsorted(
        structure_of_atom, torch.arange(structures + 1, device=device)
    ).diff()
    along = batch.pos.new_zeros(edges, 3)
    along[:, 0] = 1.0
    topology = batch.topology
    offsets = torch.searchsorted(atom_of_edge, torch.arange(1, atoms + 1, device=device))
    padded = Topology(
        torch.cat((topology.edge_index, ends.expand(2, -1)), dim=1),
        torch.cat((topology.images, along)),
        torch.cat((topology.structure_of_edge, own.structures + structure_of_atom[atom_of_edge])),
        torch.cat((topology.offsets, own.edges + offsets)),
    )
    return StaticBatch(
        pos=_zeros_behind(batch.pos, atoms),
        cell=torch.cat((batch.cell, cells)),
        pbc=torch.cat((batch.pbc, batch.pbc.new_ones(structures, 3))),
        natoms=torch.cat((batch.natoms, natoms)),
        batch=torch.cat((batch.batch, own.structures + structure_of_atom)),
        atomic_numbers=torch.cat(
            (batch.atomic_numbers, batch.atomic_numbers.new_full((atoms,), _ELEMENT))
        ),
        topology=padded,
        encoded_forces=_zeros_behind(batch.encoded_forces, atoms),
        noise_sigma=_zeros_behind(batch.noise_sigma, atoms),
        head_of_structure=_zeros_behind(batch.head_of_structure, structures),
    )


def _zeros_behind(values: torch.Tensor | None, rows: int) -> torch.Tensor | None:
    if values is None:
        return None
    return torch.cat((values, values.new_zeros(rows, *values.shape[1:])))


def unpad(output: torch.Tensor, padded: Sizes, own: Sizes) -> torch.Tensor:
    """The real rows of an output per structure or per atom.

    Args:
        output: [structures, ...] or [atoms, ...] of the padded batch, of which there are more atoms
            than structures.
        padded: sizes of the padded batch.
        own: sizes of the batch before.
    """
    if padded == own:
        return output
    return output[: own.atoms if len(output) == padded.atoms else own.structures]
