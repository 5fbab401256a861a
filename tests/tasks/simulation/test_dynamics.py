"""Replicas side by side: bits, ends of single ones, and nothing that waits for the device."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from ase.io import read
from native_checkpoints import write_checkpoint
from nothing_read_back import NothingReadBack
from simulation_inputs import ETHANOL, assert_equal, dynamics, springs, start

from eqv2_plugin.inference.predictor import BatchPredictor, open_unit
from eqv2_plugin.inference.replicas import ReplicaPredictor
from eqv2_plugin.tasks.simulation.dynamics import _Run
from eqv2_plugin.tasks.simulation.frames import (
    FrameFile,
    last_frame,
    of_replica,
    read_frames,
    write_trajectory,
)


def test_frames_do_not_depend_on_where_they_were_saved_or_read(tmp_path):
    run = dynamics(springs())
    whole = run.advance(start(run), 30)
    path = tmp_path / "frames.000.jsonl"
    with FrameFile(path, {"a": 1}) as file:
        file.append(run.advance(start(run), 20))
    stored = last_frame(path, len(ETHANOL))
    assert_equal(run.advance(stored, 10), whole, [0, 1, 2])
    assert np.abs(whole.positions - start(run).positions).max() > 0.05


def hot(replica: int, at: int, factor: float):
    def change(call, positions, energies, forces):
        if call == at + 1 and len(forces) > replica:  # the first call is the start
            forces[replica] *= factor

    return change


def refuse(replica: int, at: int):
    """A model that raises as long as this replica is where it is after so many steps."""
    seen = []

    def change(call, positions, energies, forces):
        if call == at + 1:
            seen.append(positions[replica].clone())
        if seen and any(torch.equal(seen[0], one) for one in positions):
            raise ValueError("two atoms coincide")

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (hot(1, 13, 1e3), r"its temperature is \d\S+ K, outside 0.1 to 100000 K"),
        (hot(1, 13, 1e9), r"its temperature is \S+ K, outside 0.1 to 100000 K"),
        (hot(1, 13, np.nan), "the predicted energy or forces are not finite"),
        (hot(1, 13, np.inf), "the predicted energy or forces are not finite"),
        (refuse(1, 13), "the model refuses it: two atoms coincide"),
    ],
    ids=["hot", "boiling", "nan", "infinite", "refused"],
)
def test_a_replica_that_explodes_ends_alone(change, reason, tmp_path):
    quiet, loud = dynamics(springs()), dynamics(springs(change))
    wanted = [start(quiet)]
    found = [start(loud)]
    for _ in range(3):
        wanted.append(quiet.advance(wanted[-1], 10))
        found.append(loud.advance(found[-1], 10))
    assert found[1].ended == {}
    assert found[3].ended.keys() == {1}
    assert found[3].ended[1].step == 13
    assert re.fullmatch(reason, found[3].ended[1].reason)
    assert_equal(found[3], wanted[3], [0, 2])
    assert np.isfinite(found[3].positions).all()
    # Its frames are those before; it is marked in files, too.
    with FrameFile(tmp_path / "f", {}) as file:
        for frame in found:
            file.append(frame)
    stored = list(read_frames(tmp_path / "f", len(ETHANOL)))
    assert stored[3].ended == found[3].ended
    assert [len(of_replica(stored, index)) for index in range(3)] == [4, 2, 4]
    write_trajectory(tmp_path / "r.traj", ETHANOL, stored, 1)
    frames = read(tmp_path / "r.traj", ":")
    assert len(frames) == 2
    np.testing.assert_array_equal(frames[1].positions, wanted[1].positions[1])
    np.testing.assert_array_equal(frames[1].get_momenta(), wanted[1].momenta[1])
    np.testing.assert_array_equal(frames[1].get_forces(), wanted[1].forces[1])
    assert frames[1].get_potential_energy() == wanted[1].energies[1]


def test_a_start_that_cannot_be_predicted_is_refused():
    with pytest.raises(ValueError, match="not finite where the simulation starts"):
        start(dynamics(springs(hot(0, 0, np.nan))))


def test_a_model_that_refuses_only_the_batch_is_at_fault():
    def change(call, positions, energies, forces):
        if call > 1 and len(positions) > 1:
            raise ValueError("too many")

    run = dynamics(springs(change))
    with pytest.raises(RuntimeError, match="together, but none alone: too many"):
        run.advance(start(run), 1)


def test_steps_between_frames_read_nothing_back():
    run = dynamics(springs())
    first = start(run)
    read_back = run.advance(first, 1)
    moving = _Run(first, [0, 1, 2], torch.device("cpu"))
    with NothingReadBack():
        run._step(moving, 1)
    assert_equal(moving.read(first, 1), read_back, [0, 1, 2])


@pytest.mark.parametrize("kind", ["direct", "conservative"])
def test_replicas_are_predicted_as_the_batch_predictor_does(kind, tmp_path):
    unit = open_unit(write_checkpoint(tmp_path / "tiny.pt", kind), "cpu", torch.float64)
    predict = BatchPredictor(unit, "oc20")
    structures = []
    for seed in range(3):
        structures.append(ETHANOL.copy())
        structures[-1].rattle(0.1, seed=seed)
    wanted = predict(structures)
    positions = torch.tensor(np.array([a.positions for a in structures]))
    far = torch.tensor([[[0.0, 0, 0]], [[3, 4, 5]], [[1e4, -1e4, 1e5]]])
    energies, forces = ReplicaPredictor(predict, ETHANOL, 3)(positions + far)
    scale = max(np.abs(one.forces).max() for one in wanted)
    np.testing.assert_allclose(energies, [one.energy for one in wanted], rtol=1e-12)
    np.testing.assert_allclose(forces, [o.forces for o in wanted], rtol=0, atol=1e-9 * scale)


def test_periodic_structures_and_unknown_elements_have_no_replicas(tmp_path):
    unit = open_unit(write_checkpoint(tmp_path / "tiny.pt", "direct"), "cpu", torch.float64)
    predict = BatchPredictor(unit, "oc20")
    boxed, other = ETHANOL.copy(), ETHANOL.copy()
    boxed.set_cell([9, 9, 9])
    boxed.pbc = True
    other.numbers[0] = 99
    for atoms, message in ((boxed, "this structure is periodic"), (other, "Es")):
        with pytest.raises(ValueError, match=message):
            ReplicaPredictor(predict, atoms, 2)
