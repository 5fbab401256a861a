"""Options of the Equiformer authors' code as those of our backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eqv2_plugin.common.options import did_you_mean

_RENAMED = {
    "irreps_node_embedding": "irreps_node",
    "irreps_feature": "irreps_feature",
    "irreps_head": "irreps_head",
    "irreps_mlp_mid": "irreps_ffn",
    "num_heads": "num_heads",
    "num_layers": "num_layers",
    "number_of_basis": "num_distance_basis",
    "max_radius": "cutoff",
    "max_neighbors": "max_neighbors",
    "alpha_drop": "alpha_drop",
    "drop_path_rate": "drop_path_rate",
    "use_force_encoding": "force_encoding",
}
_BASES = {"exp": "exp_norm", "gaussian": "gaussian", "bessel": "bessel"}
# The published models have these; others would be other networks.
_FIXED: dict[str, tuple[Any, ...]] = {
    "irreps_node_attr": ("1x0e",),
    "rescale_degree": (False,),
    "nonlinear_message": (True,),
    "norm_layer": ("layer",),
    "proj_drop": (0.0,),
    "out_drop": (0.0,),
    "use_node_attr": (False,),
    "use_atom_edge_attr": (False,),
    "use_attn_head": (False,),
}
_WITHOUT_EFFECT = {
    "irreps_atom_edge_attr", "irreps_equivariant_inputs", "otf_graph", "use_pbc",
    "use_auxiliary_task", "mean", "std", "scale", "atomref", "task_mean", "task_std",
}  # fmt: skip
# Of QM9, in the order of the embedding.
QM9_ELEMENTS = (1, 6, 7, 8, 9)
# OC20's models embed tags, too, and know no option for the number of types.
_OC20 = {"max_num_elements": 84, "tag_embedding": True}


def backbone_options(authors: Mapping[str, Any]) -> dict[str, Any]:
    """Our options for the keywords of one of the authors' models.

    Energies of QM9 and MD17 models are divided by the same two averages, those of OC20 by others;
    which it is, the number of types tells.

    Raises:
        ValueError: an unknown keyword, or a variant that no published model has.
    """
    options: dict[str, Any] = {}
    known = {*_RENAMED, *_FIXED, *_WITHOUT_EFFECT, "irreps_in", "irreps_sh", "irreps_pre_attn",
             "basis_type", "fc_neurons"}  # fmt: skip
    for key, value in authors.items():
        if key not in known:
            raise ValueError(f"Equiformer has no option {key!r}{did_you_mean(key, known)}")
        if key in _RENAMED:
            options[_RENAMED[key]] = value
        elif key in _FIXED and value not in _FIXED[key]:
            raise ValueError(f"{key}={value!r} is not supported: published models have another")
    node = str(authors["irreps_node_embedding"])
    messages = authors.get("irreps_pre_attn") or node
    degrees = "+".join(f"1x{degree}e" for degree in range(node.count("+") + 1))
    harmonics = authors.get("irreps_sh", degrees)
    for key, value, wanted in (("pre_attn", messages, node), ("sh", harmonics, degrees)):
        if value != wanted:
            raise ValueError(f"irreps_{key}={value!r} is not supported: it must be {wanted!r}")
    hidden = set(authors.get("fc_neurons", (64, 64)))
    if len(hidden) != 1:
        raise ValueError(f"fc_neurons={authors['fc_neurons']} must be two equal numbers")
    options["edge_channels"] = hidden.pop()
    options["distance_basis"] = _BASES[authors.get("basis_type", "gaussian")]
    return options | _types(authors.get("irreps_in"))


def _types(irreps: str | None) -> dict[str, Any]:
    if irreps is None:
        return {**_OC20, "avg_num_nodes": 77.81317, "avg_degree": 23.395238876342773}
    count = int(irreps.removesuffix("x0e"))
    if count == len(QM9_ELEMENTS):
        return {"max_num_elements": 10, "elements": QM9_ELEMENTS}
    return {"max_num_elements": count}
