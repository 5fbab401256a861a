"""What a model's numbers are, in metadata of its checkpoint; and the five kinds of energy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from eqv2_plugin.common.options import did_you_mean

UNITS = {
    "energy": "eV",
    "forces": "eV/Å",
    "stress": "eV/Å^3",
    # DeNS: displacement of corrupted atoms.
    "noise_forces": "Å",
}
# Attribute -> its key in files, where the two differ.
_KEYS = {"provenance": "basis"}


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
    "total energy (PBE with the van der Waals correction of TS) minus the mean of the training "
    "set, eV": EnergyKind.LINEAR_RESIDUAL,
}


def as_energy_kind(value: Any, where: str = "energy_kind") -> EnergyKind:
    """The kind that a config, a file or a user names at ``where``."""
    try:
        return EnergyKind(value)
    except ValueError:
        kinds = ", ".join(EnergyKind)
        raise ValueError(f"{where} must be one of {kinds}, not {value!r}") from None


def same_energies(one: EnergyKind, other: EnergyKind) -> bool | None:
    """Whether numbers of the two kinds may be compared; None where one is unknown.

    Total energies are total energies, however they were learned.
    """
    if EnergyKind.UNKNOWN in (one, other):
        return None
    totals = {EnergyKind.TOTAL, EnergyKind.TOTAL_LINEAR}
    return one == other or {one, other} == totals


@dataclass(frozen=True)
class ModelMetadata:
    """What no weight tells of a model; ``facts`` in files and in the model's options."""

    # What the energy is relative to, in words.
    energy_reference: str = ENERGY_REFERENCES[EnergyKind.UNKNOWN]
    functional: str | None = None  # of the DFT labels, if known
    training_data: str | None = None  # data set, if known
    units: dict[str, str] = field(default_factory=dict)  # {task: unit}
    provenance: str | None = None  # of the entries above (``basis`` in files)
    source_file: str | None = None  # that was converted
    source_sha256: str | None = None  # of that file
    weights: str | None = None  # "ema" (averaged during training) or "raw" (not averaged)
    weights_sha256: str | None = None  # see `hashing.state_sha256`
    converter_version: str | None = None  # version of this package that converted it
    # Which kind ``energy_reference`` words; None in older files. Read by `energy_kind_of` alone.
    energy_kind: EnergyKind | None = None
    # What the output `SCALAR` is called in the training data; None of models of energies.
    target: str | None = None
    target_kind: str | None = None  # of that, "intensive" or "extensive"

    @classmethod
    def from_mapping(cls, stored: Mapping[str, Any]) -> ModelMetadata:
        """From what a checkpoint or a recipe holds.

        Raises:
            ValueError: an entry of another name, one that is no text, or no kind of energy.
        """
        names = {_KEYS.get(f.name, f.name): f.name for f in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for key, value in stored.items():
            if key not in names:
                raise ValueError(f"a model has no fact {key!r}{did_you_mean(key, names)}")
            if key == "units":
                values[key] = {str(task): str(unit) for task, unit in value.items()}
            elif value is not None and not isinstance(value, str):
                raise ValueError(f"the fact {key!r} must be text, got {value!r}")
            elif key == "energy_kind" and value is not None:
                values[key] = as_energy_kind(value, "the fact 'energy_kind'")
            elif value is not None:
                values[names[key]] = value
        if values.get("energy_kind") is not None:
            values.setdefault("energy_reference", ENERGY_REFERENCES[values["energy_kind"]])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """What is known, as the plain data of a file: checkpoints are read without our classes."""
        known = {_KEYS.get(k, k): v for k, v in dataclasses.asdict(self).items() if v}
        if self.energy_kind is not None:
            known["energy_kind"] = str(self.energy_kind.value)
        return known

    def sentence(self) -> str:
        """One line on what the energies are; result folders are compared by it, so it stays."""
        if self.target is not None:
            return (
                f"this model predicts {self.target!r} ({self.target_kind}), one number per "
                "structure, and no energy: calculators have nothing to give, and `eqv2 predict` "
                "writes a table"
            )
        details = [self.functional, self.training_data and f"trained on {self.training_data}"]
        if self.energy_kind is not None and self.energy_reference not in ENERGY_REFERENCES.values():
            details.insert(0, f"kind: {self.energy_kind}")
        bracket = "; ".join(text for text in details if text)
        origin = f" [{self.source_file}, {self.weights} weights]" if self.source_file else ""
        energy = f"energies of this model: {self.energy_reference}"
        return energy + (f" ({bracket})" if bracket else "") + origin


# Under its earlier name.
ModelFacts = ModelMetadata


def metadata_of(model: Any) -> ModelMetadata | None:
    """A model's metadata; None where its checkpoint says nothing, or the model is another's."""
    return getattr(model, "metadata", None)


def energy_kind_of(metadata: ModelMetadata | None) -> EnergyKind:
    """Which energy a checkpoint's metadata speaks of; no one else reads its words.

    Without a kind (older files) the words decide, if this package wrote them: other words are
    not guessed at.
    """
    if metadata is None:
        return EnergyKind.UNKNOWN
    if metadata.energy_kind is not None:
        return metadata.energy_kind
    return _WORDS.get(metadata.energy_reference, EnergyKind.UNKNOWN)
