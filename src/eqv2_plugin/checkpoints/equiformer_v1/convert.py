"""From a file of the Equiformer authors' code for MD17 to an inference checkpoint of fairchem 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ase.units import kcal, mol

from eqv2_plugin.backbones.equiformer_v1.config import EquiformerV1Config
from eqv2_plugin.checkpoints.building import Written, refuse_target, write_converted
from eqv2_plugin.checkpoints.equiformer_v1.config import backbone_options
from eqv2_plugin.checkpoints.equiformer_v1.signs import Convention, stored_convention
from eqv2_plugin.checkpoints.equiformer_v1.weights import convert_state, is_derived
from eqv2_plugin.checkpoints.reading import read_checkpoint
from eqv2_plugin.checkpoints.record import NativeHeader, NativeModel, TaskRecord
from eqv2_plugin.checkpoints.whitelist import MODELS
from eqv2_plugin.models.metadata import EnergyKind, ModelMetadata

_KCAL = kcal / mol
_BACKBONE = "eqv2_plugin.backbones.equiformer_v1.backbone.EquiformerV1Backbone"
_HEADS = "eqv2_plugin.heads"
_L3 = {
    "irreps_node": "128x0e+64x1e+64x2e+32x3e",
    "irreps_head": "32x0e+16x1e+16x2e+8x3e",
    "irreps_ffn": "384x0e+192x1e+192x2e+96x3e",
}
# The published MD17 models by their number of parameters; what is not said is our default.
PUBLISHED: dict[int, tuple[str, dict[str, Any]]] = {
    3_496_001: ("MD17, L_max = 2", {}),
    5_500_865: ("MD17, L_max = 3", _L3),
    4_000_577: (
        "MD17, L_max = 2, DeNS",
        {"irreps_feature": "512x0e+256x1e+128x2e", "force_encoding": True},
    ),
    6_354_241: (
        "MD17, L_max = 3, DeNS",
        {**_L3, "irreps_feature": "512x0e+256x1e+256x2e+128x3e", "force_encoding": True},
    ),
}
# Parameters that every model of the authors' code has, and no other.
_MARKS = ("atom_embed.atom_type_lin.tp.weight", "edge_deg_embed.exp.tp.weight")
_ENERGY = "total energy minus the mean of the training set, eV"


@dataclass(frozen=True)
class AuthorsConversion:
    """What was done."""

    model: str  # which one it is
    signs: str  # of Clebsch-Gordan coefficients, and from where they are known
    written: Written


def is_authors_file(content: Any) -> bool:
    """Whether a loaded file holds weights of the authors' code."""
    return set(_MARKS) <= set(authors_state(content))


def authors_state(content: Any) -> dict[str, torch.Tensor]:
    """Weights by their names in the model, without prefixes of wrappers; {} if there are none."""
    state = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    if not isinstance(state, Mapping):
        return {}
    tensors = {str(k): v for k, v in state.items() if isinstance(v, torch.Tensor)}
    while tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def convert_authors_file(
    source: Path,
    target: Path,
    *,
    energy_std: float | None,
    convention: Convention | None = None,
    config: Mapping[str, Any] | None = None,
    unsafe: bool = False,
) -> AuthorsConversion:
    """Convert a model for MD17 to a ``.pt`` file, written after all checks.

    Args:
        source: what the authors' training script wrote.
        target: the new file.
        energy_std: standard deviation of the training energies in kcal/mol, by which outputs are
            multiplied; the script prints it, and no file holds it.
        convention: where the file has no tables that tell, see `convert_state`.
        config: keywords of the authors' model, where it is none of `PUBLISHED`.
        unsafe: see `read_checkpoint`.

    Raises:
        FileExistsError, FileNotFoundError: see `refuse_target`.
        ValueError: the file cannot be converted, in one sentence.
    """
    refuse_target(target)
    state = authors_state(read_checkpoint(source, unsafe))
    if energy_std is None:
        raise ValueError(
            "files of Equiformer's authors do not hold the scale of their energies: give "
            "--energy-std, the standard deviation of the training energies in kcal/mol that the "
            "training script prints"
        )
    if not 0.0 < energy_std < float("inf"):
        raise ValueError(f"--energy-std must be a positive number of kcal/mol, got {energy_std}")
    name, options = _model_of(state, config)
    # Theirs encode forces in the unit of their labels.
    if options.get("force_encoding"):
        options["force_scale"] = _KCAL
    options["direct_forces"] = False
    backbone = EquiformerV1Config.from_options(options)
    has_noise = any(key.startswith("denoising_pos_head.") for key in state)
    weights = convert_state(
        state,
        backbone,
        scalar_head="output_heads.gradient.energy.energy_block",
        vector_head="output_heads.noise_forces.vector_block" if has_noise else None,
        convention=convention,
    )
    stored = stored_convention(state)
    signs = f"{stored}, of the tables in the file" if stored else f"{convention}, as given"
    written = write_converted(
        NativeModel(_header(options, energy_std * _KCAL, has_noise), weights, {}),
        ModelMetadata(
            energy_reference=_ENERGY,
            functional="PBE with the van der Waals correction of TS",
            training_data="md17",
            provenance="Equiformer's code for MD17",
            weights="raw",
            energy_kind=EnergyKind.LINEAR_RESIDUAL,
        ),
        source,
        target,
    )
    return AuthorsConversion(name, signs if backbone.lmax > 1 else "of no matter here", written)


def _model_of(
    state: Mapping[str, torch.Tensor], config: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    if config is not None:
        return "of the given keywords", backbone_options(config)
    count = sum(value.numel() for key, value in state.items() if not is_derived(key))
    if count not in PUBLISHED:
        known = "; ".join(f"{name} has {number:,}" for number, (name, _) in PUBLISHED.items())
        raise ValueError(
            f"Equiformer's weights with {count:,} parameters are of none of the published models "
            f"for MD17 ({known}): give the keywords of the authors' model with --config FILE.yml"
        )
    name, options = PUBLISHED[count]
    return name, dict(options)


def _header(options: Mapping[str, Any], std: float, has_noise: bool) -> NativeHeader:
    heads = {"gradient": {"module": f"{_HEADS}.conservative.ConservativeHead"}}
    tasks = [
        TaskRecord("energy", "system", "energy", (1,), "float32", ("md17",), 0.0, std, False),
        TaskRecord("forces", "atom", "forces", (3,), "float32", ("md17",), 0.0, std, False),
    ]
    if has_noise:
        heads["noise_forces"] = {"module": f"{_HEADS}.forces.NoiseHead"}
        tasks.append(
            TaskRecord("noise_forces", "atom", "noise_forces", (3,), "float32", (), 0.0, 1.0, False)
        )
    model = {
        "_target_": MODELS[0],
        "backbone": {"model": _BACKBONE, **options},
        "heads": heads,
        "supports_single_atoms": True,
    }
    return NativeHeader(model, tuple(tasks))
