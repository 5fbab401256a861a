"""Every check fires on data that is wrong in its way, and on no other; real data passes."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from ase.units import Bohr, Hartree, kcal, kJ, mol
from inspection_inputs import molecule_frames, oc20_frames, relabelled, write_dataset

from eqv2_plugin.common.findings import Verdict, worst
from eqv2_plugin.data.inspection.check import Report, check_datasets
from eqv2_plugin.data.inspection.frames import open_dataset
from eqv2_plugin.data.sample import load_sample

LOOK, BAD = Verdict.LOOK, Verdict.BAD
UNITS = {"units of labels": LOOK}


def with_labels(frames, energy=lambda e: e, forces=lambda f: f):
    """All frames with labels changed by functions."""
    changed = []
    for atoms in frames:
        results = atoms.calc.results
        changed.append(relabelled(atoms, energy(results["energy"]), forces(results["forces"])))
    return changed


def edit_one(frames, edit):
    """Only frame 7 with its labels and atoms edited in place."""
    edited = edit(frames[7]) or frames[7]
    # ASE drops the labels of atoms that were changed after them.
    frames[7] = relabelled(edited, **edited.calc.results)
    return frames


def set_force(value):
    def edit(atoms):
        atom = int(np.flatnonzero(atoms.get_tags() == 2)[0])
        atoms.calc.results["forces"][atom] = [value, 0.0, 0.0]

    return edit


def set_energy(value):
    return lambda atoms: atoms.calc.results.update(energy=value)


def close_pair(distance):
    def edit(atoms):
        atoms.positions[-1] = atoms.positions[-2] + [distance, 0.0, 0.0]

    return edit


def isolated(atoms):
    results = atoms.calc.results
    bigger = atoms.copy()
    bigger.info = dict(atoms.info)
    top = atoms.positions[:, 2].max()
    bigger += Atoms("C", positions=[[0.0, 0.0, top + 9.0]], tags=[2])
    bigger.cell[2, 2] += 40.0
    return relabelled(bigger, results["energy"], np.vstack((results["forces"], np.zeros(3))))


def moved_fixed(atoms):
    atoms.set_positions(atoms.positions + np.array([0.0, 0.3, 0.0]), apply_constraint=False)


def scaled(factor):
    def change(frames):
        for atoms in frames:
            atoms.set_cell(atoms.cell * factor)
            atoms.set_positions(atoms.positions * factor, apply_constraint=False)
        return [relabelled(atoms, **atoms.calc.results) for atoms in frames]

    return change


def all_fixed(atoms):
    atoms.set_constraint(FixAtoms(indices=range(len(atoms))))


def untagged(frames):
    for atoms in frames:
        atoms.set_tags(0)
    return frames


def without_cell_vector(atoms):
    atoms.cell[2] = 0.0


def without_sid(frames):
    for atoms in frames:
        atoms.info = {"fid": atoms.info["fid"]}
    return frames


def repeated(frames):
    """The same frame again, under another id."""
    again = relabelled(frames[-1], **frames[-1].calc.results)
    again.info["fid"] = 999
    return [*frames, again]


def same_id(frames):
    for atoms in frames[-2:]:
        atoms.info["fid"] = 5
    return frames


CASES = {
    "one energy NaN": (lambda f: edit_one(f, set_energy(np.nan)), {"energy labels": BAD}),
    "one force infinite": (lambda f: edit_one(f, set_force(np.inf)), {"force labels": BAD}),
    "some energies missing": (
        lambda f: [relabelled(f[0], forces=f[0].calc.results["forces"]), *f[1:]],
        {"energy labels": BAD},
    ),
    "no labels": (
        lambda f: [relabelled(atoms) for atoms in f],
        {"energy labels": LOOK, "force labels": LOOK},
    ),
    "energy of a broken calculation": (
        lambda f: edit_one(f, set_energy(5e3)),
        {"energy range": LOOK},
    ),
    "all-electron energies": (
        lambda f: with_labels(f, lambda e: e - 9000.0),
        {"energy range": LOOK},
    ),
    "energies beyond all electrons": (
        lambda f: with_labels(f, lambda e: e - 5e7),
        {"energy range": BAD},
    ),
    "one large force": (lambda f: edit_one(f, set_force(80.0)), {"force outliers": LOOK}),
    "one impossible force": (lambda f: edit_one(f, set_force(3e3)), {"force outliers": BAD}),
    "forces zero": (lambda f: with_labels(f, forces=lambda x: 0 * x), {"forces": BAD}),
    "a frame without free atoms": (
        lambda f: edit_one(f, all_fixed),
        {"fixed atoms": BAD},
    ),
    "a frame without fixed atoms": (
        lambda f: edit_one(f, lambda atoms: atoms.set_constraint()),
        {"fixed atoms": LOOK},
    ),
    "fixed atoms that move": (lambda f: edit_one(f, moved_fixed), {"fixed atoms stay": BAD}),
    "no tags": (untagged, {"tags": LOOK}),
    "overlapping atoms": (lambda f: edit_one(f, close_pair(0.1)), {"overlapping atoms": BAD}),
    "atoms close together": (
        lambda f: edit_one(f, close_pair(0.25)),
        {"overlapping atoms": LOOK},
    ),
    "an isolated atom": (lambda f: edit_one(f, isolated), {"isolated atoms": LOOK}),
    "lengths in nm": (
        scaled(0.1),
        {"length unit": BAD, "overlapping atoms": BAD, "units of labels": BAD},
    ),
    "a missing cell vector": (lambda f: edit_one(f, without_cell_vector), {"geometry": BAD}),
    "no sids": (without_sid, {"ids": LOOK}),
    "the same id twice": (same_id, {"duplicate ids": BAD}),
    "the same geometry twice": (repeated, {"duplicate frames": LOOK}),
}


def report_of(tmp_path, **datasets) -> Report:
    opened = []
    for name, frames in datasets.items():
        opened.append(open_dataset(write_dataset(tmp_path / name, frames)))
    return check_datasets(opened)


def unusual(report: Report) -> dict[str, Verdict]:
    return {f.check: f.verdict for f in report.all_findings() if f.verdict is not Verdict.OK}


@pytest.mark.parametrize("name", CASES)
def test_a_check_fires_on_what_it_is_for_and_no_other_does(name, tmp_path):
    change, expected = CASES[name]
    assert unusual(report_of(tmp_path, data=change(oc20_frames()))) == expected


@pytest.mark.parametrize(
    ("energy", "force", "unit"),
    [
        (1, Bohr / Hartree, "forces in Hartree/Bohr"),
        (1, 1 / Hartree, "forces in Hartree/Å"),
        (1, mol / kcal, "forces in kcal/mol/Å"),
        (1, mol / kJ, "forces in kJ/mol/Å"),
        (1, -1, "gradients in place of forces"),
        (1 / Hartree, 1, "energies in Hartree"),
        (1 / Hartree, Bohr / Hartree, "forces per Bohr (Hartree and Hartree/Bohr)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_trajectory_names_the_unit_of_its_labels(energy, force, unit, tmp_path):
    frames = with_labels(oc20_frames(), lambda e: e * energy, lambda f: f * force)
    report = report_of(tmp_path, data=frames)
    (found,) = [f for f in report.all_findings() if f.check == "units of labels"]
    assert found.verdict is BAD
    # Hartree and kcal/mol differ by less than real slopes scatter: both may be named.
    assert unit in found.text


@pytest.mark.parametrize("sample", ["oc20_sample/train", "oc20_sample/val_ood"])
def test_real_relaxations_pass_every_check(sample):
    report = check_datasets([open_dataset(f"embedded:{sample}")])
    (findings,) = report.findings.values()
    assert worst(findings) is Verdict.OK
    checks = [finding.check for finding in findings]
    assert {"units of labels", "fixed atoms stay", "length unit", "force outliers"} <= set(checks)
    assert len(set(checks)) == len(checks) == 17


def test_real_molecules_pass_every_check():
    report = check_datasets([open_dataset("embedded:rmd17_ethanol/val")])
    assert worst(report.all_findings()) is Verdict.OK


def test_bohr_in_place_of_angstrom_is_seen(tmp_path):
    report = report_of(tmp_path, data=scaled(1 / Bohr)(load_sample("oc20_sample", "train")))
    texts = {f.check: f.text for f in report.all_findings() if f.verdict is BAD}
    assert "Bohr in place of Å" in texts["length unit"]
    assert "positions in Bohr?" in texts["units of labels"]


def test_pm_in_place_of_angstrom_is_seen(tmp_path):
    found = unusual(report_of(tmp_path, data=scaled(100.0)(oc20_frames())))
    assert found["length unit"] is BAD


@pytest.mark.parametrize(
    ("energy", "force", "expected"),
    [
        (mol / kcal, mol / kcal, {"forces": BAD, "force outliers": LOOK, **UNITS}),
        (1 / Hartree, Bohr / Hartree, UNITS),
    ],
    ids=["kcal/mol", "Hartree"],
)
def test_molecules_in_other_units_are_seen(energy, force, expected, tmp_path):
    frames = with_labels(molecule_frames(), lambda e: e * energy, lambda f: f * force)
    assert unusual(report_of(tmp_path, data=frames)) == expected


def test_an_element_that_does_not_exist_is_bad(tmp_path):
    frames = oc20_frames(3)
    frames[1].numbers[0] = 0
    found = unusual(report_of(tmp_path, data=frames))
    assert found["elements"] is BAD
    assert found["geometry"] is BAD


@pytest.mark.parametrize(
    ("natoms", "text"), [([1] * 5, "natoms is wrong for 5 frames"), ([1] * 4, "natoms of 4 frames")]
)
def test_wrong_metadata_is_bad(natoms, text, tmp_path):
    folder = write_dataset(tmp_path / "data", oc20_frames(5), np.array(natoms))
    (found,) = [
        f for f in check_datasets([open_dataset(folder)]).all_findings() if "meta" in f.check
    ]
    assert found.verdict is BAD
    assert text in found.text


def test_missing_metadata_is_pointed_out(tmp_path):
    folder = write_dataset(tmp_path / "data", oc20_frames(5))
    (folder / "metadata.npz").unlink()
    assert unusual(check_datasets([open_dataset(folder)])) == {"metadata.npz": LOOK}


def test_the_worst_frames_are_named_largest_first(tmp_path):
    frames = oc20_frames()
    for index, size in ((3, 70.0), (21, 90.0), (30, 60.0), (31, 55.0)):
        results = frames[index].calc.results
        frames[index] = relabelled(frames[index], **results)
        set_force(size)(frames[index])
    (text,) = [
        f.text
        for f in report_of(tmp_path, data=frames).all_findings()
        if f.check == "force outliers"
    ]
    names = [f"{frames[i].info['sid']}, frame {frames[i].info['fid']}" for i in (21, 3, 30)]
    assert "4 frames" in text
    assert f"({names[0]}: 90; {names[1]}: 70; {names[2]}: 60)" in text


def test_forces_on_fixed_atoms_do_not_count(tmp_path):
    def edit(atoms):
        atom = int(np.flatnonzero(atoms.get_tags() == 0)[0])
        atoms.calc.results["forces"][atom] = [5e3, 0.0, 0.0]

    assert unusual(report_of(tmp_path, data=edit_one(oc20_frames(), edit))) == {}


@pytest.mark.parametrize("pbc", [True, (True, True, False)], ids=["crystal", "slab"])
def test_fixed_atoms_that_were_wrapped_into_the_cell_have_not_moved(tmp_path, pbc):
    frames = oc20_frames()
    for atoms in frames:
        atoms.pbc = atoms.calc.atoms.pbc = pbc

    def wrapped(atoms):
        atoms.set_positions(atoms.positions + atoms.cell[0], apply_constraint=False)

    assert unusual(report_of(tmp_path, data=edit_one(frames, wrapped))) == {}


def test_data_sets_with_other_systems_share_nothing():
    sources = [open_dataset(f"embedded:oc20_sample/{split}") for split in ("train", "val_ood")]
    assert unusual(check_datasets(sources)) == {}


def test_the_same_frame_in_two_data_sets_is_bad(tmp_path):
    frames = oc20_frames(90)
    report = report_of(tmp_path, train=frames[:30], val=[*frames[30:], frames[3]])
    (shared,) = [f for f in report.between if f.check == "shared frames"]
    assert shared.verdict is BAD
    assert "share 1 geometries" in shared.text
    assert frames[3].info["sid"] in shared.text


def test_some_systems_in_two_data_sets_are_an_accident(tmp_path):
    frames = oc20_frames(90)  # three systems of 30 frames
    report = report_of(tmp_path, train=frames[:50], val=frames[50:])
    assert unusual(report) == {"shared systems": BAD}


def test_all_systems_in_both_data_sets_may_be_meant(tmp_path):
    frames = oc20_frames(90)
    report = report_of(tmp_path, train=frames[::2], val=frames[1::2])
    assert unusual(report) == {"shared systems": LOOK}
    (shared,) = [f for f in report.between if f.check == "shared systems"]
    assert "share 3 systems (of 3 and 3)" in shared.text


def test_a_system_is_the_same_under_the_downloads_name_and_the_lmdbs_number(tmp_path):
    frames = oc20_frames(90)
    train, val = frames[::2], frames[1::2]
    for atoms in val:
        atoms.info["sid"] = atoms.info["sid"].removeprefix("random")
    assert unusual(report_of(tmp_path, train=train, val=val)) == {"shared systems": LOOK}


def test_made_up_sids_are_no_shared_systems(tmp_path):
    frames = without_sid(oc20_frames(60))
    found = unusual(report_of(tmp_path, train=frames[:30], val=frames[30:]))
    assert found == {"ids": LOOK, "shared systems": LOOK}


def test_a_sample_sees_fewer_frames_and_the_same_things():
    dataset = open_dataset("embedded:oc20_sample/train")
    report = check_datasets([dataset], sample=64)
    (findings,) = report.findings.values()
    assert "64 frames looked at, of 354" in findings[0].text
    assert worst(findings) is Verdict.OK


def test_workers_change_nothing():
    dataset = open_dataset("embedded:oc20_sample/val_ood")
    assert check_datasets([dataset], workers=2).findings == check_datasets([dataset]).findings
