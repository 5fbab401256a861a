"""Relaxing in batches is relaxing alone, only at the same time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms
from ase.io import Trajectory
from fairchem.core import FAIRChemCalculator
from relaxation_inputs import (
    SHORT,
    ForgetfulEMT,
    alone,
    emt,
    predictor,
    surface,
    surfaces,
    with_forces,
)

from eqv2_plugin.inference.batch_size import BatchLimit
from eqv2_plugin.inference.lockstep import relax_many
from eqv2_plugin.inference.predictor import Prediction
from eqv2_plugin.inference.relaxation import Relaxed
from eqv2_plugin.inference.settings import RelaxationSettings

THREE = BatchLimit(structures=3)


def relax(structures, predict=emt, settings=SHORT, batch=THREE, **options) -> dict[str, Relaxed]:
    found = list(relax_many(structures, predict, settings, batch=batch, **options))
    assert len({r.id for r in found}) == len(found)
    return {r.id: r for r in found}


@pytest.mark.parametrize("optimizer", ["lbfgs", "bfgs", "fire"])
def test_a_batch_relaxes_bit_for_bit_as_ase_alone(optimizer):
    settings = RelaxationSettings(optimizer, fmax=0.06, steps=10, maxstep=0.1)
    found = relax(surfaces(5), settings=settings)
    converged = set()
    for identity, atoms in surfaces(5):
        expected, run, flag = alone(atoms, ForgetfulEMT(), settings)
        relaxed = found[identity]
        assert np.array_equal(relaxed.atoms.positions, expected.positions)
        assert (relaxed.steps, relaxed.converged) == (run.nsteps, flag)
        assert relaxed.energy == expected.get_potential_energy() == relaxed.energies[-1]
        assert np.array_equal(relaxed.forces, expected.get_forces(apply_constraint=False))
        assert len(relaxed.energies) == len(relaxed.fmax) == relaxed.steps + 1
        assert relaxed.fmax[-1] == np.linalg.norm(expected.get_forces(), axis=1).max()
        assert np.array_equal(relaxed.initial.positions, atoms.positions)
        converged.add(flag)
    assert optimizer == "fire" or converged == {True, False}


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
def test_a_models_batch_relaxes_as_its_calculator_alone(precision, tmp_path):
    predict = predictor(tmp_path, precision)
    settings = RelaxationSettings(fmax=0.5, steps=8, maxstep=0.05, memory=5, alpha=200.0)
    cases = surfaces(4)
    outside = cases[1][1]
    outside.positions[0] += 2 * outside.cell[0]  # the calculator moves it back
    found = relax(cases, predict, settings)
    calculator = FAIRChemCalculator(predict.unit, task_name="oc20")
    for identity, atoms in cases:
        expected, run, flag = alone(atoms, calculator, settings)
        relaxed = found[identity]
        assert relaxed.forces.dtype == calculator.results["forces"].dtype
        if precision == torch.float64:
            assert (relaxed.steps, relaxed.converged) == (run.nsteps, flag)
            np.testing.assert_allclose(relaxed.atoms.positions, expected.positions, atol=1e-6)
            assert relaxed.energy == pytest.approx(expected.get_potential_energy(), abs=1e-8)
        else:
            atoms.calc = calculator
            assert relaxed.energies[0] == pytest.approx(atoms.get_potential_energy(), rel=1e-5)


@pytest.mark.parametrize("kind", ["direct", "conservative", "equiformer_v1"])
@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
def test_alone_in_its_batch_a_prediction_has_the_calculators_bits(precision, kind, tmp_path):
    predict = predictor(tmp_path, precision, kind)
    atoms = surface(3)
    atoms.calc = FAIRChemCalculator(predict.unit, task_name="oc20")
    (found,) = predict([atoms])
    assert found.energy == atoms.get_potential_energy()
    assert found.forces.dtype == atoms.calc.results["forces"].dtype
    assert np.array_equal(found.forces, atoms.calc.results["forces"])


def test_forces_keep_their_dtype_in_the_optimizer():
    def single(batch):
        return [Prediction(p.energy, p.forces.astype(np.float32)) for p in emt(batch)]

    class Single(ForgetfulEMT):
        def calculate(self, *args):
            super().calculate(*args)
            self.results["forces"] = self.results["forces"].astype(np.float32)

    found = relax(surfaces(3), single)
    for identity, atoms in surfaces(3):
        expected, _, _ = alone(atoms, Single(), SHORT)
        assert np.array_equal(found[identity].atoms.positions, expected.positions)


def test_all_that_move_go_through_one_call_and_finished_ones_are_replaced():
    sizes, steps, left = [], [], []

    def source():
        yield from surfaces(8)
        left.append(0)

    def counting(batch):
        sizes.append(len(batch))
        assert left or len(batch) == 3
        return emt(batch)

    found = relax(source(), counting, on_step=steps.append)
    assert sum(sizes) == sum(r.steps + 1 for r in found.values())
    assert steps == sizes


def test_structures_are_taken_one_by_one():
    taken = itertools.count()
    read = []

    def endless():
        for number in taken:
            read.append(number)
            yield f"s{number}", surface(number)

    finished = relax_many(endless(), emt, SHORT, batch=THREE)
    for done in range(1, 6):
        next(finished)
        # Three move, one is at hand for the next place, and some may have ended together.
        assert len(read) <= done + 3 + 3


def test_atoms_limit_a_batch_but_never_a_single_structure():
    seen = []

    def counting(batch):
        seen.append([len(atoms) for atoms in batch])
        return emt(batch)

    relax(surfaces(6), counting, batch=BatchLimit(atoms=10))
    assert all(sum(sizes) <= 10 or len(sizes) == 1 for sizes in seen)
    assert any(len(sizes) > 1 for sizes in seen)
    seen.clear()
    assert len(relax(surfaces(3), counting, batch=BatchLimit(atoms=1))) == 3
    assert {len(sizes) for sizes in seen} == {1}


def test_fixed_atoms_stay_and_do_not_count():
    atoms = surface(1)
    found = relax([("a", atoms)])["a"]
    fixed = atoms.constraints[0].index
    assert np.array_equal(found.atoms.positions[fixed], atoms.positions[fixed])
    forces = np.linalg.norm(found.forces, axis=1)
    assert forces[fixed].max() > 0  # reported as predicted
    assert found.fmax[-1] == np.delete(forces, fixed).max()
    everything = surface(1)
    everything.set_constraint(FixAtoms(range(len(everything))))
    found = relax([("a", everything)])["a"]
    assert (found.steps, found.converged) == (0, True)


@pytest.mark.parametrize("step", [0, 3])
def test_a_structure_that_explodes_fails_alone(step):
    cases = [*surfaces(2), ("odd", surface(5, (3, 1, 2))), ("later", surface(8))]
    found = relax(cases, with_forces(lambda forces: np.nan * forces, 7, step))
    odd = found.pop("odd")
    assert odd.failed
    assert not odd.converged
    assert "not finite" in odd.error
    assert (odd.steps, len(odd.energies)) == (max(step - 1, 0), step)
    expected, _, _ = alone(cases[2][1], ForgetfulEMT(), RelaxationSettings(steps=max(step - 1, 1)))
    if step:
        assert np.array_equal(odd.atoms.positions, expected.positions)
        assert odd.energy == expected.get_potential_energy()
    else:
        assert np.isnan(odd.energy)
    for identity, atoms in [cases[0], cases[1], cases[3]]:
        expected, _, _ = alone(atoms, ForgetfulEMT(), SHORT)
        assert not found[identity].failed
        assert np.array_equal(found[identity].atoms.positions, expected.positions)


def test_a_step_to_nowhere_fails_before_the_model_sees_it():
    def flat(batch):
        # Forces that never change: L-BFGS divides by zero.
        assert all(np.isfinite(atoms.positions).all() for atoms in batch)
        return [Prediction(0.0, np.full((len(atoms), 3), 0.1)) for atoms in batch]

    with np.errstate(all="ignore"):
        (found,) = relax_many([("a", molecule("CO"))], flat, SHORT, batch=THREE)
    assert "positions that are not finite" in found.error
    assert np.isfinite(found.atoms.positions).all()


def test_a_structure_that_the_model_refuses_fails_alone(tmp_path):
    predict = predictor(tmp_path, torch.float64)
    unknown, twice = surface(0), surface(1)
    unknown.numbers[0] = 99
    twice.positions[1] = twice.positions[0]
    empty = Atoms(cell=[5, 5, 5], pbc=True)
    cases = [*surfaces(2), ("unknown", unknown), ("twice", twice), ("empty", empty)]
    found = relax(cases, predict, RelaxationSettings(steps=2), BatchLimit(structures=5))
    assert "Es" in found["unknown"].error
    assert "atoms" in found["twice"].error
    assert "no atoms" in found["empty"].error
    assert not found["s0"].failed
    assert not found["s1"].failed
    alone_found = relax(cases[:2], predict, RelaxationSettings(steps=2))
    for identity, one in alone_found.items():
        np.testing.assert_allclose(found[identity].atoms.positions, one.atoms.positions, atol=1e-9)


def test_an_error_that_is_no_fault_of_a_structure_goes_through():
    def broken(batch):
        raise RuntimeError("no kernel image")

    with pytest.raises(RuntimeError, match="no kernel image"):
        relax(surfaces(2), broken)
    with pytest.raises(RuntimeError, match="1 predictions for 2 structures"):
        relax(surfaces(2), lambda batch: emt(batch[:1]))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_where_memory_runs_out_the_batch_is_halved_and_stays_small(error):
    sizes = []

    def scarce(batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise error("DefaultCPUAllocator: can't allocate memory")
        return emt(batch)

    found = relax(surfaces(6), scarce, batch=BatchLimit(structures=6))
    for identity, atoms in surfaces(6):
        expected, _, _ = alone(atoms, ForgetfulEMT(), SHORT)
        assert np.array_equal(found[identity].atoms.positions, expected.positions)
    assert sum(size > 2 for size in sizes) <= 3

    def none(batch):
        raise error("can't allocate memory")

    with pytest.raises(MemoryError, match="too little memory for a structure of 5 atoms"):
        relax(surfaces(2), none)


def test_an_id_that_comes_twice_is_refused():
    with pytest.raises(ValueError, match="'s0' occurs twice"):
        relax([*surfaces(2), *surfaces(1)])


def test_nothing_to_relax_gives_nothing():
    assert relax([]) == {}


def test_a_calculator_on_the_structure_is_left_alone():
    atoms = surface(2)
    atoms.calc = ForgetfulEMT()
    found = relax([("a", atoms)])["a"]
    assert isinstance(atoms.calc, ForgetfulEMT)
    assert found.atoms.calc is None
    assert found.initial.calc is None


def test_a_trajectory_is_ases_and_appears_when_it_is_complete(tmp_path):
    def path(identity: str):
        return tmp_path / f"{identity}.traj"

    finished = relax_many(surfaces(4), emt, SHORT, batch=THREE, trajectory_of=path)
    for relaxed in finished:
        with Trajectory(path(relaxed.id)) as frames:
            assert len(frames) == relaxed.steps + 1
            assert [f.get_potential_energy() for f in frames] == relaxed.energies.tolist()
            assert np.array_equal(frames[-1].positions, relaxed.atoms.positions)
            assert np.array_equal(frames[-1].get_forces(apply_constraint=False), relaxed.forces)
        break
    assert len(list(tmp_path.glob("*.traj"))) < 4
    finished.close()
    # A killed run leaves parts, which the next one does not mistake for complete ones.
    assert list(tmp_path.glob(".*.partial"))
    found = relax(surfaces(4), trajectory_of=path)
    for identity, relaxed in found.items():
        with Trajectory(path(identity)) as frames:
            assert len(frames) == relaxed.steps + 1
    assert not list(tmp_path.glob(".*"))
