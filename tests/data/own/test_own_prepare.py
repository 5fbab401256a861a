"""From files as people have them to what training reads."""

from __future__ import annotations

import dataclasses
import json
import logging

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from own_frames import labelled

from eqv2_plugin.data.own.prepare import OwnData, prepare
from eqv2_plugin.data.structures import open_structures

FORMULAS = ("H2O", "CH4", "NH3", "CO2", "C2H6", "H2O2")


def frames(count: int = 24, **names):
    return [labelled(FORMULAS[i % len(FORMULAS)], seed=i, **names) for i in range(count)]


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "mine.extxyz", frames(energy_key="REF_energy", forces_key="REF_forces"))
    return OwnData(
        train=(str(tmp_path / "mine.extxyz"),),
        val=None,
        val_fraction=0.2,
        group_key=None,
        energy_key=None,
        forces_key=None,
        references="fit",
        cutoff=5.0,
        max_neighbors=20,
        seed=0,
    )


def read(folder):
    return list(open_structures({"format": "ase_db", "src": str(folder)}))


def test_all_labels_arrive_in_one_part_each(data, tmp_path):
    numbers = prepare(data, tmp_path / "out")
    train, val = read(tmp_path / "out" / "train"), read(tmp_path / "out" / "val")
    assert len(train) == numbers["frames"]
    assert len(train) + len(val) == 24
    groups = [{a.get_chemical_formula() for a in part} for part in (train, val)]
    assert not groups[0] & groups[1]
    expected = {a.info["REF_energy"]: a for a in frames(energy_key="REF_energy", forces_key="F")}
    for atoms in train + val:
        original = expected.pop(min(expected, key=lambda e: abs(e - atoms.get_potential_energy())))
        np.testing.assert_allclose(atoms.get_potential_energy(), original.info["REF_energy"])
        np.testing.assert_allclose(atoms.get_forces(), original.arrays["F"], atol=1e-7)
        np.testing.assert_allclose(atoms.positions, original.positions, atol=1e-7)
    forces = np.concatenate([a.get_forces() for a in train])
    assert numbers["force_rms"] == pytest.approx(np.sqrt(np.mean(forces**2)))
    assert numbers["avg_num_nodes"] == pytest.approx(np.mean([len(a) for a in train]))
    assert all(-8 < e < -3 for e in numbers["references"].values())
    assert "energy from 'REF_energy'" in numbers["summary"][0]


def test_the_same_call_again_reads_what_is_there_and_another_is_refused(data, tmp_path):
    first = prepare(data, tmp_path / "out")
    assert prepare(data, tmp_path / "out") == first
    with pytest.raises(ValueError, match=r"options.val_fraction: 0.2 -> 0.5.*run_name=NAME"):
        prepare(dataclasses.replace(data, val_fraction=0.5), tmp_path / "out")


def test_a_mistake_or_a_kill_leaves_nothing_in_the_way(data, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no frame stores that"):
        prepare(dataclasses.replace(data, energy_key="E"), tmp_path / "out")
    monkeypatch.setattr("eqv2_plugin.data.own.prepare.save_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(dataclasses.replace(data, val_fraction=0.5), tmp_path / "out")
    monkeypatch.undo()
    assert len(read(prepare(data, tmp_path / "out")["root"] + "/train")) > 12


def test_files_by_pattern_and_a_validation_file(data, tmp_path, caplog):
    for name in "ab":
        write(tmp_path / f"{name}.traj", frames(6))
    write(tmp_path / "other.xyz", frames(8)[4:])
    given = dataclasses.replace(
        data, train=(str(tmp_path / "*.traj"),), val=(str(tmp_path / "other.xyz"),)
    )
    with caplog.at_level(logging.WARNING, "eqv2_plugin"):
        prepare(given, tmp_path / "out")
    assert "2 frames of val are copies of training frames" in caplog.text
    assert len(read(tmp_path / "out" / "train")) == 12
    assert len(read(tmp_path / "out" / "val")) == 4


def test_elements_of_the_validation_file_alone_have_the_mean_as_reference(data, tmp_path):
    write(tmp_path / "other.xyz", labelled("AmO2", "REF_energy", "REF_forces"))
    numbers = prepare(
        dataclasses.replace(data, val=(str(tmp_path / "other.xyz"),)), tmp_path / "out"
    )
    assert -8 < numbers["references"]["Am"] < -3
    assert numbers["max_num_elements"] == 96
    assert "not determined" in "\n".join(numbers["summary"])


def test_frames_without_labels_are_left_out_and_counted(data, tmp_path):
    mixed = frames(12)
    mixed[3].calc = None
    mixed[7].calc = SinglePointCalculator(mixed[7], energy=-1.0)
    write(tmp_path / "mine.extxyz", mixed)
    numbers = prepare(data, tmp_path / "out")
    assert len(read(tmp_path / "out" / "train")) + len(read(tmp_path / "out" / "val")) == 10
    assert "left out: 2 frame(s)" in "\n".join(numbers["summary"])


def crystals(count: int = 12, **options):
    return [labelled("Cu4", seed=i, cell=6.0, stress_key="stress", **options) for i in range(count)]


def some(frames, change):
    for atoms in frames[::3]:
        change(atoms)
    return frames


def flat(atoms):
    for one in (atoms, atoms.calc.atoms):
        one.pbc = False


def drop(label):
    return lambda atoms: atoms.calc.results.pop(label)


# Frames, options; labels that are trained, frames, and what is said.
LABELS = {
    "stress": (crystals(), {}, "energy_forces_stress", 12, "stress from 'stress'"),
    "some stress": (some(crystals(), drop("stress")), {}, "energy_forces", 12,
                    "not trained: stress, which 8 of 12 frames have"),
    "the others left out": (some(crystals(), drop("stress")),
                            {"labels": "energy_forces_stress"}, "energy_forces_stress", 8,
                            "left out: 4"),
    "no volume": (some(crystals(), flat), {}, "energy_forces", 12,
                  "not trained: stress, which 8 of 12"),
    "stress not wanted": (crystals(), {"labels": "energy_forces"}, "energy_forces", 12, "forces"),
    "no forces": ([drop("forces")(a) is None or a for a in crystals()], {}, "energy", 12,
                  "energies alone"),
    "forces not wanted": (frames(), {"labels": "energy"}, "energy", 24, "energies alone"),
    "charges": (frames(charge=1, spin=2), {}, "energy_forces", 24, "not used: charge, spin"),
}  # fmt: skip


@pytest.mark.parametrize("case", LABELS)
def test_labels_that_all_frames_have_are_trained(data, tmp_path, case):
    made, options, labels, count, said = LABELS[case]
    write(tmp_path / "mine.traj", made)
    given = dataclasses.replace(data, train=(str(tmp_path / "mine.traj"),), **options)
    numbers = prepare(given, tmp_path / "out")
    assert numbers["labels"] == labels
    assert said in "\n".join(numbers["summary"])
    found = read(tmp_path / "out" / "train") + read(tmp_path / "out" / "val")
    assert len(found) == count
    assert all("_".join(sorted(a.calc.results)) == labels for a in found)
    assert (numbers["force_rms"] is None) == ("forces" not in labels)
    if "stress" in labels:
        stress = [a.get_stress(voigt=False) for a in read(tmp_path / "out" / "train")]
        assert numbers["stress_rms"] == pytest.approx(np.sqrt(np.mean(np.square(stress))))


def test_a_folder_of_an_earlier_version_is_read(data, tmp_path):
    prepare(data, tmp_path / "out")
    done = tmp_path / "out" / "prepared.json"
    content = json.loads(done.read_text())
    for name in ("labels", "stress_rms"):
        del content[name]
    for name in ("labels", "stress_key"):
        del content["made_with"]["options"][name]
    done.write_text(json.dumps(content))
    assert prepare(data, tmp_path / "out")["labels"] == "energy_forces"


def test_references_of_a_checkpoint_leave_the_scale_to_the_data(data, tmp_path):
    fitted = prepare(data, tmp_path / "fit")
    given = dataclasses.replace(data, references="checkpoint", cutoff=None, max_neighbors=None)
    numbers = prepare(given, tmp_path / "out")
    assert numbers["references"] is None
    assert numbers["avg_degree"] is None
    assert numbers["energy_rmsd"] == fitted["energy_rmsd"]


def test_an_isolated_atom_among_them_and_none_as_references(data, tmp_path):
    atom = Atoms("O", cell=[9, 9, 9], pbc=True)
    atom.calc = SinglePointCalculator(atom, energy=-1.9, forces=np.zeros((1, 3)))
    write(tmp_path / "mine.extxyz", [*frames(), atom])
    numbers = prepare(dataclasses.replace(data, references="none"), tmp_path / "out")
    assert numbers["references"] is None
    assert numbers["avg_degree"] >= 1.0


def changed(change):
    made = frames(12)
    for atoms in made:
        change(atoms.calc.results)
    return made


def moved(where):
    made = frames(12)
    made[0].positions[0] = where
    return made


BAD = {
    "one frame": (frames(1), {}, "one labelled frame"),
    "copies": ([labelled("H2O")] * 5, {}, "copies of one structure"),
    "zero forces": (changed(lambda r: r["forces"].fill(0)), {}, "forces of all .* are zero"),
    "nan": (changed(lambda r: r.update(energy=np.nan)), {}, "frame 0: energy are not finite"),
    "no such group": (frames(6), {"group_key": "run"}, "has no 'run' to group it by"),
    "no such file": (frames(6), {"train": ("gone.xyz",)}, "gone.xyz does not exist"),
    "no match": (frames(6), {"train": ("gone*.xyz",)}, "no file fits this pattern"),
    "infinite forces": (
        changed(lambda r: r["forces"].__setitem__(0, np.inf)),
        {},
        "forces are not fi",
    ),
    "no position": (moved(np.nan), {}, "frame 0: positions or cell are not finite"),
    "labels": (frames(6), {"labels": "energy_force"}, "did you mean 'energy_forces'"),
    "stress wanted": (frames(6), {"labels": "energy_forces_stress"}, "no frame has stress"),
    "no such stress": (frames(6), {"stress_key": "S"}, "stress_key=S: no frame stores that"),
    "references": (frames(6), {"references": "vasp"}, "unknown element references 'vasp'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_learned_is_refused_by_name(data, tmp_path, case):
    made, options, message = BAD[case]
    write(tmp_path / "mine.extxyz", made)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        prepare(dataclasses.replace(data, **options), tmp_path / "out")


def test_constant_energies_of_one_composition_are_refused(data, tmp_path):
    same = [labelled("H2O", seed=i) for i in range(8)]
    for atoms in same:
        atoms.calc.results["energy"] = -3.0
    write(tmp_path / "mine.extxyz", same)
    with pytest.raises(ValueError, match="energies of all 6 training frames are -3 eV"):
        prepare(data, tmp_path / "out")


def _huge(frames):
    for atoms in frames[:6]:
        atoms.arrays["REF_forces"] *= 1000


def _other_units(frames):
    for atoms in frames[::2]:
        atoms.info["REF_energy"] *= 23.06
        atoms.arrays["REF_forces"] *= 23.06


@pytest.mark.parametrize(
    ("spoil", "said"), [(_huge, "force outliers"), (_other_units, "other units")]
)
def test_what_is_unusual_is_said(data, tmp_path, spoil, said):
    mine = frames(60, energy_key="REF_energy", forces_key="REF_forces")
    before = _summary(data, tmp_path / "before", mine)
    spoil(mine)
    after = _summary(data, tmp_path / "after", mine)
    assert [any(said in line for line in lines) for lines in (before, after)] == [False, True]


def test_labels_that_are_not_trained_are_nothing_unusual(data, tmp_path):
    mine = frames(60, energy_key="gap", forces_key="REF_forces")
    for atoms in mine:
        atoms.info["gap"] *= 100
    of_labels = ("(energy range)", "(force labels)", "(units of labels)")
    for folder, options, unusual in (
        ("energy", {"energy_key": "gap"}, True), ("property", {"target_key": "gap"}, False)
    ):  # fmt: skip
        lines = _summary(dataclasses.replace(data, **options), tmp_path / folder, mine)
        assert any(kind in line for line in lines for kind in of_labels) == unusual


def _summary(data, folder, mine):
    folder.mkdir(exist_ok=True)
    write(folder / "spoilt.extxyz", mine)
    train = (str(folder / "spoilt.extxyz"),)
    return prepare(dataclasses.replace(data, train=train), folder / "out")["summary"]
