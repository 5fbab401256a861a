"""How many structures go through the model at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ase import Atoms


@dataclass(frozen=True)
class BatchLimit:
    """The largest batch. At least one of the two is given; a single structure always fits.

    Attributes:
        structures: at most.
        atoms: at most, of all structures together.
    """

    structures: int | None = None
    atoms: int | None = None

    def __post_init__(self) -> None:
        if self.structures is None and self.atoms is None:
            raise ValueError("a batch limit needs a number of structures or of atoms")
        for name in ("structures", "atoms"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"a batch must hold at least 1 of {name}, got {value!r}")

    def fits(self, moving: Sequence[Atoms], another: Atoms) -> bool:
        """Whether ``another`` structure has room beside those that are moving."""
        if not moving:
            return True
        if self.structures is not None and len(moving) >= self.structures:
            return False
        atoms = len(another) + sum(len(other) for other in moving)
        return self.atoms is None or atoms <= self.atoms
