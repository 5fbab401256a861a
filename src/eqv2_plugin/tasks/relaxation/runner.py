"""fairchem's runner for relaxations in batches, and what it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tqdm import tqdm

from eqv2_plugin.common.hashing import file_sha256
from eqv2_plugin.common.text import say
from eqv2_plugin.data.ids import system_id
from eqv2_plugin.inference.batch_size import BatchLimit, find_limit
from eqv2_plugin.inference.energy_agreement import agreement_notes, data_kind
from eqv2_plugin.inference.job import InferenceRunner, Precision, Progress
from eqv2_plugin.inference.lockstep import relax_many
from eqv2_plugin.inference.predictor import BatchPredictor
from eqv2_plugin.inference.settings import RelaxationSettings
from eqv2_plugin.inference.store import RelaxationStore, finished_ids, store_path
from eqv2_plugin.tasks.relaxation.initial_structures import (
    InitialStructures,
    all_ids,
    initial_structures,
    open_initial_structures,
)
from eqv2_plugin.tasks.relaxation.notes import energy_note
from eqv2_plugin.tasks.relaxation.results import ResultOptions, write_results
from eqv2_plugin.tasks.splits import split_configs

TRAJECTORIES = "trajectories"
Splits = Mapping[str, InitialStructures]


class BatchedRelaxationRunner(InferenceRunner):
    """Relaxes the structures of the splits of a data set, and writes the results.

    Each process adds its finished relaxations to a file of its own in ``results``; the one that
    finishes last writes what `write_results` says.

    Args:
        checkpoint, task_name, precision, unsafe: see `InferenceRunner`.
        data: see `split_configs`, and, if it is known, ``energy_kind`` (name of an `EnergyKind`).
            What is relaxed of them: see `InitialStructures`.
        settings: see `RelaxationSettings`.
        batch: ``structures`` and ``atoms`` that move at the same time (see `BatchLimit`); if both
            are None, as many atoms as memory allows (see `find_limit`).
        results: see `ResultOptions`.
        trajectories: write one ``.traj`` for each structure.
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
        super().__init__(checkpoint, precision, task_name, unsafe)
        self.precision = precision
        self.splits = split_configs(data)
        self.data_kind = data_kind(data)
        self.settings = RelaxationSettings.from_options(settings)
        given = any(value is not None for value in batch.values())
        self.batch = BatchLimit(**batch) if given else None
        self.options = ResultOptions(**results)
        self.trajectories = trajectories

    def work(self) -> None:
        """Relax the structures of this process that are not finished.

        Raises:
            ValueError: model or data are unfit or damaged, or the results folder holds relaxations
                made with something else.
            RuntimeError: the same job is running already, or every structure failed: the results
                that say why are written before.
        """
        share, processes = self.share()
        splits = open_initial_structures(self.splits)
        predict = self.open_predictor()
        made_with = self._made_with(predict, splits)
        everything = all_ids(splits)
        mine = everything[share::processes]
        done = finished_ids(self.results, made_with)
        todo = [one for one in mine if one not in done]
        say(f"Energies: {made_with['energy']}")
        say(
            f"{len(everything):,} structures; of this process {len(mine):,}, "
            f"{len(mine) - len(todo):,} of them finished before"
        )
        kind = predict.energy_kind
        labelled = {split: found.labelled() for split, found in splits.items()}
        kinds = ""
        if self.options.dataset is not None:
            kinds = energy_note(kind, made_with["energy"], self.data_kind)
        notes = agreement_notes(kinds, predict, labelled)
        for note in notes:
            say(f"NOTE: {note}")
        path = store_path(self.results, share, processes)
        with RelaxationStore(path, made_with) as store:
            if todo:
                self._relax(predict, splits, todo, store, len(mine))
        if left := set(everything) - finished_ids(self.results, made_with):
            say(
                f"{len(left):,} structures of other processes are not finished; the last one of "
                "them writes the results"
            )
            return
        written = write_results(self.results, splits, self.options, kind, notes)
        print(written.text, flush=True)
        if written.error:
            raise RuntimeError(written.error)

    def _made_with(self, predict: BatchPredictor, splits: Splits) -> dict[str, Any]:
        """What a relaxation depends on: a run that goes on must match it."""
        return {
            "checkpoint_sha256": file_sha256(self.checkpoint_file),
            "energy": predict.energy_in_words("the checkpoint does not say"),
            "task_name": predict.task_name,
            "precision": self.precision,
            "settings": {k: v for k, v in vars(self.settings).items() if v is not None},
            "data": {s: found.fingerprint(self.splits[s]) for s, found in splits.items()},
        }

    def _relax(
        self,
        predict: BatchPredictor,
        splits: Splits,
        todo: Sequence[str],
        store: RelaxationStore,
        total: int,
    ) -> None:
        batch = self.batch
        if batch is None:
            some = (atoms for _, atoms in initial_structures(splits, todo))
            batch = find_limit(predict, some, self.device)
        say(f"Moving at once: {batch}")
        if self.trajectories:
            for split in splits:
                (self.results / TRAJECTORIES / split).mkdir(parents=True, exist_ok=True)
        with Progress(total, total - len(todo)) as progress:
            for relaxed in relax_many(
                initial_structures(splits, todo),
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

    def _trajectory(self, identity: str) -> Path:
        """Named by EvalAI's id: fairchem's ``make_submission_file`` takes ids from the names."""
        split, _, sid = identity.partition("/")
        return self.results / TRAJECTORIES / split / f"{quote(system_id(sid), safe='')}.traj"
