"""What a forward pass reads of a batch, as tensors alone."""

from __future__ import annotations

from typing import NamedTuple

import torch

from eqv2_plugin.graphs.build import Topology


class StaticBatch(NamedTuple):
    """A batch whose edges are known, so that its shapes say all that its values could.

    Attributes:
        pos: [N, 3] Å.
        cell: [B, 3, 3] Å.
        pbc: [B, 3].
        natoms: [B].
        batch: [N] structure of every atom, ascending.
        atomic_numbers: [N].
        topology: the edges.
        encoded_forces, noise_sigma: [N, 3] eV/Å and [N] Å, of DeNS; None without.
        head_of_structure: [B] which head each structure belongs to, of models with a head for
            each data set; None of others.
    """

    pos: torch.Tensor
    cell: torch.Tensor
    pbc: torch.Tensor
    natoms: torch.Tensor
    batch: torch.Tensor
    atomic_numbers: torch.Tensor
    topology: Topology
    encoded_forces: torch.Tensor | None = None
    noise_sigma: torch.Tensor | None = None
    head_of_structure: torch.Tensor | None = None

    def as_data(self) -> dict[str, torch.Tensor]:
        """By fairchem's names, as heads read them."""
        fields = self._asdict()
        del fields["topology"]
        return {name: value for name, value in fields.items() if value is not None}
