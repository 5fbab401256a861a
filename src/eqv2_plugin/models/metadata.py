"""What a model's numbers are: metadata that travels inside its checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eqv2_plugin.common.options import did_you_mean
from eqv2_plugin.models.energy_kind import ENERGY_REFERENCES, EnergyKind, as_energy_kind

UNITS = {
    "energy": "eV",
    "forces": "eV/Å",
    "stress": "eV/Å^3",
    # DeNS: displacement of corrupted atoms.
    "noise_forces": "Å",
}
# Attribute -> its key in files, where the two differ.
_KEYS = {"provenance": "basis"}


@dataclass(frozen=True)
class ModelMetadata:
    """What no weight tells of a model; in files and in the model's options it is called ``facts``.

    Attributes:
        energy_reference: what the energy is relative to, in words.
        functional: of the DFT labels, if known.
        training_data: data set, if known.
        units: {task: unit}.
        provenance: how reference, functional and data were found out (``basis`` in files).
        source_file, source_sha256: name and SHA-256 of the file that was converted.
        weights: "ema" (averaged during training) or "raw" (not averaged).
        weights_sha256: see `hashing.state_sha256`.
        converter_version: version of this package that converted it.
        energy_kind: which of the kinds ``energy_reference`` words; None in older files. To be
            read with `energy_kind_of` alone.
    """

    energy_reference: str = ENERGY_REFERENCES[EnergyKind.UNKNOWN]
    functional: str | None = None
    training_data: str | None = None
    units: dict[str, str] = field(default_factory=dict)
    provenance: str | None = None
    source_file: str | None = None
    source_sha256: str | None = None
    weights: str | None = None
    weights_sha256: str | None = None
    converter_version: str | None = None
    energy_kind: EnergyKind | None = None

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
