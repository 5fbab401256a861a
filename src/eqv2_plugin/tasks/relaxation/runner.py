"""fairchem's runner for relaxations in batches, and what it keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import torch
from ase import Atoms
from fairchem.core.components.runner import Runner
from fairchem.core.launchers.api import DeviceType
from tqdm import tqdm

from eqv2_plugin.common.hashing import file_sha256
from eqv2_plugin.common.orphans import end_with_parent
from eqv2_plugin.data.ids import system_id
from eqv2_plugin.inference.batch_size import BatchLimit
from eqv2_plugin.inference.energy_agreement import compare, data_kind, magnitudes_note
from eqv2_plugin.inference.finished import finished_ids
from eqv2_plugin.inference.lockstep import relax_many
from eqv2_plugin.inference.memory import find_limit
from eqv2_plugin.inference.predictor import BatchPredictor, Device, choose_task, open_unit
from eqv2_plugin.inference.processes import job_share, say
from eqv2_plugin.inference.settings import RelaxationSettings
from eqv2_plugin.inference.store import (
    RelaxationStore,
    store_path,
)
from eqv2_plugin.models.energy_kind import energy_kind_of
from eqv2_plugin.models.metadata import metadata_of
from eqv2_plugin.tasks.relaxation.initial_structures import Starts, all_ids, open_starts, share_of
from eqv2_plugin.tasks.relaxation.joining import ResultOptions, write_results
from eqv2_plugin.tasks.relaxation.progress import Progress
from eqv2_plugin.tasks.relaxation.report import energy_notes
from eqv2_plugin.tasks.s2ef.runner import split_configs

TRAJECTORIES = "trajectories"
Precision = Literal["float32", "float64"]


class BatchedRelaxationRunner(Runner):
    """Relaxes the structures of the splits of a data set, and writes the results.

    Ranks and array jobs share the structures without talking to each other. Each adds its
    finished relaxations to a file of its own in ``results``; the one that finishes last writes
    what `write_results` says. The same command goes on after a kill, with any number of ranks.

    It is no `Reducer` of fairchem that writes the results: with several ranks, fairchem 2.24's
    local launcher fails before it calls one.

    Args:
        checkpoint: inference checkpoint (``.pt``) or native file.
        data: as for ``S2EFPredictionRunner``: ``root``, ``reader``, ``splits``, ``how_to_get``.
            What is relaxed of them: see `Starts`.
        settings: see `RelaxationSettings`.
        batch: ``structures`` and ``atoms`` that move at the same time (see `BatchLimit`); if both
            are None, as many atoms as memory allows (see `find_limit`).
        results: see `ResultOptions`.
        task_name: data set that the model predicts for; may be None if it knows only one.
        precision: "float32" or "float64".
        trajectories: write one ``.traj`` for each structure.
        unsafe: see `eqv2_plugin.checkpoints.door.open_model`.
    """

    def __init__(
        self,
        checkpoint: str | None,
        data: Mapping[str, Any],
        settings: Mapping[str, Any],
        batch: Mapping[str, int | None],
        results: Mapping[str, Any],
        task_name: str | None = None,
        precision: Precision = "float32",
        trajectories: bool = False,
        unsafe: bool = False,
    ) -> None:
        end_with_parent()
        if checkpoint is None:
            raise ValueError("no model: set checkpoint=FILE.pt")
        if precision not in ("float32", "float64"):
            raise ValueError(f"precision must be float32 or float64, got {precision!r}")
        self.checkpoint = Path(checkpoint).expanduser()
        if not self.checkpoint.is_file():
            raise FileNotFoundError(f"there is no checkpoint {checkpoint}: set checkpoint=FILE.pt")
        self.splits = split_configs(data)
        self.data_kind = data_kind(data)
        self.settings = RelaxationSettings.from_options(settings)
        given = any(value is not None for value in batch.values())
        self.batch = BatchLimit(**batch) if given else None
        self.results = ResultOptions(**results)
        self.task_name = task_name
        self.precision = precision
        self.trajectories = trajectories
        self.unsafe = unsafe

    def run(self) -> None:
        """Relax the structures of this process that are not finished.

        Raises:
            FileNotFoundError, ValueError: model or data are missing, unfit or damaged, or the
                results folder holds relaxations made with something else.
            RuntimeError: the same job is running already, or every structure failed: the results
                that say why are written before.
            OSError: results cannot be written.
        """
        share, processes = job_share(self.job_config)
        starts = open_starts(self.splits)
        device: Device = "cuda" if self.job_config.device_type == DeviceType.CUDA else "cpu"
        unit = open_unit(self.checkpoint, device, getattr(torch, self.precision), self.unsafe)
        task = choose_task(unit, self.task_name, "task_name=NAME")
        predict = BatchPredictor(unit, task)
        description = self._describe(unit.model.module, task, starts)
        done = finished_ids(self._results, description)
        ids = share_of(all_ids(starts), share, processes)
        todo = [one for one in ids if f"{one[0]}/{one[1]}" not in done]
        say(f"Energies: {description['energy']}")
        say(
            f"{len(all_ids(starts)):,} structures; of this process {len(ids):,}, "
            f"{len(ids) - len(todo):,} of them finished before"
        )
        kind = energy_kind_of(metadata_of(unit.model.module))
        notes = energy_notes(kind, description["energy"], self.data_kind)
        for split, found in starts.items():
            note = magnitudes_note(compare(predict, found.labelled()), split)
            notes += [note] if note else []
        for note in notes:
            say(f"NOTE: {note}")
        with RelaxationStore(store_path(self._results, share, processes), description) as store:
            if todo:
                self._relax(predict, starts, todo, self._limit(predict, starts, todo, device),
                            store, len(ids))  # fmt: skip
        everything = {f"{split}/{sid}" for split, sid in all_ids(starts)}
        left = everything - finished_ids(self._results, description)
        if left:
            say(f"{len(left):,} structures of other processes are not finished; the last one of "
                "them writes the results")  # fmt: skip
        else:
            written = write_results(self._results, starts, self.results, kind, notes)
            print(written.text, flush=True)
            if written.error:
                raise RuntimeError(written.error)

    def _limit(
        self,
        predict: BatchPredictor,
        starts: Mapping[str, Starts],
        todo: Sequence[tuple[str, str]],
        device: Device,
    ) -> BatchLimit:
        batch = self.batch
        if batch is None:
            batch = find_limit(predict, (atoms for _, atoms in _initials(starts, todo)), device)
        say(f"Moving at once: {_words(batch)}")
        return batch

    def _relax(
        self,
        predict: BatchPredictor,
        starts: Mapping[str, Starts],
        todo: Sequence[tuple[str, str]],
        batch: BatchLimit,
        store: RelaxationStore,
        total: int,
    ) -> None:
        if self.trajectories:
            for split in starts:
                (self._results / TRAJECTORIES / split).mkdir(parents=True, exist_ok=True)
        with Progress(total, total - len(todo)) as progress:
            for relaxed in relax_many(
                _initials(starts, todo),
                predict,
                self.settings,
                batch=batch,
                trajectory_of=self._trajectory if self.trajectories else None,
                on_step=progress.step,
            ):
                store.append(relaxed)
                if relaxed.failed:
                    tqdm.write(f"{relaxed.id} failed: {relaxed.error}")
                progress.finish()

    def _describe(self, model: Any, task: str, starts: Mapping[str, Starts]) -> dict[str, Any]:
        """What a relaxation depends on: a run that is continued must match it."""
        metadata = metadata_of(model)
        settings = {key: value for key, value in vars(self.settings).items() if value is not None}
        return {
            "checkpoint_sha256": file_sha256(self.checkpoint),
            "energy": "the checkpoint does not say" if metadata is None else metadata.sentence(),
            "task_name": task,
            "precision": self.precision,
            "settings": settings,
            "data": {
                split: found.fingerprint(self.splits[split]) for split, found in starts.items()
            },
        }

    @property
    def _results(self) -> Path:
        return Path(self.job_config.metadata.results_dir)

    def _trajectory(self, identity: str) -> Path:
        """Named by EvalAI's id: fairchem's ``make_submission_file`` takes ids from the names."""
        split, _, sid = identity.partition("/")
        return self._results / TRAJECTORIES / split / f"{quote(system_id(sid), safe='')}.traj"

    def save_state(self, checkpoint_location: str, is_preemption: bool = False) -> bool:
        """Nothing is left to save: finished relaxations are in a file already."""
        return True

    def load_state(self, checkpoint_location: str | None) -> None:
        """Nothing to load: `run` looks for finished relaxations."""


def _initials(
    starts: Mapping[str, Starts], ids: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, Atoms]]:
    for split, sid in ids:
        yield f"{split}/{sid}", starts[split].initial(sid)


def _words(batch: BatchLimit) -> str:
    limits = {"structures": batch.structures, "atoms": batch.atoms}
    return " and ".join(f"at most {n:,} {what}" for what, n in limits.items() if n is not None)
