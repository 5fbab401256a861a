"""What a v1 checkpoint's energies are relative to, from all that it tells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eqv2_plugin.checkpoints.v1.config import dataset_section
from eqv2_plugin.models.metadata import ENERGY_REFERENCES, EnergyKind, ModelMetadata, as_energy_kind


@dataclass(frozen=True)
class DataSet:
    """A data set: name in tasks, name in words, which energy, functional."""

    task: str
    words: str
    energy_reference: EnergyKind
    functional: str


OC20 = DataSet("oc20", "OC20", EnergyKind.ADSORPTION, "RPBE")
OC22 = DataSet("oc22", "OC22", EnergyKind.TOTAL_LINEAR, "PBE+U")
ODAC = DataSet("odac", "ODAC23", EnergyKind.ADSORPTION, "PBE-D3")
OMAT = DataSet("omat", "OMat24", EnergyKind.TOTAL_LINEAR, "PBE and PBE+U")
OMAT_MP_ALEX = DataSet(
    "omat", "OMat24, then MPtrj and sAlex", EnergyKind.TOTAL_LINEAR, "PBE and PBE+U"
)
MPTRJ = DataSet("mptrj", "MPtrj", EnergyKind.TOTAL_LINEAR, "PBE and PBE+U")

# Published EquiformerV2 files, by the names in fairchem-core 1's list of models; nothing here was
# read from the files.
PUBLISHED = {
    "eq2_83M_2M.pt": OC20,
    "eq2_31M_ec4_allmd.pt": OC20,
    "eq2_153M_ec4_allmd.pt": OC20,
    "eq2_121M_e4_f100_oc22_s2ef.pt": OC22,
    "eqv2_31M.pt": ODAC,
    "Equiformer_V2_Large.pt": ODAC,
    "Equiformer_V2_Direct.pt": ODAC,
    "eqV2_31M_omat.pt": OMAT,
    "eqV2_86M_omat.pt": OMAT,
    "eqV2_153M_omat.pt": OMAT,
    "eqV2_31M_omat_mp_salex.pt": OMAT_MP_ALEX,
    "eqV2_86M_omat_mp_salex.pt": OMAT_MP_ALEX,
    "eqV2_153M_omat_mp_salex.pt": OMAT_MP_ALEX,
    "eqV2_31M_mp.pt": MPTRJ,
    "eqV2_dens_31M_mp.pt": MPTRJ,
    "eqV2_dens_86M_mp.pt": MPTRJ,
    "eqV2_dens_153M_mp.pt": MPTRJ,
}

# Mean and scale of the energy in the published OC20 configs; scale in those of OC22.
_OC20_ENERGY = (-0.7554450631141663, 2.887317180633545)
_OC22_ENERGY = (0.0, 25.119809935106424)
# What the user may call energies to which the checkpoint adds references.
_BOTH_TOTAL = (EnergyKind.TOTAL, EnergyKind.TOTAL_LINEAR)
_WORDS = [
    (r"oc22", OC22),
    (r"odac", ODAC),
    (r"omat", OMAT),
    (r"mptrj", MPTRJ),
    (r"oc20|trajectory_lmdb", OC20),
]


def find_data_set(
    config: Mapping[str, Any],
    energy: tuple[float, float] | None,
    file_name: str,
    wanted: str | None,
) -> tuple[DataSet | None, str]:
    """The training data, and what tells it.

    Args:
        energy: (mean, rmsd) of the energy's normaliser in the checkpoint.
        file_name: the published names count.
        wanted: --energy-reference, which settles a conflict of normaliser and config.
    """
    by_numbers = _by_normalizer(energy)
    by_text = _by_text(config)
    if by_numbers and by_text and by_numbers.task != by_text.task:
        agreeing = [data for data in (by_numbers, by_text) if wanted and _agrees(wanted, data)]
        if len(agreeing) == 1:
            return agreeing[0], "stated by the user"
        raise ValueError(
            f"energy reference in conflict: the checkpoint's normaliser is that of "
            f"{by_numbers.words} ({ENERGY_REFERENCES[by_numbers.energy_reference]}), but the "
            f"config names {by_text.words} ({ENERGY_REFERENCES[by_text.energy_reference]}); "
            "say which it is with --energy-reference"
        )
    if file_name in PUBLISHED:
        return PUBLISHED[file_name], f"file name {file_name}, as published"
    if by_numbers:
        return by_numbers, f"the energy's normaliser is that of {by_numbers.words}"
    if by_text:
        return by_text, f"the config names {by_text.words}"
    return None, "nothing in the file tells"


def energy_reference(
    found: tuple[DataSet | None, str], structure: EnergyKind | None, wanted: str | None
) -> ModelMetadata:
    """Settle what the energies are, and say it; a ValueError where that is contradictory.

    Args:
        found: from `find_data_set`.
        structure: what the checkpoint's own references imply: ``TOTAL_LINEAR`` (it adds
            some), ``LINEAR_RESIDUAL`` (it has some and does not add them), None (it has none).
        wanted: the user's word, the name of an `EnergyKind`.
    """
    data, told_by = found
    held = "the checkpoint holds linear references per element"
    if wanted is not None:
        wanted = as_energy_kind(wanted, "--energy-reference")
    if structure is not None:
        if wanted not in (None, structure) and (wanted, structure) != _BOTH_TOTAL:
            raise ValueError(
                f"--energy-reference {wanted} is in conflict with the checkpoint, which holds "
                f"linear references per element: {ENERGY_REFERENCES[structure]}"
            )
        if data is not None and data.energy_reference == EnergyKind.ADSORPTION:
            raise ValueError(
                f"energy reference in conflict: {held}, but {data.words} ({told_by}) has "
                "adsorption energies"
            )
        return _metadata(structure, data, f"{told_by}; {held}" if data else held)
    if wanted == EnergyKind.TOTAL_LINEAR:
        raise ValueError(
            "--energy-reference total_linear is in conflict with the checkpoint, which holds no "
            "linear references to add"
        )
    if wanted is not None:
        of_detail = wanted == EnergyKind.LINEAR_RESIDUAL
        if data is not None and not of_detail and not _agrees(wanted, data):
            raise ValueError(
                f"--energy-reference {wanted} is in conflict with {data.words} ({told_by}): "
                f"{ENERGY_REFERENCES[data.energy_reference]}"
            )
        return _metadata(wanted, data, "stated by the user")
    if data is None:
        return _metadata(EnergyKind.UNKNOWN, None, told_by)
    if data.energy_reference == EnergyKind.TOTAL_LINEAR:
        raise ValueError(
            f"energy reference in conflict: {data.words} models ({told_by}) learn energies "
            "relative to linear references per element, but the checkpoint holds none. If they "
            "were trained without, pass --energy-reference total; if the references are kept "
            "elsewhere, --energy-reference linear_residual"
        )
    return _metadata(data.energy_reference, data, told_by)


def _metadata(kind: EnergyKind, data: DataSet | None, provenance: str) -> ModelMetadata:
    return ModelMetadata(
        energy_reference=ENERGY_REFERENCES[kind],
        energy_kind=kind,
        functional=data.functional if data else None,
        training_data=data.words if data else None,
        provenance=provenance,
    )


def _agrees(wanted: str, data: DataSet) -> bool:
    """Adsorption energies and total ones exclude each other; the rest is a matter of detail."""
    if wanted == EnergyKind.UNKNOWN:
        return True
    adsorption = EnergyKind.ADSORPTION
    return (wanted == adsorption) == (data.energy_reference == adsorption)


def _by_normalizer(energy: tuple[float, float] | None) -> DataSet | None:
    for numbers, data in ((_OC20_ENERGY, OC20), (_OC22_ENERGY, OC22)):
        if energy is not None and all(
            abs(a - b) < 1e-5 * max(abs(b), 1.0) for a, b in zip(energy, numbers, strict=True)
        ):
            return data
    return None


def _by_text(config: Mapping[str, Any]) -> DataSet | None:
    section = dataset_section(config)
    task = config.get("task") or {}
    texts = [section.get("src"), section.get("format"), task.get("dataset")]
    text = " ".join(str(entry) for entry in texts).lower()
    for pattern, data in _WORDS:
        if re.search(pattern, text):
            return data
    return None
