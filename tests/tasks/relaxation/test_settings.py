"""Options that make no sense are refused where they are read."""

from __future__ import annotations

import pytest
from relaxation_inputs import ForgetfulEMT, surface

from eqv2_plugin.inference.batch_size import BatchLimit
from eqv2_plugin.inference.settings import RelaxationSettings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adam"}, "no optimizer 'adam'; choose one of lbfgs, bfgs, fire"),
        ({"fmax": 0}, "fmax must be a finite number above 0, got 0"),
        ({"fmax": None}, "fmax must be"),
        ({"fmax": float("nan")}, "fmax must be"),
        ({"fmax": "0.02"}, "fmax must be"),
        ({"steps": 0}, "steps must be a finite number above 0, got 0"),
        ({"steps": 2.5}, "steps must be"),
        ({"steps": True}, "steps must be"),
        ({"memory": 0}, "memory must be"),
        ({"maxstep": -0.1}, "maxstep must be"),
        ({"maxstep": 2.0}, "at most 1 Å"),
        ({"damping": 0.0}, "damping must be"),
        ({"alpha": float("inf")}, "alpha must be"),
        ({"optimizer": "fire", "memory": 5}, "the optimizer fire has no option 'memory'"),
        ({"maxsteps": 5}, "no option 'maxsteps'; did you mean 'maxstep'?"),
        ({"colour": 1}, "no option 'colour'; there are optimizer, fmax"),
    ],
)
def test_an_option_out_of_range_is_one_clear_error(options, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        RelaxationSettings.from_options(options)


def test_options_reach_ases_optimizer():
    atoms = surface(0)
    atoms.calc = ForgetfulEMT()
    options = {"maxstep": 0.04, "memory": 50, "damping": 0.9, "alpha": 60.0}
    made = RelaxationSettings.from_options({**options, "fmax": 0.3, "steps": 7}).make_optimizer(
        atoms
    )
    assert (made.maxstep, made.state.memory, made.damping) == (0.04, 50, 0.9)
    assert (made.state.H0.todense().diagonal() == 1 / 60.0).all()
    assert (made.fmax, made.max_steps) == (0.3, 7)


def test_options_that_are_not_given_are_ases():
    atoms = surface(0)
    atoms.calc = ForgetfulEMT()
    made = RelaxationSettings().make_optimizer(atoms)
    assert (made.maxstep, made.state.memory, made.damping) == (0.2, 100, 1.0)
    assert (RelaxationSettings().fmax, RelaxationSettings().steps) == (0.02, 200)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "structures or of atoms"),
        ({"structures": 0}, "at least 1 of structures, got 0"),
        ({"atoms": -3}, "at least 1 of atoms, got -3"),
        ({"atoms": 2.5}, "at least 1 of atoms"),
    ],
)
def test_a_batch_limit_without_room_is_refused(limits, message):
    with pytest.raises(ValueError, match=message):
        BatchLimit(**limits)
