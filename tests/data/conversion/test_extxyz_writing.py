"""What is written as extxyz reads back alike, and what cannot be written is said."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian, FixScaled
from downloads import fixture

from eqv2_plugin.cli import main
from eqv2_plugin.data.conversion.extxyz_writing import LOST_CONSTRAINTS, extxyz_text, write_extxyz
from eqv2_plugin.data.conversion.job import convert
from eqv2_plugin.data.conversion.sources import find_sources
from eqv2_plugin.data.fixed_atoms import fixed_mask, partly_fixed
from eqv2_plugin.data.structures import open_structures


def frames_of(path: Path) -> list[Atoms]:
    return [atoms for source in find_sources([path]) for _, atoms in source.stored()]


@pytest.mark.parametrize(
    "name", ["s2ef_lmdb_folder_ref", "oc22_s2ef", "is2re_folder", "s2ef_lmdb_test"]
)
def test_lmdbs_of_oc20_and_oc22_read_back_alike(tmp_path, name, capsys):
    out = tmp_path / "all.extxyz"
    assert main(["data", "convert", str(fixture(name)), "--out", str(out)]) == 0
    before, after = frames_of(fixture(name)), frames_of(out)
    assert f"{len(before)} frames" in capsys.readouterr().out
    assert len(after) == len(before) > 0
    for ours, theirs in zip(after, before, strict=True):
        relaxed = theirs.info.pop("pos_relaxed", None)
        np.testing.assert_array_equal(ours.arrays.get("pos_relaxed"), relaxed)
        for array in ("numbers", "positions", "tags"):
            np.testing.assert_array_equal(ours.arrays[array], theirs.arrays[array])
        np.testing.assert_array_equal(ours.cell.array, theirs.cell.array)
        np.testing.assert_array_equal(fixed_mask(ours), fixed_mask(theirs))
        assert ours.pbc.all()
        assert ours.info == theirs.info
        ours, theirs = (({} if a.calc is None else a.calc.results) for a in (ours, theirs))
        assert ours.keys() == theirs.keys()
        for label, value in theirs.items():
            np.testing.assert_array_equal(ours[label], value, err_msg=label)
    # The two ways into a database end at the same place.
    for source, folder in ((fixture(name), "direct"), (out, "by_extxyz")):
        convert(find_sources([source]), tmp_path / folder, {})
    direct, by_extxyz = (stored(tmp_path / folder) for folder in ("direct", "by_extxyz"))
    assert len(direct) == len(before)
    for one, other in zip(direct, by_extxyz, strict=True):
        assert one.arrays.keys() == other.arrays.keys()
        assert one.info == other.info
        for array, values in one.arrays.items():
            np.testing.assert_array_equal(other.arrays[array], values, err_msg=array)


def stored(folder: Path) -> list[Atoms]:
    structures = open_structures({"format": "ase_db", "src": str(folder)})
    return sorted(structures, key=lambda atoms: str(atoms.info))


def atoms_with(info: dict | None = None, constraints=()) -> Atoms:
    rng = np.random.default_rng(3)
    atoms = Atoms("COCu", rng.normal(size=(3, 3)), cell=rng.normal(size=(3, 3)) + 5 * np.eye(3))
    atoms.pbc = (True, True, False)
    atoms.info = dict(info or {})
    atoms.set_constraint(list(constraints))
    atoms.set_initial_magnetic_moments([0.5, 0, 1])
    atoms.set_array("REF_forces", rng.normal(size=(3, 3)).astype(np.float32))
    stress = rng.normal(size=6)
    atoms.calc = SinglePointCalculator(atoms, energy=-1 / 3, stress=stress, free_energy=-2 / 3)
    return atoms


def written(tmp_path: Path, atoms: Atoms, notes: Counter[str] | None = None) -> Atoms:
    path = tmp_path / "one.extxyz"
    path.write_text(extxyz_text(atoms, "here", Counter() if notes is None else notes))
    return frames_of(path)[0]


def test_labels_and_arrays_under_any_name_are_kept_to_the_last_digit(tmp_path):
    info = {"sid": "0012", "fid": 3, "REF_energy": np.float64(-0.1), "name": 'a "b" [c] = d'}
    atoms = atoms_with(info)
    found = written(tmp_path, atoms)
    assert found.info == info
    assert type(found.info["sid"]) is str
    for array in ("positions", "initial_magmoms", "REF_forces"):
        np.testing.assert_array_equal(found.arrays[array], atoms.arrays[array])
    for label in ("energy", "free_energy", "stress"):
        np.testing.assert_array_equal(found.calc.results[label], atoms.calc.results[label])
    assert found.pbc.tolist() == [True, True, False]


def test_atoms_held_in_some_directions_are_kept_or_counted(tmp_path):
    held = [FixAtoms([0]), FixCartesian([1], (True, False, True))]
    found = written(tmp_path, atoms_with(constraints=held), notes := Counter())
    assert (fixed_mask(found).tolist(), partly_fixed(found)) == ([True, False, False], 1)
    assert not notes
    held[1] = FixScaled([1], (True, False, True))
    found = written(tmp_path, atoms_with(constraints=held), notes)
    assert (fixed_mask(found).tolist(), partly_fixed(found)) == ([True, False, False], 0)
    assert notes == {LOST_CONSTRAINTS: 1}


def test_what_would_break_the_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"here: a text in its atoms\.info has several lines"):
        extxyz_text(atoms_with({"comment": "two\nlines"}), "here", Counter())
    out = tmp_path / "there.extxyz"
    out.write_text("mine")
    with pytest.raises(FileExistsError, match=r"there\.extxyz exists"):
        write_extxyz(find_sources([fixture("is2re_folder")]), out, Counter())
    assert out.read_text() == "mine"
