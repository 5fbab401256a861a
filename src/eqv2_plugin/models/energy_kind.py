"""Which energy a model predicts, or a data set holds: five kinds, and the one reader of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol


class EnergyKind(StrEnum):
    """What an energy is relative to.

    ``ADSORPTION``: total energy minus that of the bare surface or framework minus a gas-phase
    reference of the adsorbate. ``TOTAL``: as DFT prints it. ``TOTAL_LINEAR``: the same, learned
    relative to references per element that are added back. ``LINEAR_RESIDUAL``: total energy minus
    references that were fitted to the data (per element, or one constant) and are not added back.
    """

    ADSORPTION = "adsorption"
    TOTAL = "total"
    TOTAL_LINEAR = "total_linear"
    LINEAR_RESIDUAL = "linear_residual"
    UNKNOWN = "unknown"


# Kind -> what the calculator's energy is, where nobody words it better.
ENERGY_REFERENCES = {
    EnergyKind.ADSORPTION: "adsorption energy: DFT total energy minus that of the bare surface or "
    "framework minus a gas-phase reference of the adsorbate",
    EnergyKind.TOTAL: "DFT total energy",
    EnergyKind.TOTAL_LINEAR: "DFT total energy, learned relative to linear references per element, "
    "which the calculator adds back",
    EnergyKind.LINEAR_RESIDUAL: "DFT total energy minus linear references per element, which are "
    "not added back",
    EnergyKind.UNKNOWN: "unknown",
}

# Checkpoints of before the kind was written hold words alone: all that conversion, the recipes,
# the documentation and the benchmarks of this package ever put there.
_WORDS = {words: kind for kind, words in ENERGY_REFERENCES.items()} | {
    "DFT total energy minus clean slab minus gas-phase reference (OC20 adsorption energy), RPBE, "
    "eV": EnergyKind.ADSORPTION,
    "DFT total energy minus clean slab minus gas-phase CO, CHO or COH, eV (functional not "
    "stated)": EnergyKind.ADSORPTION,
    "EMT energy minus clean slab minus isolated atom (adsorption energy)": EnergyKind.ADSORPTION,
    "DFT total energy (PBE+U); the model learns it relative to a linear fit per element, "
    "eV": EnergyKind.TOTAL_LINEAR,
    "DFT total energy, PBE": EnergyKind.TOTAL,
    "total energy (PBE/def2-SVP) minus the mean of the training set, "
    "eV": EnergyKind.LINEAR_RESIDUAL,
}


def as_energy_kind(value: Any, where: str = "energy_kind") -> EnergyKind:
    """The kind that a config, a file or a user names at ``where``.

    Raises:
        ValueError: there is no such kind.
    """
    try:
        return EnergyKind(value)
    except ValueError:
        kinds = ", ".join(EnergyKind)
        raise ValueError(f"{where} must be one of {kinds}, not {value!r}") from None


class _Metadata(Protocol):
    """What is asked of `ModelMetadata` here."""

    @property
    def energy_kind(self) -> EnergyKind | None: ...

    @property
    def energy_reference(self) -> str: ...


def energy_kind_of(metadata: _Metadata | None) -> EnergyKind:
    """Which energy a checkpoint's metadata speaks of; no one else reads its words.

    Without a kind (older files) the words decide, if this package wrote them: other words are
    not guessed at.
    """
    if metadata is None:
        return EnergyKind.UNKNOWN
    if metadata.energy_kind is not None:
        return metadata.energy_kind
    return _WORDS.get(metadata.energy_reference, EnergyKind.UNKNOWN)


def same_energies(one: EnergyKind, other: EnergyKind) -> bool | None:
    """Whether numbers of the two kinds may be compared; None where one is unknown.

    Total energies are total energies, however they were learned.
    """
    if EnergyKind.UNKNOWN in (one, other):
        return None
    totals = {EnergyKind.TOTAL, EnergyKind.TOTAL_LINEAR}
    return one == other or {one, other} == totals
