"""fairchem's runner for S2EF predictions: parts of data sets, predicted and kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fairchem.core.common import distutils
from fairchem.core.components.runner import Runner
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings
from tqdm import tqdm

from eqv2_plugin.common.orphans import end_with_parent
from eqv2_plugin.data.sample import EMBEDDED
from eqv2_plugin.data.structures import Structures, open_structures
from eqv2_plugin.inference.description import begin, describe_data, describe_model
from eqv2_plugin.inference.model import open_model
from eqv2_plugin.inference.parts import PARTS, Part, PartFolder, Predicted, cut
from eqv2_plugin.inference.predictor import BatchPredictor, choose_task
from eqv2_plugin.inference.processes import job_share, say
from eqv2_plugin.tasks.s2ef.energies import energy_report
from eqv2_plugin.tasks.s2ef.joining import join
from eqv2_plugin.tasks.s2ef.metrics import Sums, added, batch_metrics
from eqv2_plugin.tasks.s2ef.predicting import predict_items
from eqv2_plugin.tasks.s2ef.reading import Item, read_batches, read_item
from eqv2_plugin.tasks.submission.layout import S2EF_DTYPES

LABELS = ("energy", "forces")


class S2EFPredictionRunner(Runner):
    """Predicts energies and forces of the splits of a data set, and writes EvalAI files.

    The splits are cut into parts, which ranks and array jobs share without talking to each
    other. A part's file appears in ``results/parts`` when it is complete, and is not predicted
    again: the same command goes on after a kill, with any number of ranks. The last process
    joins them (`join`).

    Args:
        checkpoint: see `open_model`.
        dataset: "oc20" or "oc22", whose file layout is written.
        data: ``root`` (folder that ``src`` is relative to, or "embedded:SAMPLE"), ``reader``
            (fairchem's options for all splits, with ``format``), ``splits`` ({split: {"src":
            path, ...}}), ``how_to_get`` (sentence for the error where the root is missing) and,
            if it is known, ``energy_kind`` (name of an `EnergyKind`).
        task_name: data set that the model predicts for, as for ``FAIRChemCalculator``; may be
            None if the model knows only one.
        inference_settings: of fairchem.
        atoms_per_batch: atoms that the model gets at once.
        structures_per_part: what a killed process loses at most.
        num_workers: processes that read, per rank.
        facts: copied into ``metrics.json``.
        unsafe: see `open_model`.
    """

    def __init__(
        self,
        checkpoint: str | None,
        dataset: str,
        data: Mapping[str, Any],
        task_name: str | None,
        inference_settings: InferenceSettings,
        atoms_per_batch: int,
        structures_per_part: int,
        num_workers: int,
        facts: Mapping[str, str | None],
        unsafe: bool = False,
    ) -> None:
        end_with_parent()
        if dataset not in S2EF_DTYPES:
            raise ValueError(f"dataset must be one of {', '.join(S2EF_DTYPES)}, not {dataset!r}")
        for name, value in {
            "atoms_per_batch": atoms_per_batch,
            "structures_per_part": structures_per_part,
        }.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self.checkpoint = checkpoint
        self.dtype = S2EF_DTYPES[dataset]
        self.dataset = dataset
        self.data = data
        self.splits: dict[str, dict[str, Any]] = {}
        self.task_name = task_name
        self.inference_settings = inference_settings
        self.atoms_per_batch = atoms_per_batch
        self.structures_per_part = structures_per_part
        self.num_workers = num_workers
        self.facts = dict(facts)
        self.unsafe = unsafe

    def run(self) -> None:
        """Predict the parts of this process that are not finished.

        Raises:
            FileNotFoundError, ValueError: model or data are missing, unfit or damaged, the
                results folder belongs to other predictions, or there are structures without
                prediction: all others are written before.
            OSError: results cannot be written.
        """
        # Not where Hydra would wrap the error.
        self.splits = split_configs(self.data)
        share, processes = job_share(self.job_config)
        structures = {
            split: open_structures(config, split) for split, config in self.splits.items()
        }
        device = "cuda" if "cuda" in distutils.get_device_for_local_rank() else "cpu"
        unit = open_model(self.checkpoint, device, self.inference_settings, self.unsafe)
        task = choose_task(unit, self.task_name, "task_name=NAME")
        predict = BatchPredictor(unit, task)
        model = describe_model(Path(self.checkpoint or "").expanduser(), unit, task)
        size = self.structures_per_part
        begin(self._parts, {"dataset": self.dataset, "structures_per_part": size, "model": model})
        parts: list[Part] = []
        for split, found in structures.items():
            begin(self._parts / split, describe_data(self.splits[split], found))
            parts += cut(split, len(found), size)
        mine = parts[share::processes]
        todo = [part for part in mine if not self._folder(part.split).has(part)]
        say(model["energy"])
        energy = energy_report(unit.model.module, self.data, structures, predict)
        for note in energy["notes"]:
            say(f"NOTE: {note}")
        say(
            f"{sum(map(len, parts)):,} structures in {len(parts)} parts; of this process "
            f"{len(mine)}, {len(mine) - len(todo)} of them finished before"
        )
        shown = bool(todo) and distutils.is_master()
        with tqdm(total=sum(map(len, todo)), unit="structure", disable=not shown) as bar:
            for split, found in structures.items():
                self._predict(predict, found, [p for p in todo if p.split == split], bar)
        self._join(parts, energy)

    def _join(self, parts: Sequence[Part], energy: Mapping[str, Any]) -> None:
        """Join the parts, if this process was the last of all ranks and array jobs.

        fairchem's reducers do not serve: its local launcher cannot start one on several ranks.
        Two processes that end at once both join, and write the same.
        """
        waiting = sum(not self._folder(part.split).exists(part) for part in parts)
        if waiting:
            print(
                f"{waiting} of {len(parts)} parts are left to other processes; the last of them "
                "writes the files. If one was ended, run the same command again.",
                flush=True,
            )
            return
        results = Path(self.job_config.metadata.results_dir)
        written = join(results, list(self.splits), self.facts, energy)
        print(written.text, flush=True)
        if written.error:
            raise ValueError(written.error)

    @property
    def _parts(self) -> Path:
        return Path(self.job_config.metadata.results_dir) / PARTS

    def _folder(self, split: str) -> PartFolder:
        return PartFolder(self._parts / split)

    def _predict(
        self, predict: BatchPredictor, structures: Structures, parts: Sequence[Part], bar: tqdm
    ) -> None:
        if not parts:
            return
        labelled = self._labelled(structures)
        batches = read_batches(structures, parts, self.atoms_per_batch, self.num_workers)
        for part in parts:
            predicted = self._predict_part(predict, part, batches, labelled, bar)
            self._folder(part.split).save(part, predicted)

    def _labelled(self, structures: Structures) -> bool:
        """Whether there are metrics: the first structure tells for all of its split."""
        labels = read_item(structures, 0).labels
        if labels and len(labels) < len(LABELS):
            say(f"No metrics for {structures.name}: its structures have {labels[0]} only.")
        return labels == LABELS

    def _predict_part(
        self,
        predict: BatchPredictor,
        part: Part,
        batches: Iterator[list[Item]],
        labelled: bool,
        bar: tqdm,
    ) -> Predicted:
        """Take batches until the part is complete; put it into the order of its data."""
        items: list[Item] = []
        energies: list[np.ndarray] = []
        forces: list[np.ndarray] = []
        sums: list[Sums] = []
        failed: dict[int, tuple[str, str]] = {}
        while len(items) + len(failed) < len(part):
            batch = next(batches)
            found = predict_items(predict, batch, self.dtype)
            if labelled:
                _refuse_unlabelled(part.split, found.items)
                sums.append(batch_metrics(found.items, found.energy, found.forces))
            items += found.items
            energies.append(found.energy)
            forces += found.forces
            failed |= found.failed
            bar.update(len(batch))
            for name, reason in found.failed.values():
                tqdm.write(f"{name} failed: {reason}")
        reasons = [failed[index] for index in sorted(failed)]
        if not items and len(part) == self.structures_per_part > 1:
            _refuse_all(part, reasons)
        order = np.argsort([item.index for item in items])
        return Predicted(
            ids=np.array([items[i].id for i in order]),
            energy=np.concatenate(energies)[order],
            forces=np.concatenate([forces[i] for i in order]) if items else np.zeros((0, 3)),
            free=np.array([len(forces[i]) for i in order], np.int64),
            metrics=added(sums),
            failed=reasons,
        )

    def save_state(self, checkpoint_location: str, is_preemption: bool = False) -> bool:
        """Nothing is left to save: finished parts are files already."""
        return True

    def load_state(self, checkpoint_location: str | None) -> None:
        """Nothing to load: `run` looks for finished parts."""


def split_configs(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{split: config for `open_structures`} of what a config gives as ``data``.

    Raises:
        FileNotFoundError: no root given.
        ValueError: no splits given.
    """
    if data["root"] is None:
        raise FileNotFoundError(f"no data: set data_root=FOLDER. {data['how_to_get']}")
    if not data["splits"]:
        raise ValueError("no splits to predict: give at least one")
    root = str(data["root"])
    place = root + "/" if root.startswith(EMBEDDED) else f"{Path(root).expanduser()}/"
    return {
        str(split): {**data["reader"], **options, "src": place + str(options["src"])}
        for split, options in data["splits"].items()
    }


def _refuse_all(part: Part, failed: Sequence[tuple[str, str]]) -> None:
    """Where a whole part fails, the model is at fault: going on would waste days."""
    listed = ", ".join(name for name, _ in failed[:5])
    raise ValueError(
        f"no structure of part {part.number} of {part.split} can be predicted: {failed[0][1]} "
        f"(structures {listed}, ...). Mend the model, or leave these structures out"
    )


def _refuse_unlabelled(split: str, batch: Sequence[Item]) -> None:
    for item in batch:
        if item.labels != LABELS:
            missing = " and no ".join(name for name in LABELS if name not in item.labels)
            raise ValueError(
                f"{split}: {item.id} has no {missing}, but the first structure of the split has "
                "labels. Metrics need the labels of all: complete the data, or remove them"
            )
