"""fairchem's training runner: one run in a folder, resumed or reported where it ended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fairchem.core.common import distutils
from fairchem.core.components.train.train_runner import TrainEvalRunner
from fairchem.core.launchers.api import SchedulerType
from omegaconf import OmegaConf
from torch.distributed.checkpoint import CheckpointException

from eqv2_plugin.backbones.options import BackboneOptions
from eqv2_plugin.common import manifest
from eqv2_plugin.common.files import save_text
from eqv2_plugin.common.locks import FileLock, folder_lock
from eqv2_plugin.common.orphans import end_with_parent
from eqv2_plugin.common.text import say
from eqv2_plugin.dens.checks import check_denoising_data
from eqv2_plugin.dens.unit import EquiformerV2DeNSUnit
from eqv2_plugin.earlier_paths import current_name
from eqv2_plugin.training import made_with
from eqv2_plugin.training.checkpoints import FINAL, METADATA, last_complete, remove_unfinished
from eqv2_plugin.training.checks import (
    check_frames,
    check_gradient_scales,
    check_tasks_match_heads,
)
from eqv2_plugin.training.choice import ChooseByValidation
from eqv2_plugin.training.ending import EndOnSignal
from eqv2_plugin.training.label_guard import LabelGuard
from eqv2_plugin.training.report import RunReport
from eqv2_plugin.training.results import are_complete, mark_if_missing

RESUME_CONFIG = "resume.yaml"
# How a run begins, the same on every rank: whether it is finished already, and the checkpoint to go
# on from, if any.
_Begin = tuple[bool, Path | None]


class EquiformerV2TrainRunner(TrainEvalRunner):
    """Adds to `TrainEvalRunner` checks before the first step, a lock, and complete results.

    A run lives in ``run_dir/timestamp_id``, one at a time. The same command again resumes it
    from its last complete checkpoint, writes the results if only they are missing, or says that it
    is finished.
    """

    finetunes = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        end_with_parent()
        super().__init__(*args, **kwargs)
        self.finished = False
        self._lock: FileLock | None = None
        self._config = ""  # of this run, as the launcher wrote it
        self._resumed_from: Path | None = None
        reports = [c for c in self.callbacks if isinstance(c, RunReport)]
        self._report = reports[0] if reports else None
        if self._report is not None:
            choices = [c for c in self.callbacks if isinstance(c, ChooseByValidation)]
            self._report.choice = choices[0] if choices else None
        unit = self.train_eval_unit
        model = getattr(unit.model, "module", unit.model)
        check_tasks_match_heads(model, unit.tasks)
        if self.finetunes:
            check_gradient_scales(model, unit.tasks)
        elements = model.backbone.config.max_num_elements
        for loader in (self.train_dataloader, self.eval_dataloader):
            check_frames(loader.dataset, unit.tasks, elements, every=self.finetunes)
        if isinstance(unit, EquiformerV2DeNSUnit):
            check_denoising_data(self.train_dataloader.dataset, unit.denoising)

    def load_state(self, checkpoint_location: str | None) -> None:
        """Resume from ``checkpoint_location``, or from the run folder's last complete checkpoint.

        Raises:
            InUseError: another process is training in this folder.
            ValueError: the checkpoint belongs to another model.
        """
        self.finished, checkpoint = _decided_by_master(lambda: self._begin(checkpoint_location))
        if checkpoint is None:
            return
        check_same_model(checkpoint, self._model_options())
        if checkpoint.name == FINAL:
            say(f"The run {self._folder} is trained: its results are written now.")
        else:
            say(f"Resuming the run {self._folder} from {checkpoint.name}.")
        self._resumed_from = checkpoint
        if self._report is not None:
            self._report.resumed_from = checkpoint
        super().load_state(str(checkpoint))

    @property
    def _folder(self) -> Path:
        return Path(self.job_config.metadata.checkpoint_dir).parent

    def _begin(self, given: str | None) -> _Begin:
        self._lock = folder_lock(self._folder)
        try:
            begin = self._found(given)
        except BaseException:
            self._lock.release()
            raise
        if begin[0]:
            self._lock.release()
        return begin

    def _found(self, given: str | None) -> _Begin:
        self._config = Path(self.job_config.metadata.config_path).read_text()
        data = self.train_dataloader.dataset, self.eval_dataloader.dataset
        made_with.enter(Path(self.job_config.metadata.config_path), self._config, *data)
        checkpoints = Path(self.job_config.metadata.checkpoint_dir)
        if given is not None:
            checkpoint = Path(given).resolve()
            if not (checkpoint / METADATA).exists():
                raise FileNotFoundError(
                    f"there is no complete checkpoint {given}: leave out job.runner_state_path to "
                    "go on from the last one of the run"
                )
            return False, checkpoint
        last = last_complete(checkpoints)
        results = self._folder / "results"
        if are_complete(results) and (last is None or last.name == FINAL):
            mark_if_missing(results)
            return True, None
        if removed := remove_unfinished(checkpoints):
            say(f"Not complete, and removed: {', '.join(removed)} in {checkpoints}.")
        return False, last

    def _model_options(self) -> Any:
        """Of the model that is configured now; a fine-tuned one knows its own."""
        finetuned = self.train_eval_unit.get_finetune_model_config()
        if finetuned is not None:
            return finetuned
        return _saved_options(Path(self.job_config.metadata.config_path))

    def save_state(self, checkpoint_location: str, is_preemption: bool = False) -> bool:
        """As fairchem's, with what a resumed run needs to write the same history."""
        location = Path(checkpoint_location)
        if is_preemption:
            return self._save_for_preemption(location)
        if self._is_unchanged(location):
            return True
        try:
            self._prepare(location)
            return super().save_state(checkpoint_location)
        except (OSError, RuntimeError, CheckpointException) as error:
            raise OSError(
                f"the checkpoint {location} was not written: {_reason(error)}. If the disk is full "
                "make room; the same command goes on from the last complete checkpoint"
            ) from error

    def _save_for_preemption(self, location: Path) -> bool:
        """On SIGTERM or Ctrl-C: a link to the last checkpoint, made by one rank."""
        if not distutils.is_master():
            return False
        # fairchem has just made a folder there, over which it would stumble.
        if location.is_dir() and not location.is_symlink():
            if any(location.iterdir()):
                return False
            location.rmdir()
        return super().save_state(str(location), is_preemption=True)

    def _is_unchanged(self, location: Path) -> bool:
        """Whether this is the checkpoint that the run has begun from, before the first step."""
        return (
            self._report is not None
            and self._resumed_from is not None
            and location.resolve() == self._resumed_from.resolve()
            and self.train_eval_unit.train_progress.num_steps_completed == self._report.started_at
        )

    def _prepare(self, location: Path) -> None:
        if distutils.is_master():
            location.mkdir(parents=True, exist_ok=True)
            # Of an old one: it must not count as complete while its files are overwritten.
            (location / METADATA).unlink(missing_ok=True)
            config = Path(self.job_config.metadata.config_path)
            # A command that was refused has left its own, which would go into the checkpoint.
            if not config.is_file() or config.read_text() != self._config:
                save_text(config, self._config)
        distutils.synchronize()
        if self._report is not None:
            self._report.save_averages(location, self.train_eval_unit)

    def run(self) -> None:
        """Train, or write the results, or say that there is nothing to do."""
        if self.finished:
            say(
                f"This run is finished: {self._folder}. Its results are in "
                f"{self._folder / 'results'}. For a new run give it another name "
                "(run_name=NAME), or delete that folder."
            )
            return
        ending = EndOnSignal(Path(self.job_config.metadata.checkpoint_dir), self.save_state)
        self.callbacks.append(ending)
        local = self.job_config.scheduler.mode == SchedulerType.LOCAL
        try:
            # A queue has signals of its own.
            with ending.signals() if local else nullcontext():
                super().run()
        finally:
            if self._lock is not None:
                self._lock.release()


class FinetuningRunner(EquiformerV2TrainRunner):
    """Reads every frame once before the first step, and compares labels with the checkpoint.

    Args:
        label_guard: of a run that begins; None lets any labels pass. One without a checkpoint
            makes it a run like any other.
    """

    finetunes = True

    def __init__(self, *args: Any, label_guard: LabelGuard | None = None, **kwargs: Any) -> None:
        self.finetunes = label_guard is None or label_guard.checkpoint is not None
        super().__init__(*args, **kwargs)
        self._label_guard = label_guard

    def _found(self, given: str | None) -> _Begin:
        finished, checkpoint = super()._found(given)
        if self._label_guard is not None and not finished and checkpoint is None:
            self._label_guard.check(self.train_dataloader.dataset)
        return finished, checkpoint


def _reason(error: BaseException) -> str:
    """In one line; torch's exception holds those of all ranks, with their tracebacks."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return str(error)


def _decided_by_master(decide: Callable[[], _Begin]) -> _Begin:
    """What the first rank decides; its errors are raised on all ranks."""
    decided: list[_Begin | Exception | None] = [None]
    if distutils.is_master():
        try:
            decided = [decide()]
        except (OSError, ValueError, RuntimeError) as error:
            decided = [error]
    distutils.broadcast_object_list(decided, src=0)
    if isinstance(decided[0], Exception):
        raise decided[0]
    assert decided[0] is not None
    return decided[0]


def check_same_model(checkpoint: Path, options: Any) -> None:
    """The folder of a training checkpoint must belong to the model of these options.

    Facts are words about its numbers, of which newer versions write more: they may differ.
    """
    saved = checkpoint / RESUME_CONFIG
    if saved.exists():
        before, now = _comparable(_saved_options(saved)), _comparable(options)
        manifest.refuse_other(before, now, checkpoint.parent.parent, "a model")


def _saved_options(config_path: Path) -> Any:
    return OmegaConf.load(config_path).runner.train_eval_unit.model


def _comparable(options: Any) -> Any:
    """Without facts; runs of earlier versions name the same classes by other paths.

    They also lack the options of DeNS that have come since, which had one value.
    """
    plain = OmegaConf.to_container(OmegaConf.create(options), resolve=True)
    backbone = plain.get("backbone") or {}
    if backbone.get("force_encoding"):
        backbone.setdefault("force_scale", BackboneOptions.force_scale)

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renamed(inner) for key, inner in value.items()}
        return current_name(value) if isinstance(value, str) else value

    return renamed({key: value for key, value in plain.items() if key != "facts"})
