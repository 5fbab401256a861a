"""What jobs that predict have in common: a model, a share of the work, and no state to save."""

from __future__ import annotations

import sys
from abc import abstractmethod
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

from fairchem.core.common import distutils
from fairchem.core.components.runner import Runner
from fairchem.core.launchers.api import DeviceType, SchedulerType
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings
from tqdm import tqdm

from eqv2_plugin.common.orphans import end_with_parent
from eqv2_plugin.common.signals import ends_with
from eqv2_plugin.inference.predictor import BatchPredictor, Device, open_predictor

Precision = Literal["float32", "float64"]
# Where lines are kept (a log), no bar.
_LINE = "{percentage:3.0f}% {n_fmt}/{total_fmt} {unit}s [{elapsed}<{remaining}{postfix}]"


class InferenceRunner(Runner):
    """A runner of fairchem whose finished work is in files at once.

    Ranks and array jobs share the work without talking to each other, and the one that finishes
    last writes what needs all of it: fairchem's reducers do not serve, since with several ranks
    its local launcher fails before it calls one. The same command goes on after a kill, with any
    number of processes.

    Args:
        checkpoint: inference checkpoint (``.pt``) or native file.
        settings: fairchem's settings of inference, or a precision.
        task_name: data set that the model predicts for; may be None if it knows only one.
        unsafe: see `eqv2_plugin.checkpoints.door.open_model`.
    """

    def __init__(
        self,
        checkpoint: str | None,
        settings: InferenceSettings | Precision,
        task_name: str | None,
        unsafe: bool,
    ) -> None:
        end_with_parent()
        if isinstance(settings, str):
            if settings not in ("float32", "float64"):
                raise ValueError(f"precision must be float32 or float64, got {settings!r}")
            settings = InferenceSettings(
                activation_checkpointing=False, base_precision_dtype=settings
            )
        self.checkpoint = checkpoint
        self.inference_settings = settings
        self.task_name = task_name
        self.unsafe = unsafe

    @abstractmethod
    def work(self) -> None:
        """Do what is not finished, and write the results."""

    def run(self) -> None:
        """`work`, which a signal ends with a line about what is kept; errors as of `work`."""
        local = self.job_config.scheduler.mode == SchedulerType.LOCAL
        # A queue has signals of its own.
        with ends_with(self._kept) if local else nullcontext():
            self.work()

    def _kept(self) -> str:
        return f"what is finished is kept in {self.results}; the same command goes on with the rest"

    def open_predictor(self) -> BatchPredictor:
        """The model, on this process's device; errors as of the function of this name."""
        return open_predictor(
            self.checkpoint, self.device, self.inference_settings, self.task_name, self.unsafe
        )

    @property
    def checkpoint_file(self) -> Path:
        """Of the model, once it is open."""
        return Path(str(self.checkpoint)).expanduser()

    @property
    def device(self) -> Device:
        """Where this process predicts."""
        return "cuda" if self.job_config.device_type == DeviceType.CUDA else "cpu"

    @property
    def results(self) -> Path:
        """The job's folder for results."""
        return Path(self.job_config.metadata.results_dir)

    def share(self) -> tuple[int, int]:
        """Which of how many processes this is, over ranks and array jobs.

        Raises:
            ValueError: array jobs with fairchem's local launcher, which runs the first one only.
        """
        scheduler, job = self.job_config.scheduler, self.job_config.metadata.array_job_num
        jobs, ranks = scheduler.num_array_jobs, distutils.get_world_size()
        if jobs > 1 and scheduler.mode == SchedulerType.LOCAL:
            raise ValueError(
                f"job.scheduler.num_array_jobs={jobs} needs job.scheduler.mode=SLURM: fairchem's "
                "local launcher runs the first job only. Use job.scheduler.ranks_per_node here"
            )
        return job * ranks + distutils.get_rank(), jobs * ranks

    def save_state(self, checkpoint_location: str, is_preemption: bool = False) -> bool:
        """Nothing is left to save: finished work is in files already."""
        return True

    def load_state(self, checkpoint_location: str | None) -> None:
        """Nothing to load: ``work`` looks for finished work."""


class Progress:
    """A bar of finished structures (or others), with steps per second; on the first rank only."""

    def __init__(self, total: int, initial: int, unit: str = "structure") -> None:
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=initial,
            unit=unit,
            miniters=0,
            mininterval=0.5 if terminal else 15.0,
            dynamic_ncols=terminal,
            bar_format=None if terminal else _LINE,
            disable=not distutils.is_master(),
        )
        self._steps = 0

    def step(self, structures: int) -> None:
        """One model call for so many structures was made."""
        self._steps += structures
        elapsed = 0.0 if self._bar.disable else self._bar.format_dict["elapsed"]
        if elapsed:
            self._bar.set_postfix_str(f"{self._steps / elapsed:.1f} steps/s", refresh=False)
            self._bar.update(0)

    def finish(self) -> None:
        """One structure has finished."""
        self._bar.update(1)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
