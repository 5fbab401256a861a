"""What a model's numbers are: facts that travel inside its checkpoint."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eqv2_plugin.common.options import did_you_mean
from eqv2_plugin.models.energy_kind import ENERGY_REFERENCES, EnergyKind, as_energy_kind

__all__ = ["ENERGY_REFERENCES", "UNITS", "ModelFacts", "announce_once"]

UNITS = {
    "energy": "eV",
    "forces": "eV/Å",
    "stress": "eV/Å^3",
    # DeNS: displacement of corrupted atoms.
    "noise_forces": "Å",
}


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a model that no weight tells.

    Attributes:
        energy_reference: what the energy is relative to, in words.
        functional: of the DFT labels, if known.
        training_data: data set, if known.
        units: {task: unit}.
        basis: how reference, functional and data were found out.
        source_file: name of the file that was converted.
        source_sha256: its SHA-256.
        weights: "ema" (averaged during training) or "raw".
        weights_sha256: see `hashing.state_sha256`.
        converter_version: version of this package that converted it.
        energy_kind: which of the kinds ``energy_reference`` words; None in older files. To be
            read with `energy_kind_of` alone.
    """

    energy_reference: str = ENERGY_REFERENCES[EnergyKind.UNKNOWN]
    functional: str | None = None
    training_data: str | None = None
    units: dict[str, str] = field(default_factory=dict)
    basis: str | None = None
    source_file: str | None = None
    source_sha256: str | None = None
    weights: str | None = None
    weights_sha256: str | None = None
    converter_version: str | None = None
    energy_kind: EnergyKind | None = None

    @classmethod
    def from_mapping(cls, facts: Mapping[str, Any]) -> ModelFacts:
        """From what a checkpoint or a recipe holds.

        Raises:
            ValueError: a fact of another name, one that is no text, or no kind of energy.
        """
        known = [item.name for item in dataclasses.fields(cls)]
        values: dict[str, Any] = {}
        for key, value in facts.items():
            if key not in known:
                raise ValueError(f"a model has no fact {key!r}{did_you_mean(key, known)}")
            if key == "units":
                values[key] = {str(task): str(unit) for task, unit in value.items()}
            elif value is not None and not isinstance(value, str):
                raise ValueError(f"the fact {key!r} must be text, got {value!r}")
            elif key == "energy_kind" and value is not None:
                values[key] = as_energy_kind(value, "the fact 'energy_kind'")
            elif value is not None:
                values[key] = value
        if values.get("energy_kind") is not None:
            values.setdefault("energy_reference", ENERGY_REFERENCES[values["energy_kind"]])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The facts that are there, as plain data."""
        facts = {key: value for key, value in dataclasses.asdict(self).items() if value}
        if self.energy_kind is not None:
            # Checkpoints are pickles, and are read without any class of ours.
            facts["energy_kind"] = str(self.energy_kind.value)
        return facts

    def sentence(self) -> str:
        """One line on what the energies are."""
        details = [self.functional, self.training_data and f"trained on {self.training_data}"]
        if self.energy_kind is not None and self.energy_reference not in ENERGY_REFERENCES.values():
            details.insert(0, f"kind: {self.energy_kind}")
        bracket = "; ".join(text for text in details if text)
        origin = f" [{self.source_file}, {self.weights} weights]" if self.source_file else ""
        energy = f"energies of this model: {self.energy_reference}"
        return energy + (f" ({bracket})" if bracket else "") + origin


_ANNOUNCED: set[str] = set()


def announce_once(facts: ModelFacts) -> None:
    """Say what the energies are, once per process and checkpoint.

    Logged as a warning: fairchem does the same for what a user of a calculator should not
    overlook, and information below that level stays invisible by default.
    """
    key = repr(facts)
    if key not in _ANNOUNCED:
        _ANNOUNCED.add(key)
        logging.getLogger(__name__).warning(facts.sentence())
