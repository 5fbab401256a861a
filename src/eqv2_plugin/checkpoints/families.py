"""Which model family a checkpoint belongs to, so that a refusal can name it."""

from __future__ import annotations

from collections.abc import Iterable

_EQUIFORMER = "Equiformer (version 1)"
# Registered name (or the start of it) -> family; the first match counts.
_BY_NAME = {
    "gemnet_oc": "GemNet-OC",
    "gemnet_t": "GemNet-dT",
    "gp_gemnet_t": "GemNet-dT",
    "gemnet": "GemNet",
    "graphormer": "Graphormer",
    "escnmd": "eSCN-MD (eSEN, UMA)",
    "escn": "eSCN",
    "esen": "eSEN",
    "scn": "SCN",
    "painn": "PaiNN",
    "schnet": "SchNet",
    "dimenetplusplus": "DimeNet++",
    "dimenet": "DimeNet",
    "spinconv": "SpinConv",
    "forcenet": "ForceNet",
    "cgcnn": "CGCNN",
    "equiformer_v3": "EquiformerV3",
    "equiformer": _EQUIFORMER,
    "graph_attention_transformer": _EQUIFORMER,
}
# Parts of parameter names that only one family has.
_BY_PARAMETER = {
    "so3_linear_1": "EquiformerV2",
    "ga.sep_act.dtp_rad": _EQUIFORMER,
    "mlp_rbf_qint": "GemNet-OC",
    "mlp_rbf_eaint": "GemNet-OC",
    "int_blocks.0.trip_interaction": "GemNet-dT",
    "layer_blocks.0.message_block.so2_block": "eSCN",
    "layer_blocks.0.message_layer": "eSCN",
    "edge_blocks.0.message_blocks": "SCN",
    "message_layers.0.x_proj": "PaiNN",
    "interactions.0.conv.lin1": "SchNet",
    "interaction_blocks.0.lin_rbf1": "DimeNet++",
    "convs.0.lin1": "CGCNN",
}
EQUIFORMER_V2 = "EquiformerV2"


def family_of(model_name: str | None, parameters: Iterable[str]) -> str | None:
    """Family by the name in the config or, without one, by parameter names; None if unknown."""
    if model_name:
        short = model_name.rsplit(".", 1)[-1].lower()
        if short.startswith(("equiformer_v2", "equiformerv2", "eqv2")):
            return EQUIFORMER_V2
        for start, family in _BY_NAME.items():
            if short.startswith(start):
                return family
        return None
    keys = list(parameters)
    for part, family in _BY_PARAMETER.items():
        if any(part in key for key in keys):
            return family
    return None


def refuse_other_family(model_name: str | None, parameters: Iterable[str]) -> None:
    """Stop before anything is made of the weights of another family, or of an unknown one."""
    family = family_of(model_name, parameters)
    if family == EQUIFORMER_V2:
        return
    named = f" (config: {model_name[:200]!r})" if model_name else ""
    advice = ""
    if family == _EQUIFORMER:
        advice = "; `eqv2 convert OLD NEW.pt --energy-std KCAL` reads those for MD17"
    raise ValueError(
        f"this is a checkpoint of {family or 'a model not known here'}{named}, not of "
        f"EquiformerV2 or its DeNS variants{advice}"
    )
