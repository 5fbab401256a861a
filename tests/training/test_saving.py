"""When checkpoints are saved, by a clock that the test turns."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from eqv2_plugin.training.saving import TimedCheckpoints, steps_between


def saved(
    every: int | str, steps: int, seconds_per_step: float, seconds_to_save: float, first: int = 0
) -> list[int]:
    """Steps at which a run saves."""
    now, found = 0.0, []

    def save(location: str) -> None:
        nonlocal now
        now += seconds_to_save
        found.append(int(location.rpartition("_")[2]))

    callback = TimedCheckpoints(every, clock=lambda: now)
    callback.set_runner_callbacks(save, lambda _: None, "/nowhere")
    train = SimpleNamespace(max_steps=None, max_epochs=2, dataloader=range(steps // 2))
    state = SimpleNamespace(train_state=train)
    for step in range(first, steps):
        progress = SimpleNamespace(num_steps_completed=step)
        callback.on_train_step_start(state, SimpleNamespace(train_progress=progress))
        now += seconds_per_step
    return found


@pytest.fixture(autouse=True)
def no_folders(monkeypatch):
    name = "fairchem.core.components.callbacks.get_subdirectories_sorted_by_time"
    monkeypatch.setattr(name, lambda _: [])


@pytest.mark.parametrize(
    ("steps", "seconds_per_step", "seconds_to_save"),
    [(100_000, 0.5, 1.0), (1_000, 2.0, 0.5), (400, 0.05, 0.0), (2_000, 30.0, 8.0)],
)
def test_little_of_a_run_can_be_lost_and_little_is_spent(steps, seconds_per_step, seconds_to_save):
    found = saved("auto", steps, seconds_per_step, seconds_to_save)
    gaps = [after - before for before, after in zip([0, *found], [*found, steps], strict=True)]
    lost = max(gaps) * seconds_per_step
    # To one step, or to the ten after which the speed is known.
    bound = max(min(300.0, 0.05 * steps * seconds_per_step), 30 * seconds_to_save)
    assert lost <= bound + 10 * seconds_per_step
    assert len(found) * seconds_to_save <= 0.04 * steps * seconds_per_step


def test_a_resumed_run_counts_from_where_it_goes_on():
    found = saved("auto", 1_000, 1.0, 0.0, first=500)
    assert found[0] > 505
    assert found[0] <= 551


def test_a_number_is_obeyed():
    assert saved(7, 30, 1000.0, 0.0) == [0, 7, 14, 21, 28]


def test_checkpoints_that_take_long_are_rare():
    assert steps_between(1.0, 1_000, 0.0) == 50
    assert steps_between(1.0, 1_000, 10.0) == 300
    assert steps_between(1_000.0, 1_000, 0.0) == 1
