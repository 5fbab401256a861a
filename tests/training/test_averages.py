"""Averages of training batches that go on where a checkpoint was written."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from eqv2_plugin.common.ranks import own_part
from eqv2_plugin.dens.monitor import DenoisingMonitor
from eqv2_plugin.training.callbacks import TaskLosses
from eqv2_plugin.training.checkpoints import load_averages, save_averages
from eqv2_plugin.training.loss_curve import FILE, LossCurve
from eqv2_plugin.training.results import History


def task_losses() -> tuple[TaskLosses, SimpleNamespace]:
    task = SimpleNamespace(name="energy", loss_fn=torch.nn.L1Loss())
    return TaskLosses(SimpleNamespace(tasks=[task])), task


def train(losses: TaskLosses, task: SimpleNamespace, values: list[float]) -> None:
    for value in values:
        prediction = torch.tensor([value], requires_grad=True)
        task.loss_fn(prediction, torch.zeros(1))
        losses.count_step()


def test_losses_of_a_resumed_run_are_those_of_an_undisturbed_one(tmp_path):
    values = torch.rand(7, generator=torch.Generator().manual_seed(0)).tolist()
    whole, task = task_losses()
    train(whole, task, values)

    killed, task = task_losses()
    train(killed, task, values[:4])
    save_averages(tmp_path, {"losses": killed})
    resumed, task = task_losses()
    load_averages(tmp_path, {"losses": resumed})
    train(resumed, task, values[4:])

    means = whole.mean_and_reset()
    assert resumed.mean_and_reset() == means
    assert means["energy"] == pytest.approx(sum(values) / len(values))


def test_figures_of_denoising_go_on_with_the_same_bits(tmp_path):
    before = DenoisingMonitor()
    before.sums = {"noise_cosine": torch.tensor(1 / 3).double(), "noise_atoms": torch.tensor(2.0)}
    save_averages(tmp_path, {"denoising": before})
    after = DenoisingMonitor()
    load_averages(tmp_path, {"denoising": after})
    assert after.mean_and_reset() == before.mean_and_reset()


def test_a_resume_with_other_ranks_keeps_the_means():
    two = [{"energy": 3.0, "number of steps": 2}, {"energy": 5.0, "number of steps": 2}]
    one, _ = task_losses()
    one.restore(two, rank=0, count=1)
    assert one.mean_and_reset() == {"energy": 2.0}

    sums = [{"noise_cosine": 1.0, "noise_atoms": 4.0}]
    monitors = [DenoisingMonitor() for _ in range(2)]
    for rank, monitor in enumerate(monitors):
        monitor.restore(sums, rank, count=2)
    assert sum(monitor.sums["noise_atoms"] for monitor in monitors) == 4.0


def test_ranks_get_back_their_own_sums():
    ranks = [{"a": 1.0}, {"a": 2.0}]
    assert [own_part(ranks, rank, 2, divisor=2) for rank in range(2)] == ranks


def test_a_curve_has_a_point_for_each_hundredth_of_a_run(tmp_path):
    losses, task = task_losses()
    curve = LossCurve(losses, History(tmp_path, FILE), 250)
    for step in range(1, 251):
        task.loss_fn(torch.tensor([float(step)], requires_grad=True), torch.zeros(1))
        curve.count_step(step)
    points = History(tmp_path, FILE).read()
    assert [point["step"] for point in points] == list(range(3, 250, 3))
    assert [point["losses"]["energy"] for point in points[:2]] == [2.0, 5.0]


def test_figures_that_an_older_checkpoint_lacks_begin_anew(tmp_path):
    save_averages(tmp_path, {"losses": task_losses()[0]})
    curve, _ = task_losses()
    load_averages(tmp_path, {"losses": task_losses()[0], "curve": curve})
    assert curve.steps == 0


def test_a_checkpoint_without_averages_is_told(tmp_path, capsys):
    losses, _ = task_losses()
    load_averages(tmp_path, {"losses": losses})
    assert "means since this resume" in capsys.readouterr().out
    assert losses.steps == 0


def test_damaged_averages_are_named(tmp_path):
    (tmp_path / "averages.json").write_text('[{"lo')
    with pytest.raises(ValueError, match=r"averages\.json is damaged"):
        load_averages(tmp_path, {"losses": task_losses()[0]})
