"""What heads, DeNS, tasks and the model ask of a backbone, and what all backbones share.

A new backbone is a dataclass of options (`BackboneOptions`), a class derived from `Backbone`, and a
line in `registered.py`. The class must have `embed` and `scalar_network`; `vector_network` is asked
for by heads for direct forces and noise, `spherical` by the direct stress head. Its node features
may have any form: only the networks that it builds itself read them. A module that embeds forces
(DeNS) is called ``force_embedding``: fine-tuning may add it to a checkpoint without.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from fairchem.core.models.uma.escn_md import GradRegressConfig
from torch import nn

from eqv2_plugin.backbones.fairchem import FairchemBackbone, refuse_graph_parallel
from eqv2_plugin.backbones.options import BackboneOptions
from eqv2_plugin.graphs.build import Graph, Topology, find_edges, graph_of
from eqv2_plugin.graphs.checks import complete_cells
from eqv2_plugin.graphs.kept import KeptEdges
from eqv2_plugin.graphs.static_batch import StaticBatch
from eqv2_plugin.layers.norms import NormType

if TYPE_CHECKING:
    from fairchem.core.datasets.atomic_data import AtomicData

# Fields of a training batch that DeNS corrupted: forces [N, 3] in eV/Å of corrupted atoms, zero for
# the others, and noise levels [N] in Å, zero for atoms of plain structures.
ENCODED_FORCES = "encoded_forces"
NOISE_SIGMA = "noise_sigma"


class Spherical(NamedTuple):
    """Node features [N, (lmax+1)^2, channels] in e3nn's basis, and their normalisation."""

    lmax: int
    channels: int
    norm_type: NormType


class Backbone(FairchemBackbone):
    """Base of all backbones.

    Args:
        **options: fields of ``Options``.

    Attributes:
        config: the options; other rooms read those of `BackboneOptions` alone.
        regress_config: which gradients are wanted; fairchem may switch further ones on.

    Raises:
        ValueError: a misspelt option or a value out of range.
        RuntimeError: graph parallelism is switched on.
    """

    Options: ClassVar[type[BackboneOptions]]
    config: BackboneOptions

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.config = self.Options.from_options(options)
        refuse_graph_parallel()
        self.regress_config = GradRegressConfig(
            direct_forces=self.config.direct_forces,
            forces=self.config.regress_forces,
            stress=self.config.regress_stress,
        )

    @abstractmethod
    def embed(
        self,
        graph: Graph,
        atomic_numbers: torch.Tensor,
        structure_of_atom: torch.Tensor,
        num_structures: int,
        *,
        encoded: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> dict[str, Any]:
        """Node embeddings on a given graph.

        Args:
            graph: edges sorted by target.
            atomic_numbers: [N].
            structure_of_atom: [N].
            num_structures: B.
            encoded: what ``ENCODED_FORCES`` and ``NOISE_SIGMA`` hold; None without DeNS.

        Returns:
            ``node_embedding`` and ``edges`` in the form that the backbone's networks take, and
            ``graph``.
        """

    @abstractmethod
    def scalar_network(self) -> nn.Module:
        """From ``node_embedding`` to one invariant per atom, [N, ...] of N numbers."""

    def vector_network(self) -> nn.Module:
        """From ``node_embedding`` and ``edges`` to a vector per atom, [N, ...] of 3 N numbers.

        Raises:
            ValueError: the backbone has none.
        """
        raise ValueError(
            f"{type(self).__name__} has no vector_network, so it predicts neither direct forces "
            "nor the noise of DeNS"
        )

    @property
    def spherical(self) -> Spherical | None:
        """The form of ``node_embedding`` where it is one tensor of all degrees, else None."""
        return None

    @property
    def energy_divisor(self) -> float:
        """By which sums over the atoms of a structure are divided."""
        return self.config.avg_num_nodes

    def better_uncompiled(self, positions: torch.Tensor) -> bool:
        """Whether its own path on these positions is at least as good as torch.compile's."""
        return False

    def forward(self, data: AtomicData) -> dict[str, Any]:
        """`embed` a batch of fairchem's, see `find_edges`.

        Raises:
            RuntimeError: forces were encoded outside training.
        """
        return self.on_edges(data, self.find_edges(data))

    def find_edges(self, data: AtomicData, kept: KeptEdges | None = None) -> Topology:
        """See `eqv2_plugin.graphs.build.find_edges`, and `KeptEdges`."""
        refuse_graph_parallel()
        name_for_references(data)
        return find_edges(data, self.config) if kept is None else kept.find(data, self.config)

    def static_batch(self, data: AtomicData, kept: KeptEdges | None = None) -> StaticBatch:
        """The batch as tensors alone, and its edges, for `on_edges`.

        Args:
            data: fairchem's batch.
            kept: edges of the batch before; searched where those may have changed.
        """
        forces, sigma = self._encoded_forces(data) or (None, None)
        return StaticBatch(
            pos=data["pos"],
            cell=data["cell"],
            pbc=data["pbc"],
            natoms=data["natoms"],
            batch=data["batch"],
            atomic_numbers=data["atomic_numbers"],
            topology=self.find_edges(data, kept),
            encoded_forces=forces,
            noise_sigma=sigma,
        )

    def on_edges(
        self, data: AtomicData | dict[str, torch.Tensor], topology: Topology
    ) -> dict[str, Any]:
        """`embed` a batch whose edges are known: fixed shapes, and nothing is read back.

        Gradients that a head will take start here: ``pos`` (and ``cell``) of ``data`` are made to
        require them.

        Args:
            data: by fairchem's names, see `StaticBatch`.
            topology: its edges.
        """
        conservative = self.is_conservative
        if conservative:
            data["pos"].requires_grad_(True)
            if self.regress_config.stress:
                # A stress without volume is masked; a volume of zero would still spoil gradients.
                data["cell"] = complete_cells(data["cell"].detach(), data["pbc"])
                data["cell"].requires_grad_(True)
        with torch.enable_grad() if conservative else nullcontext():
            return self.embed(
                graph_of(topology, data["pos"], data["cell"]),
                data["atomic_numbers"],
                data["batch"],
                len(data["natoms"]),
                encoded=self._encoded_forces(data),
                **self.further_inputs(data),
            )

    def further_inputs(self, data: AtomicData | dict[str, torch.Tensor]) -> dict[str, Any]:
        """What else `embed` of this backbone takes from a batch, by the names of its arguments."""
        return {}

    def _encoded_forces(
        self, data: AtomicData | dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        if ENCODED_FORCES not in data:
            return None
        if not self.training:
            raise RuntimeError(
                f"a batch with {ENCODED_FORCES!r} reached the model outside training: predictions "
                "must not see force labels"
            )
        return data[ENCODED_FORCES], data[NOISE_SIGMA]

    @property
    def is_conservative(self) -> bool:
        """Whether forces or stress are wanted as gradients of the energy."""
        wanted = self.regress_config.forces or self.regress_config.stress
        return wanted and not self.regress_config.direct_forces


def name_for_references(data: AtomicData) -> None:
    """fairchem's element references look up atoms under graph-parallel names; in place."""
    data["atomic_numbers_full"] = data["atomic_numbers"]
    data["batch_full"] = data["batch"]


def checked_backbone(backbone: nn.Module, head: str) -> Backbone:
    """The backbone that a head is attached to.

    Raises:
        ValueError: it is none of ours.
    """
    if not isinstance(backbone, Backbone):
        raise ValueError(
            f"{head} needs a backbone derived from {Backbone.__module__}.Backbone, such as "
            "eqv2_plugin.backbones.equiformer_v2.backbone.EquiformerV2Backbone, got "
            f"{type(backbone).__name__}: set backbone.model accordingly"
        )
    return backbone
