"""Weights chosen by validation, also where a run was killed and goes on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from eqv2_plugin.training import choice
from eqv2_plugin.training.choice import ChooseByValidation

WEIGHTS = {"energy": 1, "forces": 80}
# meV and meV/Å of one validation each; the lowest 1 E + 80 F is the third's.
ERRORS = [(300.0, 30.0), (100.0, 20.0), (180.0, 18.0), (10.0, 21.0)]


class Unit:
    """Of a training whose weights are the number of the validation."""

    def __init__(self) -> None:
        self.model = torch.nn.Linear(1, 1)
        self.eval_unit = SimpleNamespace(model=torch.nn.Linear(1, 1))
        self.train_progress = SimpleNamespace(num_steps_completed=0)

    def validate(self, callback: ChooseByValidation, number: int, monkeypatch) -> None:
        energy, forces = ERRORS[number]
        errors = {"val": {"energy_mae_meV": energy, "forces_mae_meV_per_A": forces}}
        monkeypatch.setattr(choice, "evaluated_metrics", lambda unit: errors)
        torch.nn.init.constant_(self.eval_unit.model.weight, number)
        self.train_progress.num_steps_completed = 10 * (number + 1)
        callback.on_eval_epoch_end(None, self)


def callback(folder, weights=WEIGHTS) -> ChooseByValidation:
    made = ChooseByValidation(weights)
    made.set_runner_callbacks(None, None, str(folder / "checkpoints"))
    return made


def test_the_run_ends_with_the_weights_of_its_best_validation(tmp_path, monkeypatch):
    unit, chooses = Unit(), callback(tmp_path)
    own = unit.model.weight.detach().clone()
    chooses.on_train_start(None, unit)
    for number in range(4):
        unit.validate(chooses, number, monkeypatch)
    chooses.on_train_end(None, unit)
    assert unit.eval_unit.model.weight.item() == 2.0
    assert chooses.chosen == {"step": 30, "score": pytest.approx(0.18 + 80 * 0.018)}
    # Those that training goes on from are left alone.
    assert torch.equal(unit.model.weight, own)


def test_a_run_that_was_killed_chooses_likewise(tmp_path, monkeypatch):
    unit, killed = Unit(), callback(tmp_path)
    killed.on_train_start(None, unit)
    for number in (0, 1, 2):
        unit.validate(killed, number, monkeypatch)
    # It goes on from a checkpoint after the second validation.
    resumed, unit = callback(tmp_path), Unit()
    unit.train_progress.num_steps_completed = 20
    resumed.on_train_start(None, unit)
    for number in (2, 3):
        unit.validate(resumed, number, monkeypatch)
    resumed.on_train_end(None, unit)
    assert unit.eval_unit.model.weight.item() == 2.0
    assert resumed.chosen["step"] == 30


def test_a_run_from_the_start_forgets_what_was_chosen_before(tmp_path, monkeypatch):
    unit, before = Unit(), callback(tmp_path)
    before.on_train_start(None, unit)
    unit.validate(before, 2, monkeypatch)
    unit, again = Unit(), callback(tmp_path)
    again.on_train_start(None, unit)
    unit.validate(again, 0, monkeypatch)
    again.on_train_end(None, unit)
    assert unit.eval_unit.model.weight.item() == 0.0


def test_without_weights_of_errors_nothing_is_chosen(tmp_path, monkeypatch):
    unit, none = Unit(), callback(tmp_path, None)
    none.on_train_start(None, unit)
    unit.validate(none, 1, monkeypatch)
    none.on_train_end(None, unit)
    assert none.chosen is None
    assert not list(tmp_path.iterdir())


def test_misspelt_weights_are_refused():
    with pytest.raises(ValueError, match="choose_by has no option 'force'; did you mean 'forces'"):
        ChooseByValidation({"energy": 1, "force": 80})


class Marker:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no checkpoint"), (None, "print.*could run code")],
    ids=["truncated", "with code"],
)
def test_a_bad_file_of_weights_is_named(tmp_path, content, message):
    path = tmp_path / choice.FILE
    if content is None:
        torch.save({"score": Marker()}, path)
    else:
        path.write_bytes(content)
    unit = Unit()
    unit.train_progress.num_steps_completed = 10
    with pytest.raises(ValueError, match=f"{choice.FILE}.*{message}"):
        callback(tmp_path).on_train_start(None, unit)
