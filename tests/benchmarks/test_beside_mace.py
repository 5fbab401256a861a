"""What both sides of the comparison with MACE share: frames, errors and the report."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase.constraints import FixAtoms
from ase.io import read

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def beside_mace():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from beside_mace import report, sets, sides

        yield sets, sides, report
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def alloys(beside_mace, tmp_path_factory):
    """The parts of the copper alloys as either side reads them."""
    sets = beside_mace[0]
    folder = tmp_path_factory.mktemp("cualloy")
    frames = {p: f[:8] for p, f in sets.copper_alloys(3, None).items()}
    sets.write_parts(frames, folder)
    return frames, {part: read(folder / f"{part}.extxyz", ":") for part in sets.PARTS}


def test_no_run_is_in_two_parts(beside_mace):
    parts = beside_mace[0].copper_alloys(3, None)
    runs = {part: {atoms.info["sid"] for atoms in frames} for part, frames in parts.items()}
    assert sum(map(len, runs.values())) == len(set().union(*runs.values()))
    assert len(parts["train"]) + len(parts["val"]) == 229
    assert 0.08 < len(parts["val"]) / 229 < 0.14


def test_frames_keep_labels_and_fixed_atoms(beside_mace, alloys):
    sets = beside_mace[0]
    for given, written in zip(alloys[0]["train"], alloys[1]["train"], strict=True):
        np.testing.assert_allclose(written.info[sets.ENERGY], given.get_potential_energy())
        forces = given.get_forces(apply_constraint=False)
        np.testing.assert_allclose(written.arrays[sets.FORCES], forces, atol=1e-7)
        fixed = written.constraints[0].get_indices()
        np.testing.assert_array_equal(np.sort(fixed), given.constraints[0].get_indices())


def test_errors_are_those_of_free_atoms(beside_mace, alloys):
    sets, sides, _ = beside_mace
    frames = alloys[1]["test"]
    assert all(isinstance(atoms.constraints[0], FixAtoms) for atoms in frames)
    forces = np.concatenate([atoms.arrays[sets.FORCES] for atoms in frames])
    fixed = np.concatenate(
        [np.isin(np.arange(len(a)), a.constraints[0].get_indices()) for a in frames]
    )
    energies = np.array([atoms.info[sets.ENERGY] for atoms in frames])
    found = sides.errors(frames, energies + 0.5, forces + np.where(fixed, 9.0, 0.02)[:, None])
    assert found["forces_mae"] == pytest.approx(20.0)
    assert found["forces_rmse"] == pytest.approx(20.0)
    assert found["energy_mae"] == pytest.approx(500.0)
    assert found["energy_mae_beside_shift"] == pytest.approx(0.0, abs=1e-6)


def test_the_report_has_a_row_for_each_run(beside_mace, tmp_path):
    report = beside_mace[2]
    keys = (*report._ERRORS, "energy_per_atom_mae", "zero_forces_mae")
    errors = dict.fromkeys(keys, 7.0)
    result = {"errors": errors, "curve": [(0, 9), (5, 8)], "steps": 40, "seconds": 5.0}
    results = {f"ethanol-5s-{side}-{seed}": result for side in ("mace", "ours") for seed in (0, 1)}
    rows = [r for r in report.markdown(results, "x.png").splitlines() if r.startswith("| ethanol")]
    assert [row.split(" | ")[1:3] for row in rows] == [
        ["eqv2_train.yml", "0"], ["MACE", "0"], ["eqv2_train.yml", "1"], ["MACE", "1"],
    ]  # fmt: skip
    report.plot_curves(results, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 5000
