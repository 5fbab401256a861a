"""The EquiformerV2 backbone behind fairchem's BackboneInterface (Figure 1a)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from fairchem.core.common.registry import registry
from fairchem.core.models.base import BackboneInterface
from fairchem.core.models.uma.escn_md import GradRegressConfig
from torch import nn

from eqv2_plugin.backbones.equiformer_v2.block import TransformerBlock
from eqv2_plugin.backbones.equiformer_v2.config import BackboneConfig
from eqv2_plugin.common.naming import element_name
from eqv2_plugin.geometry.edge_frames import edge_frames
from eqv2_plugin.geometry.irreps import EdgeLayout, num_coefficients
from eqv2_plugin.geometry.wigner import stretched_coupling, wigner_rows
from eqv2_plugin.graphs.build import Graph, build_graph
from eqv2_plugin.graphs.checks import check_cell, complete_cells
from eqv2_plugin.graphs.refusals import refuse_graph_parallel, refuse_short_graph
from eqv2_plugin.kernels.choice import choose_kernels
from eqv2_plugin.layers.constants import ExactConstants
from eqv2_plugin.layers.edge_degree import EdgeDegreeEmbedding
from eqv2_plugin.layers.edges import EdgeBatch, chunk_size
from eqv2_plugin.layers.force_embedding import ForceEmbedding
from eqv2_plugin.layers.norms import make_norm
from eqv2_plugin.layers.radial import AtomPairEmbedding, GaussianBasis, LearnableGaussianBasis

if TYPE_CHECKING:
    from ase import Atoms
    from fairchem.core.datasets.atomic_data import AtomicData
    from fairchem.core.units.mlip_unit.api.inference import InferenceSettings
    from fairchem.core.units.mlip_unit.mlip_unit import Task


# Fields of a training batch that DeNS corrupted (see `eqv2_plugin.dens`).
ENCODED_FORCES = "encoded_forces"
NOISE_SIGMA = "noise_sigma"


class WignerConstants(ExactConstants):
    """Clebsch-Gordan couplings of `wigner_rows` in the model's dtype."""

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        for degree in range(2, lmax + 1):
            self.register_constant(f"coupling_{degree}", stretched_coupling(degree))

    def couplings(self) -> list[torch.Tensor]:
        return [getattr(self, f"coupling_{degree}") for degree in range(2, self.lmax + 1)]


@registry.register_model("equiformer_v2_backbone")
class EquiformerV2Backbone(nn.Module, BackboneInterface):
    """Node embeddings of degrees 0..lmax for every atom.

    Args:
        **options: fields of `BackboneConfig`.

    Raises:
        ValueError: a misspelt option or a value out of range.
        RuntimeError: graph parallelism is switched on, which this backbone does not have.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.config = config = BackboneConfig.from_options(options)
        refuse_graph_parallel()
        self.regress_config = GradRegressConfig(
            direct_forces=config.direct_forces,
            forces=config.regress_forces,
            stress=config.regress_stress,
        )
        self.layout = EdgeLayout(config.lmax, config.mmax)
        self.wigner_constants = WignerConstants(config.lmax)
        basis = GaussianBasis if config.distance_basis == "gaussian" else LearnableGaussianBasis
        self.distance_basis = basis(config.cutoff, config.num_distance_basis)
        self.atom_embedding = nn.Embedding(config.max_num_elements, config.sphere_channels)
        self.shared_pairs = (
            AtomPairEmbedding(config.max_num_elements, config.edge_channels)
            if config.atom_edge_embedding == "shared"
            else None
        )
        self.force_embedding = (
            ForceEmbedding(config.lmax, config.sphere_channels, config.sigma_encoding)
            if config.force_encoding
            else None
        )
        self.edge_degree_embedding = EdgeDegreeEmbedding(config)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.num_layers))
        self.norm = make_norm(config.norm_type, config.lmax, config.sphere_channels)

    def forward(self, data: AtomicData) -> dict[str, Any]:
        """Embed a batch.

        Args:
            data: fairchem's batch, see `build_graph`.

        Returns:
            ``node_embedding`` [N, (lmax+1)^2, C], ``edges`` (`EdgeBatch`), ``edge_vectors``
            [E, 3] in Å and ``batch``, for the heads.
        """
        refuse_graph_parallel()
        # fairchem's element references look these up under graph-parallel names.
        data["atomic_numbers_full"] = data["atomic_numbers"]
        data["batch_full"] = data["batch"]
        conservative = self.is_conservative
        if conservative:
            data["pos"].requires_grad_(True)
            if self.regress_config.stress:
                # A stress without volume is masked; a volume of zero would still spoil gradients.
                data["cell"] = complete_cells(data["cell"].detach(), data["pbc"])
                data["cell"].requires_grad_(True)
        with torch.enable_grad() if conservative else nullcontext():
            graph = build_graph(data, self.config)
            return self.embed(
                graph,
                data["atomic_numbers"],
                data["batch"],
                len(data["natoms"]),
                encoded=self._encoded_forces(data),
            )

    def _encoded_forces(self, data: AtomicData) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Forces and noise levels that the DeNS unit put into a training batch.

        Raises:
            RuntimeError: they are there outside training, where labels must not be seen.
        """
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
        """Whether forces or stress are wanted as gradients (fairchem may switch them on)."""
        wanted = self.regress_config.forces or self.regress_config.stress
        return wanted and not self.regress_config.direct_forces

    def embed(
        self,
        graph: Graph,
        atomic_numbers: torch.Tensor,
        structure_of_atom: torch.Tensor,
        num_structures: int,
        frames: torch.Tensor | None = None,
        encoded: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> dict[str, Any]:
        """Node embeddings on a given graph.

        Args:
            graph: edges sorted by target.
            atomic_numbers: [N].
            structure_of_atom: [N].
            num_structures: B.
            frames: [E, 3, 3] edge frames; `edge_frames` of the vectors by default.
            encoded: forces [N, 3] in eV/Å of corrupted atoms, zero for the others, and noise
                levels [N] in Å, zero for atoms of plain structures (DeNS); none by default.

        Returns:
            See `forward`.
        """
        edges = self._edge_batch(graph, atomic_numbers, frames)
        scalars = self.atom_embedding(atomic_numbers)
        rows = num_coefficients(self.config.lmax)
        nodes = nn.functional.pad(scalars.unsqueeze(1), (0, 0, 0, rows - 1))
        if self.force_embedding is not None:
            if encoded is None:
                encoded = graph.vectors.new_zeros(len(scalars), 3), scalars.new_zeros(len(scalars))
            nodes = nodes + self.force_embedding(*encoded)
        nodes = nodes + self.edge_degree_embedding(edges)
        for block in self.blocks:
            nodes = block(nodes, edges, structure_of_atom, num_structures)
        return {
            "node_embedding": self.norm(nodes),
            "edges": edges,
            "edge_vectors": graph.vectors,
            "batch": structure_of_atom,
        }

    def _edge_batch(
        self, graph: Graph, atomic_numbers: torch.Tensor, frames: torch.Tensor | None
    ) -> EdgeBatch:
        source, target = graph.edge_index
        # Geometry keeps the full precision of the positions, also under autocast.
        with torch.autocast(graph.vectors.device.type, enabled=False):
            if frames is None:
                frames = edge_frames(graph.vectors)
            distances = torch.linalg.vector_norm(graph.vectors, dim=1)
            wigner = wigner_rows(frames, self.layout, self.wigner_constants.couplings())
            basis = self.distance_basis(distances)
        channels = self.config.sphere_channels
        features = len(atomic_numbers) * num_coefficients(self.config.lmax) * channels
        kernels = choose_kernels(wigner[-1], features, channels)
        edges = EdgeBatch(
            source=source,
            target=target,
            elements=(atomic_numbers[source], atomic_numbers[target]),
            basis=basis,
            wigner=wigner,
            offsets=graph.offsets,
            layout=self.layout,
            kernels=kernels,
            packed=kernels.pack(wigner),
            shared_pairs=self.shared_pairs,
        )
        recompute = self.config.activation_checkpointing and torch.is_grad_enabled()
        return edges.cut(chunk_size(self.config.edge_chunk_size, basis, recompute))

    @property
    def num_params(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    @classmethod
    def build_inference_settings(cls, settings: InferenceSettings) -> dict:
        """Options that fairchem's inference settings override."""
        overrides: dict[str, Any] = {
            "otf_graph": not settings.external_graph_gen,
            "radius_pbc_version": settings.internal_graph_gen_version,
            "activation_checkpointing": settings.activation_checkpointing,
        }
        if settings.edge_chunk_size is not None:
            overrides["edge_chunk_size"] = settings.edge_chunk_size
        return overrides

    def get_default_untrained_tasks(
        self, checkpoint_tasks: dict[str, Task], inference_settings: InferenceSettings
    ) -> list[Task]:
        """None: a stress that nobody asked for would cost a gradient per call.

        Raises:
            ValueError: the graph is to come from fairchem's calculator, see `refuse_short_graph`;
                here, because fairchem calls this when a calculator is made.
        """
        refuse_short_graph(self.config.cutoff, inference_settings)
        return []

    def validate_tasks(self, dataset_to_tasks: dict[str, list]) -> None:
        """Any data set will do; a gradient must not be shifted by its normaliser.

        fairchem copies the energy's normaliser for derivative tasks that it adds.

        Raises:
            ValueError: forces or stress of a conservative model whose normaliser has a mean.
        """
        if self.regress_config.direct_forces:
            return
        for tasks in dataset_to_tasks.values():
            for task in tasks:
                mean = float(torch.as_tensor(task.normalizer.mean).abs().max())
                if task.property in ("forces", "stress", "hessian") and mean > 0.0:
                    raise ValueError(
                        f"the normaliser of task {task.name!r} has the mean {mean:g}, but "
                        f"{task.property} are a gradient of the energy and must not be shifted. "
                        "Train conservative models with energy_normalizer.mean=0"
                    )

    def prepare_for_inference(
        self, data: AtomicData, settings: InferenceSettings
    ) -> EquiformerV2Backbone:
        """Nothing to prepare.

        Raises:
            ValueError: see `refuse_short_graph`.
        """
        refuse_short_graph(self.config.cutoff, settings)
        return self

    def on_predict_check(self, data: AtomicData) -> None:
        """Structures are checked when the graph is built."""

    def validate_atoms_data(self, atoms: Atoms, task_name: str) -> None:
        """Check elements and cell before anything is computed.

        Raises:
            ValueError: an element that the model does not know, or a cell that is not finite, or
                without a vector for a periodic direction.
        """
        most = self.config.max_num_elements - 1
        unknown = {i: int(z) for i, z in enumerate(atoms.numbers) if not 1 <= z <= most}
        if unknown:
            symbols = ", ".join(element_name(z) for z in sorted(set(unknown.values())))
            raise ValueError(
                f"the model knows atomic numbers 1..{most}, but the structure contains {symbols} "
                f"(first: atom {min(unknown)})"
            )
        check_cell(atoms)
