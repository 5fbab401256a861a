"""Ctrl-C and SIGTERM at every stage: what is kept is said, and the exit code is a shell's."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fairchem.core.launchers.api import SchedulerType
from launches import launch_and_signal
from omegaconf import OmegaConf
from torch.distributed import checkpoint as dcp
from training_runs import assert_same_weights, history, overrides, run

from eqv2_plugin.common.signals import ends_with
from eqv2_plugin.inference.job import InferenceRunner
from eqv2_plugin.training.ending import EndOnSignal

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def save(location: str) -> None:
    dcp.save({"weights": torch.arange(3.0)}, checkpoint_id=location)


class Run:
    """The hooks of a run of two epochs of three steps, with a signal somewhere."""

    def __init__(self, folder: Path, every: int | None = None) -> None:
        self.ending = EndOnSignal(folder, save)
        self.progress = SimpleNamespace(num_epochs_completed=0, num_steps_completed=0)
        self.unit = SimpleNamespace(train_progress=self.progress)
        self.state = SimpleNamespace(
            train_state=SimpleNamespace(max_epochs=2, max_steps=None),
            eval_state=SimpleNamespace(evaluate_every_n_steps=every),
        )

    def to_the_end(self, number: int, where: str) -> None:
        """``where``: start, step N, validation N (after so many epochs), or results."""
        with self.ending.signals():
            self._at("start", number, where)
            self.ending.on_train_start(self.state, self.unit)
            for epoch in range(1, 3):
                for _ in range(3):
                    self._at(f"step {self.progress.num_steps_completed + 1}", number, where)
                    self.progress.num_steps_completed += 1
                    self.ending.on_train_step_end(self.state, self.unit)
                    every = self.state.eval_state.evaluate_every_n_steps
                    if every and self.progress.num_steps_completed % every == 0:
                        self.ending.on_eval_start(self.state, self.unit)
                        self.ending.on_eval_end(self.state, self.unit)
                self.progress.num_epochs_completed += 1
                self.ending.on_train_epoch_end(self.state, self.unit)
                self.ending.on_eval_start(self.state, self.unit)
                self._at(f"validation {epoch}", number, where)
                self.ending.on_eval_end(self.state, self.unit)
            self._at("results", number, where)

    def _at(self, here: str, number: int, where: str) -> None:
        if here == where:
            os.kill(os.getpid(), number)


STAGES = {
    "start": "nothing was saved yet",
    "step 2": "step_2; the same command goes on from there",
    "step 3": "step_3;",
    "step 6": "step_6;",
    "validation 1": "nothing was saved yet",
    "validation 2": "nothing was saved yet",
    "results": "nothing was saved yet",
}


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("where", STAGES)
def test_a_training_run_says_what_is_saved(number, where, tmp_path, capfd):
    with pytest.raises(SystemExit) as ended:
        Run(tmp_path).to_the_end(number, where)
    assert ended.value.code == CODES[number]
    said = capfd.readouterr().err
    assert STAGES[where] in said
    lines = [line for line in said.splitlines() if line]
    assert len(lines) == (2 if "step" in where else 1)


def test_a_run_that_would_skip_a_validation_ends_before_it(tmp_path, capfd):
    save(str(tmp_path / "step_1"))
    with pytest.raises(SystemExit):
        Run(tmp_path, every=2).to_the_end(signal.SIGINT, "step 2")
    assert "saved is" in (said := capfd.readouterr().err)
    assert "step_1;" in said


def test_a_trained_run_says_that_results_are_left(tmp_path, capfd):
    save(str(tmp_path / "final"))
    with pytest.raises(SystemExit):
        Run(tmp_path).to_the_end(signal.SIGTERM, "results")
    assert "the run is trained" in capfd.readouterr().err


def test_a_second_signal_does_not_wait_for_the_step(tmp_path, capfd):
    made = Run(tmp_path)
    with made.ending.signals():
        made.ending.on_train_start(made.state, made.unit)
        os.kill(os.getpid(), signal.SIGINT)
        assert "once more" in capfd.readouterr().err
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGINT)


def test_without_a_signal_handlers_are_as_before(tmp_path):
    before = [signal.getsignal(number) for number in CODES]
    Run(tmp_path).to_the_end(signal.SIGINT, "never")
    assert [signal.getsignal(number) for number in CODES] == before


@pytest.mark.parametrize("number", CODES)
def test_a_job_that_predicts_says_what_is_kept(number, tmp_path, capfd):
    class Job(InferenceRunner):
        def work(self) -> None:
            os.kill(os.getpid(), number)

    job = Job(None, "float32", None, False)
    job.job_config = OmegaConf.create(
        {"scheduler": {"mode": SchedulerType.LOCAL}, "metadata": {"results_dir": str(tmp_path)}}
    )
    with pytest.raises(SystemExit) as ended:
        job.run()
    assert ended.value.code == CODES[number]
    assert f"what is finished is kept in {tmp_path}" in capfd.readouterr().err


@pytest.mark.parametrize("number", CODES)
def test_a_forked_worker_leaves_the_word_to_its_parent(number):
    reading, writing = os.pipe()
    with ends_with(lambda: "kept"):
        child = os.fork()
        if child == 0:
            os.dup2(writing, 2)
            os.kill(os.getpid(), number)
            os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    assert os.read(reading, 100) == b""
    os.close(reading)
    # Ctrl-C reaches parent and worker, which works on until it is told.
    assert os.waitstatus_to_exitcode(status) == (0 if number == signal.SIGINT else -number)


@pytest.mark.slow
def test_a_run_that_is_interrupted_ends_with_the_same_bits(tmp_path, cache):
    run(tmp_path / "whole", cache)
    folder = tmp_path / "cut"
    first = folder / "sample" / "checkpoints" / "step_0" / "inference_ckpt.pt"
    done = launch_and_signal(
        "eqv2_oc20",
        overrides(folder, config="eqv2_oc20"),
        signal.SIGINT,
        first.exists,
        EQV2_CACHE=cache,
    )
    assert done.returncode == 130, done.stderr[-4000:]
    assert "ended by Ctrl-C: saved is" in done.stderr
    assert "Resuming the run" in run(folder, cache)
    assert_same_weights(tmp_path / "whole" / "sample", folder / "sample")
    assert history(folder / "sample") == history(tmp_path / "whole" / "sample")


@pytest.mark.slow
def test_a_run_that_is_ended_at_its_start_says_that_nothing_was_begun(tmp_path, cache):
    config = tmp_path / "sample" / "canonical_config.yaml"
    done = launch_and_signal(
        "eqv2_oc20",
        overrides(tmp_path, config="eqv2_oc20"),
        signal.SIGTERM,
        config.exists,
        EQV2_CACHE=cache,
    )
    assert done.returncode == 143, done.stderr[-4000:]
    assert "ended by SIGTERM: nothing was begun yet" in done.stderr


@pytest.mark.slow
def test_several_ranks_end_with_their_last_checkpoint(tmp_path, cache):
    first = tmp_path / "sample" / "checkpoints" / "step_0" / "inference_ckpt.pt"
    settings = overrides(tmp_path, "job.scheduler.ranks_per_node=2", config="eqv2_oc20")
    # With sentences, as users have them.
    environment = {"EQV2_CACHE": cache, "EQV2_TRACEBACK": ""}
    number = signal.SIGTERM
    done = launch_and_signal("eqv2_oc20", settings, number, first.exists, **environment)
    assert done.returncode == 143, done.stderr[-4000:]
    assert "ended by SIGTERM: saved is" in done.stderr
    assert "Traceback" not in done.stderr
