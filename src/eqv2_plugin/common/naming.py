"""How messages name an atom or a structure of a batch: as its user counts them."""

from __future__ import annotations

from ase.data import chemical_symbols
from fairchem.core.datasets.atomic_data import AtomicData


def structure_name(data: AtomicData, structure: int) -> str:
    """ "structure 1 ('random12')"; without the bracket where the batch carries no sid."""
    names = getattr(data, "sid", None)
    known = names is not None and structure < len(names) and names[structure]
    return f"structure {structure}" + (f" ('{names[structure]}')" if known else "")


def atom_names(data: AtomicData, *atoms: int) -> str:
    """ "atom 2 of structure 1", "atoms 0 and 2 of structure 1 ('random12')".

    ``atoms`` are indices in the batch, of one structure; they are counted within it.
    """
    structure = int(data.batch[atoms[0]])
    first = int((data.batch < structure).sum())
    counted = " and ".join(str(atom - first) for atom in sorted(atoms))
    return f"atom{'s' * (len(atoms) > 1)} {counted} of {structure_name(data, structure)}"


def element_name(number: int) -> str:
    """The symbol of an element; of a number that no element has, the number itself."""
    return chemical_symbols[number] if 0 < number < len(chemical_symbols) else str(number)
