"""Adsorbates of fairchem-data-oc's database, by SMILES."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairchem.data.oc.core import Adsorbate


class MissingCatalysisError(ImportError):
    """The optional packages are not installed."""


def check_packages() -> None:
    """Raise MissingCatalysisError without fairchem-data-oc, or what fairchem's AdsorbML imports."""
    try:
        import fairchem.core.components.calculate.recipes.adsorbml
        import fairchem.data.oc.core  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingCatalysisError(
            f"AdsorbML needs packages that are not installed ({error}): "
            "pip install 'eqv2-plugin[catalysis]'"
        ) from error


def known_smiles() -> list[str]:
    """SMILES of all adsorbates in the database, such as "*CO"."""
    # The file is part of the installed package, as trustworthy as its code.
    import pickle

    check_packages()
    from fairchem.data.oc.databases.pkls import ADSORBATE_PKL_PATH

    with open(ADSORBATE_PKL_PATH, "rb") as file:
        return [str(entry[1]) for entry in pickle.load(file).values()]


def check_smiles(wanted: Sequence[str]) -> None:
    """fairchem-data-oc would take a random adsorbate in place of one that it does not know."""
    known = known_smiles()
    for smiles in wanted:
        if smiles not in known:
            raise ValueError(f"there is no adsorbate {smiles!r}. {_similar(smiles, known)}")


def _similar(smiles: str, known: Sequence[str]) -> str:
    bare = {entry.replace("*", ""): entry for entry in known}
    close = difflib.get_close_matches(smiles.replace("*", ""), bare, n=5, cutoff=0.5)
    if close:
        names = ", ".join(bare[name] for name in close)
        return f"Did you mean {names}? (* marks the binding atom)"
    return f"fairchem-data-oc knows {', '.join(sorted(known))} (* marks the binding atom)"


def adsorbate_list(value: str | Adsorbate | Sequence[str] | Sequence[Adsorbate]) -> list[Adsorbate]:
    """A list of adsorbates from any form that fairchem's runner takes."""
    from fairchem.data.oc.core import Adsorbate

    given: list = list(value) if isinstance(value, (list, tuple)) else [value]
    if given and all(isinstance(one, str) for one in given):
        check_smiles(given)
        return [Adsorbate(adsorbate_smiles_from_db=smiles) for smiles in given]
    if given and all(isinstance(one, Adsorbate) for one in given):
        return given
    raise TypeError(f"an adsorbate must be a SMILES or fairchem-data-oc's Adsorbate, got {value!r}")


def adsorbate_name(adsorbates: Sequence[Adsorbate]) -> str:
    """For tables: SMILES where it is known, else the formula."""
    return " + ".join(one.smiles or one.atoms.get_chemical_formula() for one in adsorbates)
