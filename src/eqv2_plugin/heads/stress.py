"""Direct stress heads: the rank-2 symmetric tensors of OMat24 and MPtrj checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from e3nn import o3
from fairchem.core.common.registry import registry
from fairchem.core.models.base import HeadInterface
from torch import nn

from eqv2_plugin.backbones.protocol import Backbone, checked_backbone
from eqv2_plugin.graphs.build import Graph
from eqv2_plugin.heads.energy import sum_over_atoms
from eqv2_plugin.kernels.gather import gather_ends
from eqv2_plugin.kernels.segments import gather_at_targets, sum_over_neighbours
from eqv2_plugin.layers.norms import make_norm

if TYPE_CHECKING:
    from fairchem.core.datasets.atomic_data import AtomicData


def where_volume(stress: torch.Tensor, pbc: torch.Tensor, *, training: bool) -> torch.Tensor:
    """``stress`` of the structures that have a volume; NaN, or zero in training, of the others.

    A NaN would survive the mask of a training loss, which multiplies by zero: there the value
    is a zero that no gradient flows through.

    Args:
        stress: [B, ...].
        pbc: [B, 3] bool.
        training: whether the head is being trained.
    """
    periodic = pbc.all(1).view(-1, *[1] * (stress.dim() - 1))
    return torch.where(periodic, stress, 0.0 if training else torch.nan)


def _mlp(width: int, num_layers: int) -> nn.Sequential:
    """``num_layers`` linear layers with SiLU between them, the last to one output."""
    layers: list[nn.Module] = []
    for _ in range(num_layers - 1):
        layers += [nn.Linear(width, width), nn.SiLU()]
    layers.append(nn.Linear(width, 1))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


@registry.register_model("rank2_symmetric_head")
class StressHead(nn.Module, HeadInterface):
    """A symmetric rank-2 tensor per structure from invariant edge features.

    Each edge projects the embedding of its target (and source) onto the harmonics of its
    direction; an MLP then weights either the outer product of the edge vector (full form)
    or a scalar and the harmonics of degree 2 (decomposed form). Means are taken over the
    edges of an atom and over the atoms.

    The MLP acts on each tensor component by itself, as in the published models. Its SiLU
    breaks rotational equivariance: only the isotropic part is invariant. For an equivariant
    stress use `ConservativeHead`.

    Args:
        backbone: any `Backbone`.
        output_name: key of the output.
        decompose: return the irreps of degree 0 and 2 apart.
        edge_level_mlp: apply the MLP before the mean over edges.
        num_mlp_layers: its number of linear layers.
        use_source_target_embedding: project sources as well as targets.
        extensive: sum over atoms instead of the mean; the decomposed form then divides
            by ``avg_num_nodes``.
        avg_num_nodes: see ``extensive``.

    Returns from ``forward``: full form {output_name: [B, 9]}; decomposed form
    {output_name + "_isotropic": [B, 1], output_name + "_anisotropic": [B, 5]}. Where a
    direction is not periodic they are NaN, see `where_volume`.
    """

    def __init__(
        self,
        backbone: Backbone,
        output_name: str = "stress",
        decompose: bool = False,
        edge_level_mlp: bool = False,
        num_mlp_layers: int = 2,
        use_source_target_embedding: bool = False,
        extensive: bool = False,
        avg_num_nodes: float = 1.0,
    ) -> None:
        super().__init__()
        form = checked_backbone(backbone, "StressHead").spherical
        if form is None:
            raise ValueError(
                f"StressHead needs node features of one form for all degrees, which "
                f"{type(backbone).__name__} does not say it has (spherical): use ConservativeHead"
            )
        if form.lmax < 2:
            raise ValueError(f"a stress head needs lmax of at least 2, got {form.lmax}")
        self.output_name = output_name
        self.decompose = decompose
        self.edge_level_mlp = edge_level_mlp
        self.use_source_target_embedding = use_source_target_embedding
        self.extensive = extensive
        self.avg_num_nodes = avg_num_nodes
        self.degrees = list(range(form.lmax + 1))
        self.harmonics_norm = make_norm(form.norm_type, form.lmax, 1)
        width = form.channels * (2 if use_source_target_embedding else 1)
        self.edge_norm = nn.LayerNorm(width)
        self.tensor_mlp = _mlp(width, num_mlp_layers) if not decompose else None
        self.scalar_mlp = _mlp(width, num_mlp_layers) if decompose else None
        self.degree_2_mlp = _mlp(width, num_mlp_layers) if decompose else None

    def forward(self, data: AtomicData, emb: dict[str, Any]) -> dict[str, torch.Tensor]:
        graph: Graph = emb["graph"]
        vectors = graph.vectors
        invariants = self._edge_invariants(emb["node_embedding"], graph)
        if not self.decompose:
            outer = (vectors.unsqueeze(2) * vectors.unsqueeze(1)).flatten(1)
            full = self._pooled(outer, invariants, self.tensor_mlp, graph, data)
            return self._of_volumes(data, {"": full})
        harmonics = o3.spherical_harmonics(2, vectors, normalize=True)
        ones = torch.ones_like(harmonics[:, :1])
        isotropic = self._pooled(ones, invariants, self.scalar_mlp, graph, data)
        anisotropic = self._pooled(harmonics.detach(), invariants, self.degree_2_mlp, graph, data)
        if self.extensive:
            isotropic = isotropic / self.avg_num_nodes
            anisotropic = anisotropic / self.avg_num_nodes
        return self._of_volumes(data, {"_isotropic": isotropic, "_anisotropic": anisotropic})

    def _of_volumes(
        self, data: AtomicData, outputs: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        return {
            f"{self.output_name}{part}": where_volume(value, data["pbc"], training=self.training)
            for part, value in outputs.items()
        }

    def _edge_invariants(self, nodes: torch.Tensor, graph: Graph) -> torch.Tensor:
        """Projections of node embeddings onto the edge's harmonics, [E, width]."""
        harmonics = o3.spherical_harmonics(self.degrees, graph.vectors, normalize=False).detach()
        harmonics = self.harmonics_norm(harmonics.unsqueeze(2)).squeeze(2)
        source, target = graph.edge_index
        if self.use_source_target_embedding:
            ends = gather_ends(nodes, source, target)
        else:
            ends = gather_at_targets(nodes, target, graph.offsets)
        return self.edge_norm(torch.einsum("ekc,ek->ec", ends, harmonics))

    def _pooled(
        self,
        tensor: torch.Tensor,
        invariants: torch.Tensor,
        mlp: nn.Sequential,
        graph: Graph,
        data: AtomicData,
    ) -> torch.Tensor:
        """[E, T] tensors times MLP of [E, width] invariants, averaged over edges: [B, T]."""
        weighted = tensor.unsqueeze(2) * invariants.unsqueeze(1)
        if self.edge_level_mlp:
            weighted = mlp(weighted)
        summed = sum_over_neighbours(weighted, graph.edge_index[1], graph.offsets)
        atoms = summed / graph.offsets.diff().clamp(min=1).view(-1, 1, 1)
        if not self.edge_level_mlp:
            atoms = mlp(atoms)
        batch, num_structures = data["batch"], len(data["natoms"])
        pooled = sum_over_atoms(atoms.squeeze(2), batch, num_structures)
        if self.extensive:
            return pooled
        return pooled / data["natoms"].unsqueeze(1)
