"""The unit as fairchem builds it: what it refuses, and what it does in a step."""

from __future__ import annotations

from types import SimpleNamespace

import hydra
import pytest
import torch
from dens_inputs import labelled_batch
from fairchem.core.common import distutils
from fairchem.core.units.mlip_unit.mlip_unit import MLIPTrainEvalUnit
from recipes import composed


@pytest.fixture(autouse=True, scope="module")
def process_group(tmp_path_factory):
    """Of one process, as fairchem's runner makes it."""
    meeting = tmp_path_factory.mktemp("group") / "meeting"
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=0, world_size=1
    )
    yield
    distutils.cleanup()


def built(*overrides: str, config: str = "eqv2_dens_oc20", **changes):
    """The recipe's unit; ``changes`` of its own options."""
    recipe = composed(config, "job.device_type=CPU", *overrides)
    return hydra.utils.instantiate(recipe.runner.train_eval_unit, **changes)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["~model.heads.noise_forces"], "DeNS needs a head 'noise_forces'"),
        (["denoising.probability=1.5"], r"probability must lie in \[0, 1\], got 1.5"),
        (["denoising.sigma_low=0.01"], "sigma_encoding=true"),
    ],
)
def test_a_recipe_that_cannot_train_dens_is_refused(overrides, message):
    with pytest.raises(Exception, match=message):
        built(*overrides)


def test_a_missing_noise_task_is_refused():
    unit = composed("eqv2_dens_oc20")
    tasks = unit.runner.train_eval_unit.tasks[:2]
    with pytest.raises(Exception, match="'noise_forces' is missing"):
        built(tasks=tasks)


@pytest.fixture(scope="module")
def unit():
    return built("denoising.coefficient_decay=linear", "denoising.coefficient=8")


def test_lambda_decays_over_the_steps_of_a_training_in_place(unit, monkeypatch):
    seen = []
    noise = next(task for task in unit.tasks if task.name == "noise_forces").loss_fn
    place = noise.coefficient.data_ptr()

    def step(self, state, data):
        seen.append((float(noise.coefficient), bool(data.encoded_forces.any())))

    monkeypatch.setattr(MLIPTrainEvalUnit, "train_step", step)
    monkeypatch.setattr(unit.monitor, "update", lambda *arguments: None)
    train = SimpleNamespace(max_steps=None, max_epochs=2, dataloader=range(2))
    data = labelled_batch([4] * 20, dtype=torch.float32)
    for _ in range(4):
        unit.train_step(SimpleNamespace(train_state=train), data)
        unit.train_progress.increment_step()
    assert seen == [(8.0, True), (6.0, True), (4.0, True), (2.0, True)]
    assert noise.coefficient.data_ptr() == place
    assert "encoded_forces" not in data


def test_draws_are_keyed_by_seed_rank_and_step(unit, monkeypatch):
    data = labelled_batch([4] * 10)

    def noise(step: int = 7) -> torch.Tensor:
        return unit.draw(data, step).noise

    first = noise()
    assert torch.equal(first, noise())
    assert not torch.equal(first, noise(step=8))
    with monkeypatch.context() as other_rank:
        other_rank.setattr(distutils, "get_rank", lambda: 1)
        assert not torch.equal(first, noise())
    monkeypatch.setattr(unit.job_config, "seed", unit.job_config.seed + 1)
    assert not torch.equal(first, noise())


def test_a_label_that_is_missing_or_not_finite_stops_the_step(unit):
    data = labelled_batch([2, 3])
    data.forces[3, 1] = torch.nan
    with pytest.raises(ValueError, match=r"atom 1 of structure 1 \('frame 1'\) of the batch"):
        unit.train_step(None, data)
