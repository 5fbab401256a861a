"""Whether AdsorbML can use a checkpoint's energies, and the gas-phase references for total ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eqv2_plugin.models.energy_kind import EnergyKind, energy_kind_of, same_energies
from eqv2_plugin.models.metadata import ModelFacts

if TYPE_CHECKING:
    from fairchem.data.oc.core import Adsorbate

# Gas-phase references of OC20 per adsorbate atom, RPBE, eV (Chanussot et al. 2021, supporting
# information): with them, total energies give adsorption energies as OC20 defines them.
GAS_REFERENCES = {"H": -3.477, "O": -7.204, "C": -7.282, "N": -8.083}

_ADVICE = {
    EnergyKind.ADSORPTION: "leave adsorption_energy_model at true",
    EnergyKind.TOTAL: "set adsorption_energy_model=false, which references total energies",
    EnergyKind.TOTAL_LINEAR: "set adsorption_energy_model=false, which references total energies",
    EnergyKind.LINEAR_RESIDUAL: "AdsorbML needs adsorption energies as of OC20, or total energies",
}


def check_energy_kind(facts: ModelFacts | None, adsorption_energy_model: bool) -> str:
    """Compare the checkpoint with what the user says of it.

    Args:
        facts: of the checkpoint, if it has any.
        adsorption_energy_model: the user's word, which counts where the checkpoint is silent.

    Returns:
        A sentence on what the energies are.

    Raises:
        ValueError: the checkpoint says that they are something else.
    """
    kind = energy_kind_of(facts)
    said = EnergyKind.ADSORPTION if adsorption_energy_model else EnergyKind.TOTAL
    fits = same_energies(kind, said)
    if facts is None or fits is None:
        return f"The checkpoint does not say what its energies are; taken as {said} energies."
    if not fits:
        raise ValueError(
            f"adsorption_energy_model={str(adsorption_energy_model).lower()} does not fit the "
            f"checkpoint. {facts.sentence()}: {_ADVICE[kind]}"
        )
    return facts.sentence()


def gas_energy(adsorbates: Sequence[Adsorbate]) -> float:
    """Gas-phase reference of adsorbates, eV.

    Raises:
        ValueError: OC20 has no reference for an element.
    """
    symbols = [symbol for one in adsorbates for symbol in one.atoms.get_chemical_symbols()]
    missing = sorted(set(symbols) - set(GAS_REFERENCES))
    if missing:
        raise ValueError(
            f"OC20 has no gas-phase reference for {', '.join(missing)}, so that total energies "
            "cannot be made adsorption energies"
        )
    return sum(GAS_REFERENCES[symbol] for symbol in symbols)
