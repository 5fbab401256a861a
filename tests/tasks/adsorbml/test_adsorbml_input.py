"""From slab files and SMILES to the input of a run."""

from __future__ import annotations

import builtins
import json
import math
import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from adsorbml_inputs import slab, write_changed_input, write_slab_input
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from fairchem.core.components.calculate import AdsorbMLRunner
from fairchem.data.oc.core import Adsorbate, Bulk, Slab

from eqv2_plugin.cli import main
from eqv2_plugin.tasks.adsorbml.adsorbates import known_smiles
from eqv2_plugin.tasks.adsorbml.input import (
    SlabFile,
    build_input,
    read_input,
    system_id,
    write_input,
)
from eqv2_plugin.tasks.adsorbml.slabs import prepare_slab


def command(*arguments) -> int:
    return main(["adsorbml", "input", *map(str, arguments)])


def test_the_command_makes_what_fairchems_runner_reads(tmp_path, capsys):
    for symbol in ("Pt", "Pd"):
        slab(symbol).write(tmp_path / f"{symbol}111.extxyz")
    (tmp_path / "minima.csv").write_text("system,energy\nPd111_CO,-1.5\n")
    files = [tmp_path / "Pt111.extxyz", tmp_path / "Pd111.extxyz"]
    out = tmp_path / "in.pkl"
    minima = ["--minima", tmp_path / "minima.csv"]
    assert command(*files, "--adsorbates", "*CO", "*OH", "--out", out, *minima) == 0
    runner = AdsorbMLRunner(calculator=None, input_data_path=str(out))
    assert list(runner.input_data) == ["Pt111_CO", "Pt111_OH", "Pd111_CO", "Pd111_OH"]
    entry = runner.input_data["Pd111_CO"]
    assert entry["adsorbate"] == "*CO"
    assert entry["min_dft_ads_energy"] == -1.5
    assert math.isnan(runner.input_data["Pt111_CO"]["min_dft_ads_energy"])
    assert isinstance(entry["slab_initial"], Slab)
    atoms = entry["slab_initial"].atoms
    # ASE numbers layers from the top; fairchem wants 1 for the surface and 0 below.
    top = atoms.positions[:, 2] > atoms.positions[:, 2].mean()
    assert atoms.get_tags().tolist() == top.astype(int).tolist()
    assert atoms.pbc.all()
    assert set(atoms.constraints[0].index) == set(np.flatnonzero(~top))
    printed = capsys.readouterr().out
    assert "9 of 18 atoms" in printed
    assert "4 systems" in printed


def test_every_known_adsorbate_has_an_id_of_its_own():
    known = known_smiles()
    assert "*CO" in known
    assert len({system_id("x", smiles) for smiles in known}) == len(known)


def test_tags_and_constraints_of_the_file_are_kept():
    given = slab()
    tags = [1] * 12 + [0] * 6
    given.set_tags(tags)
    given.set_constraint(FixAtoms([0, 1]))
    prepared = prepare_slab(given, "x")
    assert prepared.atoms.get_tags().tolist() == tags
    assert prepared.atoms.constraints[0].index.tolist() == [0, 1]
    assert prepared.notes == ()


def test_trenches_are_surface_with_the_bulk_and_without():
    """Rows are missing from the top layer."""
    given = fcc111("Cu", (4, 4, 4), vacuum=8.0, periodic=True)
    del given[[atom.index for atom in given if atom.tag == 1 and atom.index % 2]]
    by_coordination = prepare_slab(given, "x", bulk("Cu", cubic=True)).atoms.get_tags()
    assert prepare_slab(given, "x").atoms.get_tags().tolist() == by_coordination.tolist()
    assert by_coordination.sum() == 8 + 16


def test_a_narrow_slab_is_tiled_together_with_its_relaxed_form():
    narrow = fcc111("Pt", (1, 1, 3), vacuum=7.0, periodic=True)
    relaxed = narrow.copy()
    relaxed.positions[2, 2] += 0.1
    content, notes = build_input([SlabFile("x", narrow, relaxed)], ["*O"])
    entry = content["x_O"]
    assert len(entry["slab_initial"].atoms) == len(entry["slab_relax"].atoms) == 27
    moved = entry["slab_relax"].atoms.positions - entry["slab_initial"].atoms.positions
    assert moved[:, 2].sum() == pytest.approx(0.9)
    assert any("tiled to 27 atoms" in note for note in notes)


def test_fairchems_other_forms_of_adsorbates_are_read(tmp_path):
    own = Adsorbate(adsorbate_atoms=Atoms("N"), adsorbate_binding_indices=[0])
    both = [own, Adsorbate(adsorbate_smiles_from_db="*CO")]
    path = write_changed_input(tmp_path / "in.pkl", changed("adsorbate", both))
    assert [len(a.atoms) for a in read_input(path)[1].adsorbates] == [1, 2]


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("CO", r"no adsorbate 'CO'\. Did you mean \*CO, "),
        ("*CHHO", r"Did you mean .*\*CHO"),
        ("qqqq", r"knows .*\*CO, .*marks the binding atom"),
    ],
)
def test_an_unknown_adsorbate_gets_similar_ones(smiles, message):
    with pytest.raises(ValueError, match=message):
        build_input([SlabFile("x", slab())], ["*O", smiles])


def changed_slab(change) -> Atoms:
    atoms = slab()
    change(atoms)
    return atoms


def flatten(atoms: Atoms) -> None:
    atoms.set_tags(1)
    del atoms[atoms.positions[:, 2] < atoms.positions[:, 2].mean()]


def split(atoms: Atoms) -> None:
    atoms.positions[:, 2] -= atoms.positions[:, 2].mean()
    atoms.wrap()


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (bulk("Cu", cubic=True), "only 1.8 Å of vacuum"),
        (fcc111("Pt", (3, 3, 2), vacuum=4.0, periodic=True), "only 8.0 Å of vacuum"),
        (fcc111("Pt", (3, 3, 2)), "no cell along all"),
        (changed_slab(flatten), "all atoms belong to the surface"),
        (changed_slab(lambda a: a.set_cell(a.cell[[1, 0, 2]])), "left-handed cell"),
        (changed_slab(split), "crosses the cell's boundary"),
        (changed_slab(lambda a: a.rotate(90, "x", rotate_cell=True)), "must lie in the xy plane"),
        (changed_slab(lambda a: a.set_tags([0] * 9 + [1] * 8 + [2])), "tag 2, which means adsorb"),
        (Atoms(), "no atoms"),
    ],
)
def test_what_is_no_slab_is_refused(atoms, message):
    with pytest.raises(ValueError, match=f"the slab.*{message}"):
        prepare_slab(atoms, "the slab")


def test_a_relaxed_slab_of_other_atoms_is_refused():
    with pytest.raises(ValueError, match="not the relaxed form"):
        build_input([SlabFile("x", slab(), slab("Pd"))], ["*O"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.xyz", "--adsorbates", "*O"], "no.xyz does not exist"),
        (["bad.xyz", "--adsorbates", "*O"], "cannot be read as a structure"),
        (["a.xyz", "a.xyz", "--adsorbates", "*O"], "slab a is given twice"),
        (["a.xyz", "--adsorbates", "*O", "*O"], "adsorbate .O is given twice"),
        (["a.xyz", "--adsorbates", "*O", "--relaxed", "a.xyz", "a.xyz"], "one file for each"),
        (["a.xyz", "--adsorbates", "*O", "--minima", "m.csv"], "energy for b_O, which is not"),
    ],
)
def test_bad_arguments_give_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    slab().write("a.xyz", format="extxyz")
    (tmp_path / "bad.xyz").write_text("nothing\n")
    (tmp_path / "m.csv").write_text("system,energy\nb_O,-1\n")
    assert command(*arguments, "--out", "in.pkl") == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.replace(".O", "*O") in error
    assert not (tmp_path / "in.pkl").exists()


def changed(key, value):
    def change(content):
        content["Pt111_O"][key] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.clear(), "holds no systems"),
        (lambda content: content["Pt111_O"].pop("slab_relax"), "Pt111_O: no slab_relax"),
        (changed("adsorbate", "*Zz"), "no adsorbate '.Zz'"),
        (changed("adsorbate", 3), "must be a SMILES"),
        (changed("slab_initial", slab()), "is Atoms, not a Slab"),
        (changed("min_dft_ads_energy", "low"), "could not convert"),
        (lambda content: content["Pt111_O"]["slab_initial"].atoms.set_tags(0), "no surface atom"),
        (lambda content: content.update({"a/b": content["Pt111_O"]}), "cannot be 'a/b'"),
    ],
)
def test_a_faulty_input_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read_input(write_changed_input(tmp_path / "in.pkl", change))


def test_a_file_that_is_no_input_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="eqv2 adsorbml input"):
        read_input(tmp_path / "in.pkl")
    (tmp_path / "in.pkl").write_bytes(b"text")
    with pytest.raises(ValueError, match="cannot be read as the input"):
        read_input(tmp_path / "in.pkl")


@pytest.mark.parametrize("package", ["fairchem.data.oc.core", "pandas"])
def test_missing_packages_are_named_with_the_extra(monkeypatch, capsys, tmp_path, package):
    slab().write(tmp_path / "a.xyz", format="extxyz")
    whole = builtins.__import__

    def without(name, *rest):
        if name == package or (
            package == "pandas" and name == "fairchem.core.components.calculate.recipes.adsorbml"
        ):
            raise ModuleNotFoundError(f"No module named {package!r}")
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert command(tmp_path / "a.xyz", "--adsorbates", "*O", "--out", tmp_path / "in.pkl") == 1
    error = capsys.readouterr().err
    assert package in error
    assert "pip install 'eqv2-plugin[catalysis]'" in error


def of_slab(atoms: Atoms) -> dict:
    return {
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "tags": atoms.get_tags(),
        "constraints": [repr(constraint.todict()) for constraint in atoms.constraints],
    }


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_json_and_pickle_give_the_same_systems_bit_for_bit(tmp_path, protocol):
    rattled = slab()
    rattled.rattle(0.05, seed=1)
    rattled.calc = SinglePointCalculator(rattled, energy=-1.0)
    content, _ = build_input([SlabFile("Pt111", rattled)], ["*CO", "*O"], {"Pt111_O": -2.1})
    partly = FixCartesian([1, 2], (True, False, True))
    for entry in content.values():
        atoms = entry["slab_relax"].atoms
        atoms.set_constraint([*atoms.constraints, partly])
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    write_input(tmp_path / "in.json", content)
    (tmp_path / "in.pkl").write_bytes(pickle.dumps(content, protocol))
    targets = {"Pt111_CO": math.nan, "Pt111_O": -2.1}
    for one, other in zip(
        read_input(tmp_path / "in.json"), read_input(tmp_path / "in.pkl"), strict=True
    ):
        assert one.id == other.id
        assert [a.smiles for a in one.adsorbates] == [a.smiles for a in other.adsorbates]
        assert np.array_equal(one.target, other.target, equal_nan=True)
        assert np.array_equal(one.target, targets[one.id], equal_nan=True)
        for name in ("initial", "relaxed"):
            found, expected = of_slab(getattr(one, name)), of_slab(getattr(other, name))
            whole = of_slab(content[one.id][f"slab_{name.removesuffix('ed')}"].atoms)
            for key in whole:
                np.testing.assert_array_equal(found[key], whole[key])
                np.testing.assert_array_equal(expected[key], whole[key])


class Call:
    """Unpickles as the result of a call."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "payload",
    [
        Call(os.system, "touch PWNED"),
        Call(exec, "open('PWNED', 'w')"),
        Call(subprocess.getoutput, "touch PWNED"),
        Call(torch.load, "other.pt"),
        Call(np.load, "other.npy"),
        Call(Bulk, None, 0, None, "other.pkl"),
        Call(Adsorbate, None, 0, None, "other.pkl"),
        Call(getattr, os.system, "__call__"),
    ],
    ids=["system", "exec", "subprocess", "torch", "numpy", "bulk", "adsorbate", "getattr"],
)
def test_what_a_pickle_names_is_not_called(tmp_path, monkeypatch, payload):
    monkeypatch.chdir(tmp_path)
    Path("other.pkl").write_bytes(pickle.dumps(Call(os.system, "touch PWNED")))
    path = write_changed_input(tmp_path / "in.pkl", changed("slab_initial", payload))
    with pytest.raises(ValueError, match=r"in\.pkl"):
        read_input(path)
    assert not Path("PWNED").exists()


def test_containers_that_hold_each_other_many_times_are_read_once(tmp_path):
    shared: object = 0
    for _ in range(7):
        shared = [shared] * 1000
    assert read_input(
        write_changed_input(
            tmp_path / "in.pkl", lambda c: setattr(c["Pt111_O"]["slab_initial"], "millers", shared)
        )
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update(format="other"), "its format is not"),
        (lambda w: w.update(version=2), "version 2"),
        (lambda w: w["slabs"][0]["numbers"].__setitem__(0, 78.5), "numbers and positions"),
        (lambda w: w["slabs"][0]["numbers"].__setitem__(0, 200), "no element"),
        (lambda w: w["slabs"][0]["positions"].pop(), "numbers and positions"),
        (lambda w: w["slabs"][0].update(spare=1), "and nothing else"),
        (lambda w: w["slabs"][0]["constraints"][0].update(name="os.system"), "'os.system' is none"),
        (lambda w: w["systems"]["Pt111_O"].update(slab_relax=7), "slab_relax=7"),
        (lambda w: w["systems"]["Pt111_O"].update(adsorbate="*Zz"), "no adsorbate"),
    ],
)
def test_json_that_is_no_input_is_refused(tmp_path, change, message):
    path = write_slab_input(tmp_path / "in.json", ["*O"])
    whole = json.loads(path.read_text())
    change(whole)
    path.write_text(json.dumps(whole))
    with pytest.raises(ValueError, match=message):
        read_input(path)
