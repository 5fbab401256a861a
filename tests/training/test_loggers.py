"""Figures of a run beside its files, without a network."""

from __future__ import annotations

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_runs import history, run

from eqv2_plugin.training import loggers
from eqv2_plugin.training.loggers import FOLDER, job_logger, open_log


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_what_is_written_twice_after_a_resume_counts_once(tmp_path):
    for start, values in ((0, (1.0, 2.0, 3.0)), (1, (5.0, 6.0))):
        log = open_log("tensorboard", tmp_path, start)
        for step, value in enumerate(values, start=start + 1):
            log.log({"val/error": value}, step)
        log.close()
    assert scalars(tmp_path / FOLDER) == {"val/error": [(1, 1.0), (2, 5.0), (3, 6.0)]}


def test_no_logger_is_the_default():
    assert job_logger(None, "recipe") is None
    assert open_log(None, None, 0) is None


def test_an_unknown_logger_or_a_missing_package_is_told(monkeypatch):
    with pytest.raises(ValueError, match="did you mean 'wandb'"):
        job_logger("wandbb", "recipe")
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        job_logger("tensorboard", "recipe")


@pytest.mark.slow
def test_tensorboard_has_the_history(tmp_path, cache):
    run(tmp_path, cache, "logger=tensorboard", "epochs=1")
    found = scalars(tmp_path / "sample" / FOLDER)
    expected = {r["step"]: r["splits"]["val_id"] for r in history(tmp_path / "sample")}
    errors = dict(found["val_id/forces_mae_meV_per_A"])
    assert errors == pytest.approx({k: m["forces_mae_meV_per_A"] for k, m in expected.items()})
    assert [step for step, _ in found["running loss/forces"]] == list(range(1, 7))


@pytest.mark.slow
def test_wandb_keeps_a_run_without_a_network(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run(tmp_path, cache, "logger=wandb", "epochs=1")
    (kept,) = (tmp_path / "sample" / "logs" / "wandb").glob("offline-run-*/run-*.wandb")
    content = kept.read_bytes()
    for name in (b"val_id/forces_mae_meV_per_A", b"train/loss", b"running loss/forces"):
        assert name in content
