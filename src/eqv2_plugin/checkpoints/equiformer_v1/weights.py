"""Weights of the Equiformer authors' code, as parameters of ours.

Theirs lie in flat vectors, e3nn's instructions after each other; ours in matrices by degree, with
paths in the order of `paths_to`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from eqv2_plugin.backbones.equiformer_v1.activations import num_gates
from eqv2_plugin.backbones.equiformer_v1.config import EquiformerV1Config
from eqv2_plugin.backbones.equiformer_v1.irreps import Channels
from eqv2_plugin.backbones.equiformer_v1.paths import creation_order, paths_to
from eqv2_plugin.checkpoints.equiformer_v1.signs import TURNED, Convention, stored_convention

State = dict[str, torch.Tensor]
# Follow from the configuration.
_DERIVED = re.compile(r".*(\.output_mask|_w3j_\d+_\d+_\d+)|rbf\.(means|betas)")
_RADIAL = {"net.0": "hidden_1", "net.1": "norm_1", "net.3": "hidden_2", "net.4": "norm_2"}
_HEADS = ("energy_head", "head")
_VECTOR_HEADS = ("denoising_pos_head", "auxiliary_head")


def is_derived(key: str) -> bool:
    """Whether an entry of the authors' state dict follows from the configuration."""
    return _DERIVED.fullmatch(key) is not None


def convert_state(
    state: Mapping[str, torch.Tensor],
    config: EquiformerV1Config,
    *,
    scalar_head: str,
    vector_head: str | None = None,
    convention: Convention | None = None,
) -> State:
    """Our state dict of the authors'; every parameter is used once, and none is missing.

    Args:
        state: names as in the authors' code, without prefixes of wrappers; buffers may be there.
        config: of our backbone.
        scalar_head, vector_head: where the networks of the energy and of the auxiliary or noise
            head lie in our model, such as "output_heads.energy.energy_block".
        convention: signs of the Clebsch-Gordan coefficients that the weights were trained with; by
            default those of the tables among the buffers.

    Raises:
        ValueError: a parameter that is unknown, missing or of another size; or signs that neither
            the tables nor ``convention`` tell.
    """
    turned = config.lmax > 1 and _convention(state, convention) == "e3nn_0.4"
    reader = _Reader(state, config.node_channels, turned)
    new = _backbone(reader, config)
    energy = next((name for name in _HEADS if f"{name}.0.tp.weight" in state), _HEADS[0])
    features = config.feature_channels
    for theirs, ours, out in (("0", "linear_1", features[:1]), ("2", "linear_2", (1,))):
        new |= _below(
            f"{scalar_head}.{ours}", reader.linear(f"{energy}.{theirs}", features[:1], out)
        )
    if vector_head is not None:
        theirs = next((n for n in _VECTOR_HEADS if f"{n}.alpha_dot" in state), _VECTOR_HEADS[0])
        new |= _below(vector_head, _attention(reader, theirs, config, features, (0, 1)))
    reader.refuse_unused()
    return new


def _convention(state: Mapping[str, torch.Tensor], given: Convention | None) -> Convention:
    stored = stored_convention(state)
    if given is None and stored is None:
        raise ValueError(
            "nothing tells which signs of Clebsch-Gordan coefficients these weights were trained "
            "with: there are no tables '_w3j_...' among them, and those of e3nn before 0.5 differ. "
            "Say which: e3nn_0.4 (the authors' release) or e3nn_0.5"
        )
    if given is not None and stored is not None and given != stored:
        raise ValueError(
            f"the weights' own tables of Clebsch-Gordan coefficients are those of {stored}, but "
            f"{given} was asked for"
        )
    return given or stored  # type: ignore[return-value]


def _backbone(reader: _Reader, config: EquiformerV1Config) -> State:
    channels, features = config.node_channels, config.feature_channels
    hidden = config.ffn_channels
    with_gates = (hidden[0] + num_gates(hidden), *hidden[1:])
    num_types = len(config.elements) if config.elements else config.max_num_elements
    parts = {"atom_embedding": reader.table("atom_embed.atom_type_lin", num_types)}
    if config.tag_embedding:
        parts["tag_embedding"] = reader.table("tag_embed.atom_type_lin", 3)
    if config.distance_basis == "gaussian":
        names = ("mean", "std", "weight", "bias")
        parts["distance_basis"] = {name: reader.take(f"rbf.{name}") for name in names}
    elif config.distance_basis == "bessel":
        parts["distance_basis"] = {"frequencies": reader.take("rbf.rbf.frequencies")}
    if config.force_encoding:
        scalars = (1,) * len(channels)
        parts["force_embedding.linear"] = reader.linear("force_embed", scalars, channels)
    parts["edge_degree_embedding"] = _edge_degree(reader, channels)
    for i in range(config.num_layers):
        ours = theirs = f"blocks.{i}"
        last = i == config.num_layers - 1
        out = features if last else channels
        for norm in ("norm_1", "norm_2"):
            parts[f"{ours}.{norm}"] = reader.norm(f"{theirs}.{norm}")
        parts[f"{ours}.attention"] = _attention(reader, f"{theirs}.ga", config, channels, channels)
        ffn = f"{ours}.feed_forward"
        parts[f"{ffn}.linear_1"] = reader.linear(f"{theirs}.ffn.fctp_1", channels, with_gates)
        parts[f"{ffn}.linear_2"] = reader.linear(f"{theirs}.ffn.fctp_2", hidden, out)
        if last:
            shortcut = reader.linear(f"{theirs}.ffn_shortcut", channels, out)
            parts[f"{ours}.shortcut"] = shortcut
    parts["norm"] = reader.norm("norm")
    joined: State = {}
    for name, part in parts.items():
        joined |= _below(f"backbone.{name}", part)
    return joined


def _edge_degree(reader: _Reader, channels: Channels) -> State:
    name = "edge_deg_embed"
    new = {
        "constant": reader.take(f"{name}.exp.tp.weight"),
        "constant_bias": reader.take(f"{name}.exp.bias.0"),
        "bias": reader.take(f"{name}.proj.bias.0"),
    }
    weights = reader.slot_matrices(f"{name}.proj", channels)
    new |= {f"weight.{degree}": weight for degree, weight in enumerate(weights)}
    # Ours keep e3nn's order there.
    return new | _below("radial", reader.radial(f"{name}.rad", sort=False))


def _attention(
    reader: _Reader, name: str, config: EquiformerV1Config, into: Channels, out: Channels
) -> State:
    channels, heads = config.node_channels, config.num_heads
    values = tuple(heads * count for count in config.head_channels)
    with_gates = (channels[0] + num_gates(channels), *channels[1:])
    first = reader.slot_matrices(f"{name}.sep_act.lin", with_gates)
    (alpha,) = reader.slot_matrices(f"{name}.sep_alpha", values[:1])
    first[0] = torch.cat((first[0], alpha))
    biases = [reader.take(f"{name}.{part}.bias.0") for part in ("sep_act.lin", "sep_alpha")]
    second = reader.slot_matrices(f"{name}.sep_value.lin", values)
    new = {
        "alpha_dot": reader.take(f"{name}.alpha_dot").squeeze(0),
        "bias_1": torch.cat(biases),
        "scales_2": reader.scales(f"{name}.sep_value.dtp.tp.weight"),
        "bias_2": reader.take(f"{name}.sep_value.lin.bias.0"),
    }
    for ours, weights in (("product_1", first), ("product_2", second)):
        new |= {f"{ours}.weight.{degree}": weight for degree, weight in enumerate(weights)}
    new |= _below("radial", reader.radial(f"{name}.sep_act.dtp_rad"))
    new |= _below("source", reader.linear(f"{name}.merge_src", into, channels))
    new |= _below("target", reader.linear(f"{name}.merge_dst", into, channels, bias=False))
    return new | _below("projection", reader.linear(f"{name}.proj", values, out))


def _below(name: str, part: State) -> State:
    return {f"{name}.{key}": value for key, value in part.items()}


class _Reader:
    """Takes parameters out of the authors' state dict, each once.

    Args:
        state: the authors'.
        channels: C_l of messages.
        turned: change the sign of the paths in which the conventions differ.
    """

    def __init__(self, state: Mapping[str, torch.Tensor], channels: Channels, turned: bool) -> None:
        self.channels = channels
        self.lmax = len(channels) - 1
        self.left = {
            key: value for key, value in state.items()
            if not is_derived(key) and value.numel() > 0
        }  # fmt: skip
        # Slots of each path where e3nn has them, by (l1, l2, l3), and the signs of all.
        self.paths: dict[tuple[int, int, int], slice] = {}
        signs, start = [], 0
        for path in creation_order(self.lmax):
            size = channels[path[0]]
            self.paths[path] = slice(start, start + size)
            signs.append(torch.full((size,), -1.0 if turned and path in TURNED else 1.0))
            start += size
        self.signs = torch.cat(signs)

    def take(self, key: str) -> torch.Tensor:
        """A parameter as it is."""
        if key not in self.left:
            raise ValueError(f"the weights lack {key!r}, which a model of these options has")
        return self.left.pop(key)

    def refuse_unused(self) -> None:
        """Raises ValueError for what no part of our model took."""
        if self.left:
            names = ", ".join(sorted(self.left)[:5])
            raise ValueError(
                f"{len(self.left)} parameters have no place in a model of these options: {names}"
            )

    def norm(self, name: str) -> State:
        """Of a layer norm."""
        return {part: self.take(f"{name}.affine_{part}") for part in ("weight", "bias")}

    def table(self, name: str, num_types: int) -> State:
        """Of an embedding of types."""
        weight = self._cut(f"{name}.tp.weight", [(num_types, self.channels[0])])[0]
        return {"weight": weight, "bias": self.take(f"{name}.bias.0")}

    def linear(self, name: str, into: Channels, out: Channels, bias: bool = True) -> State:
        """Of a linear layer with one slot per degree."""
        sizes = list(zip(into, out, strict=False))
        matrices = self._cut(f"{name}.tp.weight", sizes)
        new = {f"weight.{l}": matrix.T.contiguous() for l, matrix in enumerate(matrices)}
        if bias and out[0] > 0:
            new["bias"] = self.take(f"{name}.bias.0")
        return new

    def slot_matrices(self, name: str, out: Channels) -> list[torch.Tensor]:
        """[C_l, slots] by degree, of a linear layer on the slots of a product."""
        orders = [[p for p in creation_order(self.lmax) if p[2] == l] for l in range(len(out))]
        sizes = [
            (sum(self.channels[path[0]] for path in paths), count)
            for paths, count in zip(orders, out, strict=True)
        ]
        matrices = []
        for degree, matrix in enumerate(self._cut(f"{name}.tp.weight", sizes)):
            counts = [self.channels[path[0]] for path in orders[degree]]
            parts = dict(zip(orders[degree], matrix.split(counts), strict=True))
            ordered = [parts[p.degrees] for p in paths_to(degree, self.lmax)]
            matrices.append(torch.cat(ordered).T.contiguous())
        return matrices

    def scales(self, key: str, sort: bool = True) -> torch.Tensor:
        """[slots, ...] scales of all paths, in our order and with our signs."""
        values = self.take(key)
        if len(values) != len(self.signs):
            raise ValueError(
                f"{key!r} has {len(values)} rows, but there are {len(self.signs)} slots"
            )
        signs = self.signs.to(values.dtype)
        values = values * signs.view(-1, *[1] * (values.ndim - 1))
        if not sort:
            return values
        degrees = range(self.lmax + 1)
        ours = [path.degrees for degree in degrees for path in paths_to(degree, self.lmax)]
        return torch.cat([values[self.paths[path]] for path in ours])

    def radial(self, name: str, sort: bool = True) -> State:
        """Of a radial function."""
        new = {
            f"{ours}.{part}": self.take(f"{name}.{theirs}.{part}")
            for theirs, ours in _RADIAL.items()
            for part in ("weight", "bias")
        }
        new["output.weight"] = self.scales(f"{name}.net.6.weight", sort)
        return new | {"offset": self.scales(f"{name}.offset", sort)}

    def _cut(self, key: str, shapes: list[tuple[int, int]]) -> list[torch.Tensor]:
        """Matrices [in, out] that lie after each other in a flat parameter."""
        values, sizes = self.take(key), [rows * columns for rows, columns in shapes]
        if values.numel() != sum(sizes):
            raise ValueError(
                f"{key!r} has {values.numel():,} numbers, but a model of these options has "
                f"{sum(sizes):,}"
            )
        parts = values.flatten().split(sizes)
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
