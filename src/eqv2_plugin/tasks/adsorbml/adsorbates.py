"""Adsorbates of fairchem-data-oc's database, which its package holds, by SMILES."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eqv2_plugin.tasks.adsorbml.packages import check_packages

if TYPE_CHECKING:
    from fairchem.data.oc.core import Adsorbate


def known_smiles() -> list[str]:
    """SMILES of all adsorbates in the database, such as "*CO".

    Raises:
        MissingCatalysisError: fairchem-data-oc is not installed.
    """
    # The file is part of the installed package, as trustworthy as its code.
    import pickle

    check_packages()
    from fairchem.data.oc.databases.pkls import ADSORBATE_PKL_PATH

    with open(ADSORBATE_PKL_PATH, "rb") as file:
        return [str(entry[1]) for entry in pickle.load(file).values()]


def check_smiles(wanted: Sequence[str]) -> None:
    """fairchem-data-oc takes a random adsorbate in place of one that it does not know.

    Raises:
        ValueError: the database does not hold one of them; the message lists similar ones.
        MissingCatalysisError: fairchem-data-oc is not installed.
    """
    known = known_smiles()
    for smiles in wanted:
        if smiles not in known:
            raise ValueError(f"there is no adsorbate {smiles!r}. {_similar(smiles, known)}")


def _similar(smiles: str, known: Sequence[str]) -> str:
    bare = {entry.replace("*", ""): entry for entry in known}
    close = [
        bare[name]
        for name in difflib.get_close_matches(smiles.replace("*", ""), bare, n=5, cutoff=0.5)
    ]
    if close:
        return f"Did you mean {', '.join(close)}? (* marks the binding atom)"
    return f"fairchem-data-oc knows {', '.join(sorted(known))} (* marks the binding atom)"


def adsorbate_list(value: str | Adsorbate | Sequence[Adsorbate]) -> list[Adsorbate]:
    """The forms that fairchem's runner takes as a list of adsorbates.

    Raises:
        ValueError: an unknown SMILES.
        TypeError: something else.
    """
    from fairchem.data.oc.core import Adsorbate

    if isinstance(value, str):
        check_smiles([value])
        return [Adsorbate(adsorbate_smiles_from_db=value)]
    given = [value] if isinstance(value, Adsorbate) else value
    if isinstance(given, (list, tuple)) and given and all(isinstance(a, str) for a in given):
        return [one for smiles in given for one in adsorbate_list(smiles)]
    if isinstance(given, (list, tuple)) and given and all(isinstance(a, Adsorbate) for a in given):
        return list(given)
    raise TypeError(f"an adsorbate must be a SMILES or fairchem-data-oc's Adsorbate, got {value!r}")


def adsorbate_name(value: str | Adsorbate | Sequence[Adsorbate]) -> str:
    """For tables: SMILES where it is known, else the formula."""
    return " + ".join(a.smiles or a.atoms.get_chemical_formula() for a in adsorbate_list(value))
