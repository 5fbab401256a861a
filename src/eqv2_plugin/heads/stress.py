"""Direct stress heads: the rank-2 symmetric tensors of OMat24 and MPtrj checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from e3nn import o3
from fairchem.core.common.registry import registry
from fairchem.core.models.base import HeadInterface
from torch import nn

from eqv2_plugin.heads.backbone_check import config_of
from eqv2_plugin.heads.energy import sum_over_atoms
from eqv2_plugin.heads.volume import where_volume
from eqv2_plugin.kernels.segments import sum_over_neighbours
from eqv2_plugin.layers.norms import make_norm

if TYPE_CHECKING:
    from fairchem.core.datasets.atomic_data import AtomicData

    from eqv2_plugin.backbones.equiformer_v2.backbone import EquiformerV2Backbone


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
        backbone: an `EquiformerV2Backbone`.
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
        backbone: EquiformerV2Backbone,
        output_name: str = "stress",
        decompose: bool = False,
        edge_level_mlp: bool = False,
        num_mlp_layers: int = 2,
        use_source_target_embedding: bool = False,
        extensive: bool = False,
        avg_num_nodes: float = 1.0,
    ) -> None:
        super().__init__()
        config = config_of(backbone, "StressHead")
        if config.lmax < 2:
            raise ValueError(f"a stress head needs lmax of at least 2, got {config.lmax}")
        self.output_name = output_name
        self.decompose = decompose
        self.edge_level_mlp = edge_level_mlp
        self.use_source_target_embedding = use_source_target_embedding
        self.extensive = extensive
        self.avg_num_nodes = avg_num_nodes
        self.degrees = list(range(config.lmax + 1))
        self.harmonics_norm = make_norm(config.norm_type, config.lmax, 1)
        width = config.sphere_channels * (2 if use_source_target_embedding else 1)
        self.edge_norm = nn.LayerNorm(width)
        self.tensor_mlp = _mlp(width, num_mlp_layers) if not decompose else None
        self.scalar_mlp = _mlp(width, num_mlp_layers) if decompose else None
        self.degree_2_mlp = _mlp(width, num_mlp_layers) if decompose else None

    def forward(self, data: AtomicData, emb: dict[str, Any]) -> dict[str, torch.Tensor]:
        edges, vectors = emb["edges"], emb["edge_vectors"]
        invariants = self._edge_invariants(emb["node_embedding"], edges, vectors)
        pool = _Pooling(self, edges, data["batch"], len(data["natoms"]))
        if not self.decompose:
            outer = (vectors.unsqueeze(2) * vectors.unsqueeze(1)).flatten(1)
            return self._of_volumes(data, {"": pool(outer, invariants, self.tensor_mlp)})
        harmonics = o3.spherical_harmonics(2, vectors, normalize=True)
        isotropic = pool(torch.ones_like(harmonics[:, :1]), invariants, self.scalar_mlp)
        anisotropic = pool(harmonics.detach(), invariants, self.degree_2_mlp)
        if self.extensive:
            isotropic, anisotropic = (
                isotropic / self.avg_num_nodes,
                anisotropic / self.avg_num_nodes,
            )
        return self._of_volumes(data, {"_isotropic": isotropic, "_anisotropic": anisotropic})

    def _of_volumes(
        self, data: AtomicData, outputs: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        return {
            f"{self.output_name}{part}": where_volume(value, data["pbc"], training=self.training)
            for part, value in outputs.items()
        }

    def _edge_invariants(
        self, nodes: torch.Tensor, edges: Any, vectors: torch.Tensor
    ) -> torch.Tensor:
        """Projections of node embeddings onto the edge's harmonics, [E, width]."""
        harmonics = o3.spherical_harmonics(self.degrees, vectors, normalize=False).detach()
        harmonics = self.harmonics_norm(harmonics.unsqueeze(2)).squeeze(2)
        ends = [edges.source, edges.target] if self.use_source_target_embedding else [edges.target]
        projected = [torch.einsum("ekc,ek->ec", nodes[end], harmonics) for end in ends]
        return self.edge_norm(torch.cat(projected, dim=1))


class _Pooling:
    """Tensor times MLP of invariants, averaged over edges, then pooled over atoms."""

    def __init__(self, head: StressHead, edges: Any, batch: torch.Tensor, num: int) -> None:
        self.head, self.edges, self.batch, self.num = head, edges, batch, num
        counts = edges.offsets.diff()
        self.degree = counts.clamp(min=1)

    def __call__(
        self, tensor: torch.Tensor, invariants: torch.Tensor, mlp: nn.Sequential
    ) -> torch.Tensor:
        """[E, T] tensors and [E, width] invariants to [B, T]."""
        weighted = tensor.unsqueeze(2) * invariants.unsqueeze(1)
        if self.head.edge_level_mlp:
            weighted = mlp(weighted)
        summed = sum_over_neighbours(weighted, self.edges.target, self.edges.offsets)
        atoms = summed / self.degree.view(-1, 1, 1)
        if not self.head.edge_level_mlp:
            atoms = mlp(atoms)
        pooled = sum_over_atoms(atoms.squeeze(2), self.batch, self.num)
        if self.head.extensive:
            return pooled
        return pooled / torch.bincount(self.batch, minlength=self.num).unsqueeze(1)
