"""Equiformer assembled from e3nn's modules: what `equiformer_v1.py` and the tests compare with.

Written from the paper, with parameters under the names of the authors' code, so that
`convert_state` gives our backbone the same weights.
"""

from __future__ import annotations

import torch
from e3nn import o3
from torch import nn

from eqv2_plugin.backbones.equiformer_v1.activations import (
    scaled_sigmoid,
    scaled_silu,
    scaled_smooth_leaky_relu,
)
from eqv2_plugin.backbones.equiformer_v1.bases import ExpNormBasis
from eqv2_plugin.backbones.equiformer_v1.config import EquiformerV1Config


class Gate(nn.Module):
    """Of scalars, gates and higher degrees, side by side."""

    def __init__(self, irreps: o3.Irreps) -> None:
        super().__init__()
        self.scalars, self.higher = irreps[:1], irreps[1:]
        gates = self.higher.num_irreps
        self.irreps_in = o3.Irreps([(self.scalars.num_irreps + gates, (0, 1)), *self.higher])
        self.product = o3.ElementwiseTensorProduct(f"{gates}x0e", self.higher)
        self.sizes = [self.scalars.num_irreps, gates, self.higher.dim]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scalars, gates, higher = x.split(self.sizes, dim=1)
        gated = self.product(scaled_sigmoid(gates), higher)
        return torch.cat((scaled_silu(scalars), gated), dim=1)


def depthwise(irreps: o3.Irreps, lmax: int, shared: bool) -> tuple[o3.TensorProduct, o3.Irreps]:
    """The product and its output: one slot for each path."""
    harmonics = o3.Irreps.spherical_harmonics(lmax, p=1)
    paths = [
        (i, j, mul, ir)
        for i, (mul, left) in enumerate(irreps)
        for j, (_, right) in enumerate(harmonics)
        for ir in left * right
        if ir.l <= lmax
    ]
    order = sorted(range(len(paths)), key=lambda k: paths[k][3].l)
    slots = o3.Irreps([(paths[k][2], paths[k][3]) for k in order])
    instructions = [
        (i, j, order.index(k), "uvu", True, 1.0) for k, (i, j, _, _) in enumerate(paths)
    ]
    product = o3.TensorProduct(
        irreps, harmonics, slots, instructions,
        irrep_normalization="component", path_normalization="none",
        internal_weights=shared, shared_weights=shared,
    )  # fmt: skip
    return product, slots


class Parts(nn.Module):
    """Modules under names."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class Radial(nn.Module):
    def __init__(self, num_basis: int, channels: int, out: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(num_basis, channels), nn.LayerNorm(channels), nn.SiLU(),
            nn.Linear(channels, channels), nn.LayerNorm(channels), nn.SiLU(),
            nn.Linear(channels, out, bias=False),
        )  # fmt: skip
        self.offset = nn.Parameter(torch.randn(out))

    def forward(self, basis: torch.Tensor) -> torch.Tensor:
        return self.net(basis) + self.offset


class Norm(nn.Module):
    def __init__(self, irreps: o3.Irreps) -> None:
        super().__init__()
        self.irreps = irreps
        self.affine_weight = nn.Parameter(1.0 + 0.1 * torch.randn(irreps.num_irreps))
        self.affine_bias = nn.Parameter(0.1 * torch.randn(irreps[0].mul))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        blocks, start = [], 0
        for mul_ir, columns in zip(self.irreps, self.irreps.slices(), strict=True):
            block = x[:, columns].unflatten(1, (mul_ir.mul, mul_ir.ir.dim))
            if mul_ir.ir.l == 0:
                block = block - block.mean(1, keepdim=True)
            scale = (block.square().mean((1, 2), keepdim=True) + 1e-5).rsqrt()
            weight = self.affine_weight[start : start + mul_ir.mul].unsqueeze(1)
            block = (block * scale * weight).flatten(1)
            blocks.append(block + self.affine_bias if mul_ir.ir.l == 0 else block)
            start += mul_ir.mul
        return torch.cat(blocks, dim=1)


class Attention(nn.Module):
    def __init__(self, config: EquiformerV1Config, into: o3.Irreps, out: o3.Irreps) -> None:
        super().__init__()
        node, head = o3.Irreps(config.irreps_node), o3.Irreps(config.irreps_head)
        self.heads, self.head = config.num_heads, head
        self.values = o3.Irreps([(self.heads * mul, ir) for mul, ir in head])
        self.merge_src = o3.Linear(into, node, biases=True)
        self.merge_dst = o3.Linear(into, node)
        product, slots = depthwise(node, config.lmax, shared=False)
        gate = Gate(node)
        radial = Radial(config.num_distance_basis, config.edge_channels, product.weight_numel)
        linear = o3.Linear(slots, gate.irreps_in, biases=True)
        self.sep_act = Parts(dtp=Parts(tp=product), dtp_rad=radial, lin=linear, gate=gate)
        self.scalar_slots = slots[:1] + o3.Irreps([s for s in slots[1:] if s.ir.l == 0])
        self.sep_alpha = o3.Linear(self.scalar_slots, self.values[:1], biases=True)
        self.alpha_dot = nn.Parameter(torch.randn(1, self.heads, head[0].mul))
        product, slots = depthwise(node, config.lmax, shared=True)
        linear = o3.Linear(slots, self.values, biases=True)
        self.sep_value = Parts(dtp=Parts(tp=product), lin=linear)
        self.proj = o3.Linear(self.values, out, biases=True)

    def forward(self, x: torch.Tensor, edges: tuple[torch.Tensor, ...]) -> torch.Tensor:
        source, target, harmonics, basis = edges
        message = self.merge_src(x)[source] + self.merge_dst(x)[target]
        message = self.sep_act.dtp.tp(message, harmonics, self.sep_act.dtp_rad(basis))
        alpha = self.sep_alpha(message[:, : self.scalar_slots.dim]).unflatten(1, (self.heads, -1))
        logits = (scaled_smooth_leaky_relu(alpha) * self.alpha_dot).sum(2)
        index = target.unsqueeze(1).expand_as(logits)
        largest = logits.new_full((len(x), self.heads), -1e9)
        largest = largest.scatter_reduce(0, index, logits.detach(), "amax")
        weights = torch.exp(logits - largest[target])
        weights = weights / (
            torch.zeros_like(largest).index_add(0, target, weights)[target] + 1e-16
        )
        value = self.sep_act.gate(self.sep_act.lin(message))
        value = self.sep_value.lin(self.sep_value.dtp.tp(value, harmonics))
        blocks = []
        for columns, (mul, ir) in zip(self.values.slices(), self.head, strict=True):
            block = value[:, columns].unflatten(1, (self.heads, mul * ir.dim))
            blocks.append((block * weights.unsqueeze(2)).flatten(1))
        summed = x.new_zeros(len(x), self.values.dim).index_add(0, target, torch.cat(blocks, 1))
        return self.proj(summed)


class E3nnEquiformer(nn.Module):
    """Energies of MD17 models.

    Args:
        config: with exponential-normal basis, without DeNS.
    """

    def __init__(self, config: EquiformerV1Config) -> None:
        super().__init__()
        node, feature = o3.Irreps(config.irreps_node), o3.Irreps(config.irreps_feature)
        hidden = o3.Irreps(config.irreps_ffn)
        self.config = config
        types = o3.Linear(f"{config.max_num_elements}x0e", node, biases=True)
        self.atom_embed = Parts(atom_type_lin=types)
        self.rbf = ExpNormBasis(config.cutoff, config.num_distance_basis)
        self.harmonics = o3.SphericalHarmonics(
            list(range(config.lmax + 1)), normalize=True, normalization="component"
        )
        product, slots = depthwise(node, config.lmax, shared=False)
        self.edge_deg_embed = Parts(
            exp=o3.Linear("1x0e", node, biases=True),
            dw=Parts(tp=product),
            rad=Radial(config.num_distance_basis, config.edge_channels, product.weight_numel),
            proj=o3.Linear(slots, node, biases=True),
        )
        self.blocks = nn.ModuleList()
        for i in range(config.num_layers):
            last = i == config.num_layers - 1
            out = feature if last else node
            gate = Gate(hidden)
            block = Parts(
                norm_1=Norm(node),
                ga=Attention(config, node, node),
                norm_2=Norm(node),
                ffn=Parts(
                    fctp_1=o3.Linear(node, gate.irreps_in, biases=True),
                    gate=gate,
                    fctp_2=o3.Linear(hidden, out, biases=True),
                ),
            )
            if last:
                block.ffn_shortcut = o3.Linear(node, out, biases=True)
            self.blocks.append(block)
        self.norm = Norm(feature)
        scalars = feature[:1]
        self.head = nn.ModuleDict(
            {
                "0": o3.Linear(scalars, scalars, biases=True),
                "2": o3.Linear(scalars, "1x0e", biases=True),
            }
        )

    def forward(
        self, vectors: torch.Tensor, edge_index: torch.Tensor, numbers: torch.Tensor
    ) -> torch.Tensor:
        """[N, 1] scalars of the atoms, before the sum and its division."""
        source, target = edge_index
        basis, harmonics = self.rbf(vectors.norm(dim=1)), self.harmonics(vectors)
        edges = source, target, harmonics, basis
        types = nn.functional.one_hot(numbers, self.config.max_num_elements).to(vectors.dtype)
        x = self.atom_embed.atom_type_lin(types)
        embed = self.edge_deg_embed
        constant = embed.exp(torch.ones_like(types[:, :1]))[source]
        degree = embed.proj(embed.dw.tp(constant, harmonics, embed.rad(basis)))
        degree = torch.zeros_like(x).index_add(0, target, degree)
        x = x + degree / self.config.avg_degree**0.5
        for block in self.blocks:
            x = x + block.ga(block.norm_1(x), edges)
            y = block.ffn.fctp_2(block.ffn.gate(block.ffn.fctp_1(block.norm_2(x))))
            x = (block.ffn_shortcut(x) if hasattr(block, "ffn_shortcut") else x) + y
        scalars = self.norm(x)[:, : self.head["0"].irreps_in.dim]
        return self.head["2"](scaled_silu(self.head["0"](scalars)))

    def authors_state(self) -> dict[str, torch.Tensor]:
        """Parameters as the authors' code names and scales them."""
        state = {}
        linear = {name: m for name, m in self.named_modules() if isinstance(m, o3.Linear)}
        for name, parameter in self.named_parameters():
            owner = name.rsplit(".", 1)[0]
            if owner not in linear:
                state[name] = parameter.detach()
        for name, module in linear.items():
            sizes = [torch.Size(i.path_shape).numel() for i in module.instructions if i.i_in >= 0]
            factors = [i.path_weight for i in module.instructions if i.i_in >= 0]
            parts = module.weight.detach().split(sizes)
            scaled = [part * factor for part, factor in zip(parts, factors, strict=True)]
            state[f"{name}.tp.weight"] = torch.cat(scaled)
            if module.bias_numel:
                state[f"{name}.bias.0"] = module.bias.detach()
        return state
