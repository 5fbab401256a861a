"""Whatever goes wrong with one structure, the others are relaxed, and what failed is kept."""

from __future__ import annotations

import itertools
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from ase.constraints import FixAtoms
from ase.io import read
from relaxation_inputs import SHORT, emt, surfaces, with_forces

from eqv2_plugin.inference.batch_size import BatchLimit
from eqv2_plugin.inference.lockstep import relax_many
from eqv2_plugin.inference.relaxation import Relaxed
from eqv2_plugin.inference.settings import RelaxationSettings
from eqv2_plugin.inference.store import RelaxationStore, as_relaxed, read_finished

ODD = 3  # atoms of the structure that fails; the others have more


def cases():
    odd = surfaces(3)[2][1]
    odd.set_constraint(FixAtoms([0]))
    del odd[-1]
    return [surfaces(2)[0], ("odd", odd), surfaces(2)[1]]


def odd_forces(change, at: int = 2):
    return with_forces(change, ODD, at)


def break_optimizers(monkeypatch, error: Exception, fails=lambda atoms: True) -> None:
    """Their steps end in ``error``."""
    made = RelaxationSettings.make_optimizer

    def broken(self, atoms, trajectory=None):
        optimizer = made(self, atoms, trajectory)
        if fails(atoms):
            monkeypatch.setattr(optimizer, "step", Mock(side_effect=error))
        return optimizer

    monkeypatch.setattr(RelaxationSettings, "make_optimizer", broken)


def relax_and_keep(tmp_path, predict, settings=SHORT, structures=None) -> dict[str, Relaxed]:
    """Through the store, as a job does it."""
    structures = cases() if structures is None else structures
    path = tmp_path / "relaxed.0-of-1.jsonl"
    with RelaxationStore(path, {}) as store:
        for relaxed in relax_many(structures, predict, settings, batch=BatchLimit(structures=3)):
            store.append(relaxed)
    initial = dict(structures)
    return {
        identity: as_relaxed(record, initial[identity])
        for identity, record in read_finished(tmp_path).records.items()
    }


def assert_only_the_odd_one_failed(found: dict[str, Relaxed]) -> Relaxed:
    assert {identity: one.failed for identity, one in found.items()} == {
        "s0": False,
        "odd": True,
        "s1": False,
    }
    odd = found["odd"]
    assert np.isfinite(odd.atoms.positions).all()
    assert np.isfinite(odd.energies).all()
    assert np.isfinite(odd.fmax).all()
    return odd


@pytest.mark.parametrize("optimizer", ["lbfgs", "bfgs", "fire"])
@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 2e19), (np.float64, 1e200)])
@pytest.mark.parametrize("at", [0, 2])
def test_forces_too_large_to_square_fail_alone(tmp_path, optimizer, dtype, size, at):
    def change(forces):
        return (forces + size).astype(dtype)

    settings = RelaxationSettings(optimizer, fmax=0.06, steps=10)
    found = relax_and_keep(tmp_path, odd_forces(change, at), settings)
    odd = assert_only_the_odd_one_failed(found)
    assert "force" in odd.error
    assert len(odd.energies) == at


def test_an_optimizer_that_cannot_diagonalise_fails_alone(tmp_path):
    # Forces whose curvature overflows: BFGS diagonalises a matrix that is not finite.
    sign = itertools.cycle((1.0, -1.0))
    predict = odd_forces(lambda forces: next(sign) * np.full_like(forces, 7e153))
    odd = assert_only_the_odd_one_failed(
        relax_and_keep(tmp_path, predict, RelaxationSettings("bfgs", fmax=0.06, steps=10))
    )
    assert "of the optimizer ended in " in odd.error


@pytest.mark.parametrize("error", [np.linalg.LinAlgError("Eigenvalues"), AssertionError("odd")])
def test_any_error_in_one_optimizer_fails_that_structure_alone(tmp_path, monkeypatch, error):
    break_optimizers(monkeypatch, error, lambda atoms: len(atoms) == ODD)
    odd = assert_only_the_odd_one_failed(relax_and_keep(tmp_path, emt))
    assert odd.error.startswith(f"step 1 of the optimizer ended in {type(error).__name__}: ")
    assert len(odd.energies) == 1


def test_a_full_disk_is_no_fault_of_a_structure(tmp_path, monkeypatch):
    break_optimizers(monkeypatch, OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        relax_and_keep(tmp_path, emt)


def test_a_start_that_is_not_finite_is_kept_as_a_failure(tmp_path):
    structures = cases()
    structures[1][1].positions[1] = np.nan

    def predict(batch):
        if any(np.isnan(atoms.positions).any() for atoms in batch):
            raise ValueError("the position of atom 1 is not finite")
        return emt(batch)

    found = relax_and_keep(tmp_path, predict, structures=structures)
    assert found["odd"].error == "the position of atom 1 is not finite"
    np.testing.assert_array_equal(found["odd"].atoms.positions, structures[1][1].positions)
    assert not found["s0"].failed
    assert not found["s1"].failed


def test_a_structure_whose_algebra_fails_in_the_model_fails_alone(tmp_path):
    def predict(batch):
        if any(len(atoms) == ODD for atoms in batch):
            torch.linalg.inv(torch.zeros(3, 3))
        return emt(batch)

    odd = assert_only_the_odd_one_failed(relax_and_keep(tmp_path, predict))
    assert "singular" in odd.error


@pytest.mark.parametrize("at", [0, 2])
def test_the_trajectory_of_a_failure_is_kept_apart_from_results(tmp_path, at):
    predict = odd_forces(lambda forces: np.full_like(forces, np.nan), at)
    found = relax_many(
        cases(), predict, SHORT, batch=BatchLimit(structures=3),
        trajectory_of=lambda identity: tmp_path / f"{identity}.traj",
    )  # fmt: skip
    steps = {relaxed.id: relaxed.steps for relaxed in found}
    # What fairchem's script reads.
    assert sorted(path.name for path in tmp_path.glob("*.traj")) == ["s0.traj", "s1.traj"]
    kept = list((tmp_path / "failed").glob("*.traj"))
    assert [path.name for path in kept] == (["odd.traj"] if at else [])
    assert [len(read(path, ":")) for path in kept] == [steps["odd"] + 1] * len(kept)
