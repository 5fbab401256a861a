"""Stress in wrong units or with the wrong sign is found, with forces, with energies, or alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from inspection_inputs import write_dataset

from eqv2_plugin.cli import main
from eqv2_plugin.common.findings import Verdict
from eqv2_plugin.data.datasets import create_datasets
from eqv2_plugin.data.inspection.frames import frame_of
from eqv2_plugin.data.inspection.stress import StressCheck
from eqv2_plugin.training.checks import check_frames

GPA, KBAR, HARTREE = 160.2177, 1602.177, 1 / 183.6316


def labelled(atoms: Atoms, times: float = 1.0) -> Atoms:
    """With EMT's labels, the stress multiplied."""
    bare = atoms.copy()
    bare.calc = EMT()
    atoms.calc = SinglePointCalculator(
        atoms,
        energy=bare.get_potential_energy(),
        forces=bare.get_forces(),
        stress=times * bare.get_stress(),
    )
    return atoms


def rattled(times: float = 1.0, count: int = 24) -> list[Atoms]:
    """Crystals of different metals in no order, strained and away from their minima."""
    found = []
    for i in range(count):
        atoms = bulk(("Cu", "Ag", "Pt", "Al")[i % 4], cubic=True)
        rng = np.random.default_rng(i)
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.rattle(0.1, seed=i)
        atoms.info = {"sid": str(i)}
        found.append(labelled(atoms, times))
    return found


def strained(times: float = 1.0) -> list[Atoms]:
    """One crystal without forces at several volumes and shears."""
    found = []
    for i, strain in enumerate(np.linspace(-0.04, 0.04, 9)):
        atoms = bulk("Cu", cubic=True)
        shear = np.array([[1, 0.2, 0], [0.2, 1.3, 0], [0, 0, 0.8]])
        atoms.set_cell(atoms.cell @ (np.eye(3) + strain * shear), scale_atoms=True)
        atoms.info = {"sid": "Cu", "fid": i}
        found.append(labelled(atoms, times))
    return found


def findings(frames: list[Atoms]) -> dict[str, tuple[Verdict, str]]:
    check = StressCheck()
    for atoms in frames:
        check.add(frame_of(atoms))
    return {found.check: (found.verdict, found.text) for found in check.findings()}


@pytest.mark.parametrize("frames", [rattled, strained])
def test_stress_in_electronvolts_is_right(frames):
    found = findings(frames())
    assert found["stress labels"] == (Verdict.OK, "in every frame, finite")
    assert found["units of stress"][0] is Verdict.OK


@pytest.mark.parametrize(
    ("frames", "times", "named"),
    [
        (rattled, GPA, "GPa"),
        (rattled, KBAR, "kbar"),
        (rattled, -GPA, "GPa"),
        (strained, GPA, "GPa?"),
        (strained, KBAR, "kbar?"),
        (strained, HARTREE, "Hartree/Bohr"),
        (strained, -1.0, "the other sign"),
        (strained, -GPA, "GPa with the other sign"),
    ],
)
def test_another_unit_or_sign_is_bad_and_named(frames, times, named):
    verdict, text = findings(frames(times))["units of stress"]
    assert verdict is Verdict.BAD
    assert named in text


def test_stress_that_is_small_for_its_forces_is_to_be_looked_at():
    verdict, text = findings(rattled(HARTREE))["units of stress"]
    assert verdict is Verdict.LOOK
    assert "Hartree/Bohr" in text


def test_the_work_at_strained_cells_is_the_change_of_the_energy():
    text = findings(strained())["units of stress"][1]
    ratio = float(text.partition("strained cells is ")[2].split()[0])
    assert ratio == pytest.approx(1.0, abs=0.01)


def test_single_crystals_without_forces_are_judged_by_size():
    frames = [strained()[i] for i in (3, 5)]  # too few to compare their energies
    assert findings(frames)["units of stress"][0] is Verdict.OK
    frames = [strained(KBAR)[i] for i in (3, 5)]
    assert findings(frames)["units of stress"][0] is Verdict.BAD


def test_stress_that_is_missing_infinite_open_or_skew_is_said():
    whole = rattled()
    lacking = rattled()
    del lacking[7].calc.results["stress"]
    assert findings(lacking)["stress labels"] == (
        Verdict.BAD, "missing in 1 of 24 frames (first: 7)",
    )  # fmt: skip
    broken = rattled()
    broken[7].calc.results["stress"][2] = np.nan
    assert findings(broken)["stress labels"][0] is Verdict.BAD
    whole[7].pbc = (True, True, False)
    verdict, text = findings(whole)["stress labels"]
    assert verdict is Verdict.BAD
    assert "first: 7" in text
    skew = rattled()
    skew[7].calc.results["stress"] = np.arange(9.0).reshape(3, 3) / 100
    assert findings(skew)["stress labels"][0] is Verdict.LOOK


def test_data_without_stress_are_not_judged():
    frames = rattled(count=3)
    for atoms in frames:
        del atoms.calc.results["stress"]
    assert findings(frames) == {}


@pytest.mark.parametrize("times", [1.0, GPA])
def test_the_command_and_training_ask_the_same(tmp_path, capsys, times):
    write_dataset(tmp_path / "train", rattled(times))
    status = main(["data", "check", str(tmp_path / "train")])
    assert ("units of stress    bad" in capsys.readouterr().out) == (times == GPA)
    reader = {"format": "ase_db", "key_mapping": {"energy": "energy", "stress": "stress"}}
    data = create_datasets("mine", str(tmp_path), {"train": {"src": "train"}}, reader, "")
    tasks = [
        SimpleNamespace(
            name="energy", property="energy", datasets=["mine"], element_references=None
        )
    ]
    check_frames(data, tasks, 100)
    tasks.append(
        SimpleNamespace(
            name="stress", property="stress", datasets=["mine"], element_references=None
        )
    )
    if times == GPA:
        assert status == 1
        with pytest.raises(ValueError, match=r"mine\.train: units of stress: .* GPa"):
            check_frames(data, tasks, 100)
    else:
        check_frames(data, tasks, 100)
