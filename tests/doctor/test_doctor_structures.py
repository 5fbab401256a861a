"""Which structures a model is examined with, and which are refused."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from eqv2_plugin.doctor.structures import MAX_STRUCTURES, RATTLE, choose_structures

ALL = set(range(1, 84))


def choose(path: Path | None, task: str = "oc20", elements: set[int] = ALL, cutoff: float = 4.0):
    return choose_structures(path, task, elements, cutoff)


def written(path: Path, *structures: Atoms) -> Path:
    ase.io.write(path, list(structures))
    return path


@pytest.mark.parametrize(
    ("task", "elements", "sample"),
    [
        ("oc20", ALL, "oc20_sample"),
        ("of_my_own", ALL, "oc20_sample"),
        ("md17", ALL, "rmd17_ethanol"),
        # Molecules are left for a model that knows no metals.
        ("oc20", {1, 6, 8}, "rmd17_ethanol"),
    ],
)
def test_a_sample_is_chosen_by_data_set_and_elements(task, elements, sample):
    chosen, origin = choose(None, task, elements)
    assert origin.endswith(sample)
    assert 2 <= len(chosen) <= MAX_STRUCTURES
    for atoms in chosen:
        assert set(atoms.numbers) <= elements
        assert atoms.calc is None


def test_no_sample_for_the_elements_asks_for_a_file():
    with pytest.raises(ValueError, match="knows He, Ne: name a file"):
        choose(None, "oc20", {2, 10})


def test_structures_of_a_file_are_spread_and_rattled(tmp_path):
    frames = [bulk("Cu", a=3.6 + 0.01 * i, cubic=True) for i in range(10)]
    chosen, origin = choose(written(tmp_path / "cu.extxyz", *frames))
    assert origin == f"{MAX_STRUCTURES} of 10 in cu.extxyz"
    lengths = [atoms.cell.lengths()[0] for atoms in chosen]
    assert lengths == pytest.approx([3.6, 3.63, 3.66, 3.69])
    moved = chosen[0].positions - frames[0].positions
    assert 0 < np.abs(moved).max() < 5 * RATTLE


def test_the_same_structures_come_again(tmp_path):
    path = written(tmp_path / "one.traj", molecule("CH3CH2OH"))
    first, again = choose(path)[0][0], choose(path)[0][0]
    assert np.array_equal(first.positions, again.positions)


def without_cell() -> Atoms:
    return Atoms("Cu2", [[0, 0, 0], [2.4, 0, 0]], cell=[0, 5, 5], pbc=True)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (molecule("CH3CH2OH"), r"structure 1 holds C, O, which the model does not know"),
        (Atoms("H", cell=[9, 9, 9], pbc=True), "1 isolated atom"),
        (
            Atoms("H3", [[0, 0, 0], [0, 0, 0.8], [0, 0, 9]]),
            "1 isolated atom.*such as atom 2: no neighbour is within the model's cutoff of 4 Å",
        ),
        (without_cell(), "periodic along a direction without cell vector"),
        (Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]), "not finite"),
    ],
)
def test_structures_that_say_nothing_are_refused(tmp_path, atoms, message):
    path = written(tmp_path / "bad.traj", molecule("H2"), atoms)
    with pytest.raises(ValueError, match=rf"bad.traj, structure 1 .*{message}|{message}"):
        choose(path, elements={1, 29})


@pytest.mark.parametrize("text", ["", "2\nno lattice\nH 0 0\n", "certainly no structure"])
def test_files_that_are_no_structures_are_refused(tmp_path, text):
    path = tmp_path / "bad.xyz"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"bad.xyz (cannot be read as|holds no) structure"):
        choose(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        choose(tmp_path / "none.xyz")
