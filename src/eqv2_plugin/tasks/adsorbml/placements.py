"""Adsorbates placed on slabs by fairchem-data-oc, reproducibly."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

if TYPE_CHECKING:
    from fairchem.data.oc.core import Adsorbate

# Of fairchem-data-oc: the last is what fairchem's own runner uses.
MODES = ("heuristic", "random", "random_site_heuristic_placement")


@dataclass(frozen=True)
class Protocol:
    """What is done with each system; a ValueError if that is nothing, or an unknown mode."""

    placements: Mapping[str, int]  # {mode: number}; modes without placements are left out
    seed: int = 0  # of the placements
    # Whether the model predicts adsorption energies, as of OC20, or total ones, from which those of
    # the relaxed clean slab and of the gas phase are subtracted.
    adsorption_energy_model: bool = True
    place_on_relaxed_slab: bool = False  # relaxed with the model

    def __post_init__(self) -> None:
        for mode, number in self.placements.items():
            if mode not in MODES:
                raise ValueError(
                    f"there is no placement mode {mode!r}; choose from {', '.join(MODES)}"
                )
            if type(number) is not int or number < 0:
                raise ValueError(
                    f"placements of mode {mode} must be a whole number, got {number!r}"
                )
        wanted = {mode: number for mode, number in self.placements.items() if number}
        if not wanted:
            raise ValueError("no placements: give a number for at least one mode")
        object.__setattr__(self, "placements", wanted)


def place(
    system: str,
    slab: Atoms,
    adsorbates: Sequence[Adsorbate],
    numbers: Mapping[str, int],
    seed: int,
) -> list[tuple[str, Atoms]]:
    """Initial structures of one system.

    They depend on ``seed``, the system's id and the mode only: not on other systems, nor on how
    they are shared out among jobs. All adsorbates are placed at the same time.

    Returns:
        Ids ("heuristic-0007") and structures, periodic, the adsorbate with tag 2 at the end.

    Raises:
        ValueError: fairchem-data-oc finds no place, or refuses the slab.
    """
    from fairchem.core.components.calculate.recipes.adsorbml import ocp_adslab_generator

    placed: list[tuple[str, Atoms]] = []
    for mode, number in numbers.items():
        try:
            with _seeded_and_quiet(placement_seed(seed, system, mode)):
                structures = ocp_adslab_generator(
                    slab, list(adsorbates), {"num_configurations": number, "mode": mode}
                )
        except (AssertionError, ValueError, IndexError) as error:
            raise ValueError(
                f"fairchem-data-oc cannot place the adsorbate with mode {mode} ({error})"
            ) from error
        placed += [(f"{mode}-{i:04d}", atoms) for i, atoms in enumerate(structures)]
    return placed


def placement_seed(seed: int, system: str, mode: str) -> int:
    """Seed of numpy's global generator for one system and mode, 32 bits."""
    digest = hashlib.sha256(f"{seed}\n{system}\n{mode}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


@contextmanager
def _seeded_and_quiet(seed: int) -> Iterator[None]:
    """fairchem-data-oc draws from numpy's global generator, and tells of every structure.

    Its messages (scipy's on root finding, how many sites there are) are left out: what matters in
    them, atoms that overlap, the relaxation shows.
    """
    state, root = np.random.get_state(), logging.getLogger()
    level = root.level
    np.random.seed(seed)
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    finally:
        np.random.set_state(state)
        root.setLevel(level)
