"""Heads of fairchem-core 1 and ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ENERGY = "eqv2_plugin.heads.energy.EnergyHead"
_FORCES = "eqv2_plugin.heads.forces.ForceHead"
_NOISE = "eqv2_plugin.heads.forces.NoiseHead"
_STRESS = "eqv2_plugin.heads.stress.StressHead"
_JOINED_STRESS = "eqv2_plugin.heads.joined_stress.JoinedStressHead"

# Last part of the name in a config (registered name or dotted path) -> kind.
_KINDS = {
    "equiformer_v2_energy_head": "energy",
    "equiformerV2_scalar_head": "energy",
    "EquiformerV2EnergyHead": "energy",
    "EqV2ScalarHead": "energy",
    "eqV2_DeNS_scalar_head": "energy",
    "DeNSScalarHead": "energy",
    "equiformer_v2_force_head": "forces",
    "equiformerV2_vector_head": "forces",
    "EquiformerV2ForceHead": "forces",
    "EqV2VectorHead": "forces",
    "eqV2_DeNS_vector_head": "dens_forces",
    "DeNSVectorHead": "dens_forces",
    "rank2_symmetric_head": "stress",
    "Rank2SymmetricTensorHead": "stress",
    "dens_rank2_symmetric_head": "stress",
    "DeNSRank2Head": "stress",
}
# Options of each kind that ours have, too.
_OPTIONS = {
    "energy": {"output_name", "reduce"},
    "forces": {"output_name"},
    "dens_forces": {"output_name"},
    "stress": {
        "output_name", "decompose", "edge_level_mlp", "num_mlp_layers",
        "use_source_target_embedding", "extensive", "avg_num_nodes",
    },
}  # fmt: skip
# An ablation of the training; and a norm for backbones that name none, which ours always do.
_WITHOUT_EFFECT = {"module", "use_denoising", "default_norm_type"}
_DEFAULT_OUTPUT = {
    "energy": "energy",
    "forces": "forces",
    "dens_forces": "forces",
    "stress": "stress",
}


@dataclass(frozen=True)
class Head:
    """Our config of a head, and what it returns.

    Attributes:
        config: {"module": ..., options}.
        output: property that it returns.
        level: "system" or "atom".
        dim: of the output, as fairchem's tasks state it.
        normalizer: v1's name of the normaliser of the output.
        inner_normalizers: names of those that the head itself applies before.
    """

    config: dict[str, Any]
    output: str
    level: str
    dim: list[int]
    normalizer: str
    inner_normalizers: tuple[str, ...] = ()


def translate_heads(
    heads: Mapping[str, Mapping[str, Any]], normalizers: Mapping[str, tuple[float, float]]
) -> dict[str, Head]:
    """Our heads for those of a v1 config.

    Args:
        heads: {name: {"module": ..., options}}.
        normalizers: {target: (mean, rmsd)}; the decomposed stress needs its own two.

    Raises:
        ValueError: an unknown head or option.
    """
    translated: dict[str, Head] = {}
    for name, head in heads.items():
        module = str(head.get("module"))
        kind = _KINDS.get(module.rsplit(".", 1)[-1])
        if kind is None:
            raise ValueError(f"head {name!r}: {module!r} is no head of EquiformerV2 known here")
        unknown = set(head) - _OPTIONS[kind] - _WITHOUT_EFFECT
        if unknown:
            raise ValueError(f"head {name!r}: unknown options {', '.join(sorted(unknown))}")
        options = {key: value for key, value in head.items() if key in _OPTIONS[kind]}
        output = str(options.get("output_name", _DEFAULT_OUTPUT[kind]))
        if kind == "energy":
            translated[name] = Head({"module": _ENERGY, **options}, output, "system", [1], output)
        elif kind == "stress":
            translated[name] = _stress(options, output, normalizers)
        else:
            translated[name] = Head({"module": _FORCES, **options}, output, "atom", [3], output)
        if kind == "dens_forces":
            # v1 keeps the noise block in the force head.
            noise = {"module": _NOISE, "output_name": "noise_forces"}
            translated["noise_forces"] = Head(
                noise, "noise_forces", "atom", [3], "denoising_pos_target"
            )
    return translated


def _stress(
    options: dict[str, Any], output: str, normalizers: Mapping[str, tuple[float, float]]
) -> Head:
    if not options.get("decompose", False):
        return Head({"module": _STRESS, **options}, output, "system", [1, 9], output)
    config: dict[str, Any] = {"module": _JOINED_STRESS, **options}
    del config["decompose"]
    inner = {part: f"{output}_{part}" for part in ("isotropic", "anisotropic")}
    for part, name in inner.items():
        mean, rmsd = normalizers.get(name, (0.0, 1.0))
        config[part] = {"mean": mean, "rmsd": rmsd}
    return Head(config, output, "system", [1, 9], output, tuple(inner.values()))
