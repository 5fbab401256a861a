"""fairchem's runner for S2EF predictions: parts of data sets, predicted and kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fairchem.core.common import distutils
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings
from tqdm import tqdm

from eqv2_plugin.common.hashing import file_sha256
from eqv2_plugin.common.manifest import begin
from eqv2_plugin.common.text import listed, say
from eqv2_plugin.data.structures import Structures, open_structures
from eqv2_plugin.inference.energy_agreement import agreement_notes, data_kind, kinds_note
from eqv2_plugin.inference.job import InferenceRunner
from eqv2_plugin.inference.parts import Part, Predicted, cut, load_part, part_file, save_part
from eqv2_plugin.inference.predictor import BatchPredictor
from eqv2_plugin.inference.resilient import SafePredictor
from eqv2_plugin.tasks.s2ef.predicting import LABELS, predict_part
from eqv2_plugin.tasks.s2ef.reading import read_batches, read_item, some_labelled
from eqv2_plugin.tasks.s2ef.results import MANIFEST, PARTS, write_results
from eqv2_plugin.tasks.splits import describe_data, split_configs
from eqv2_plugin.tasks.submission.layout import S2EF_DTYPES, check_dataset

UNKNOWN = "energies of this model: the checkpoint does not say what they are relative to"


class S2EFPredictionRunner(InferenceRunner):
    """Predicts energies and forces of the splits of a data set, and writes EvalAI files.

    The splits are cut into parts. A part's file appears in ``results/parts`` when it is complete,
    and is not predicted again. The last process writes what `write_results` says.

    Args:
        checkpoint, task_name, inference_settings, unsafe: see `InferenceRunner`.
        dataset: "oc20" or "oc22", whose file layout is written.
        data: see `split_configs`, and, if it is known, ``energy_kind`` (name of an `EnergyKind`).
        atoms_per_batch: atoms that the model gets at once.
        structures_per_part: what a killed process loses at most.
        num_workers: processes that read, per rank.
        facts: copied into ``metrics.json``.
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
        super().__init__(checkpoint, inference_settings, task_name, unsafe)
        check_dataset(dataset)
        for name, value in {
            "atoms_per_batch": atoms_per_batch,
            "structures_per_part": structures_per_part,
        }.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self.dataset = dataset
        self.data = data
        self.atoms_per_batch = atoms_per_batch
        self.structures_per_part = structures_per_part
        self.num_workers = num_workers
        self.facts = dict(facts)

    def work(self) -> None:
        """Predict the parts of this process that are not finished.

        Raises:
            ValueError: model or data are unfit or damaged, the results folder belongs to other
                predictions, or structures have no prediction: all others are written before.
        """
        share, processes = self.share()
        configs = split_configs(self.data)
        splits = {split: open_structures(config, split) for split, config in configs.items()}
        predict = self.open_predictor()
        words = predict.energy_in_words(UNKNOWN)
        self._begin(predict, words, configs, splits)
        size = self.structures_per_part
        parts = [part for split, found in splits.items() for part in cut(split, len(found), size)]
        mine = parts[share::processes]
        todo = [part for part in mine if not self._is_finished(part)]
        say(words)
        kind, stated = predict.energy_kind, data_kind(self.data)
        labelled = {split: some_labelled(found) for split, found in splits.items()}
        notes = agreement_notes(kinds_note(kind, stated, "the data"), predict, labelled)
        for note in notes:
            say(f"NOTE: {note}")
        say(
            f"{sum(map(len, parts)):,} structures in {len(parts)} parts; of this process "
            f"{len(mine)}, {len(mine) - len(todo)} of them finished before"
        )
        shown = bool(todo) and distutils.is_master()
        safe = SafePredictor(predict)
        with tqdm(total=sum(map(len, todo)), unit="structure", disable=not shown) as bar:
            for split, found in splits.items():
                self._predict(safe, found, [p for p in todo if p.split == split], bar)
        energy = {"kind": kind.value, "data_kind": stated.value, "notes": notes}
        self._write_if_last(parts, energy)

    def _begin(
        self,
        predict: BatchPredictor,
        energy: str,
        configs: Mapping[str, Mapping[str, Any]],
        splits: Mapping[str, Structures],
    ) -> None:
        settings = dataclasses.asdict(predict.unit.inference_settings)
        model = {
            "checkpoint_sha256": file_sha256(self.checkpoint_file),
            "task_name": predict.task_name,
            "energy": energy,
            "inference_settings": {key: str(value) for key, value in sorted(settings.items())},
        }
        job = {
            "dataset": self.dataset,
            "structures_per_part": self.structures_per_part,
            "model": model,
        }
        begin(self._parts / MANIFEST, job, self._parts, "predictions")
        for split, found in splits.items():
            folder = self._parts / split
            begin(folder / MANIFEST, describe_data(configs[split], found), folder, "predictions")

    def _predict(
        self, predict: SafePredictor, structures: Structures, parts: Sequence[Part], bar: tqdm
    ) -> None:
        if not parts:
            return
        # The first structure tells for all of its split.
        labels = read_item(structures, 0).labels
        if len(labels) == 1:
            say(f"No metrics for {structures.name}: its structures have {labels[0]} only.")
        batches = read_batches(structures, parts, self.atoms_per_batch, self.num_workers)
        for part in parts:
            dtype = S2EF_DTYPES[self.dataset]
            found = predict_part(predict, part, batches, dtype, labels == LABELS, bar.update)
            if not len(found.ids) and len(part) == self.structures_per_part > 1:
                _refuse_all(part, found)
            save_part(part_file(self._parts, part), found)

    def _write_if_last(self, parts: Sequence[Part], energy: Mapping[str, Any]) -> None:
        """Two processes that end at once both write, and the same."""
        waiting = sum(not part_file(self._parts, part).exists() for part in parts)
        if waiting:
            print(
                f"{waiting} of {len(parts)} parts are left to other processes; the last of them "
                "writes the files. If one was ended, run the same command again.",
                flush=True,
            )
            return
        written = write_results(self.results, parts, self.facts, energy)
        print(written.text, flush=True)
        if written.error:
            raise ValueError(written.error)

    def _is_finished(self, part: Part) -> bool:
        file = part_file(self._parts, part)
        return file.exists() and load_part(file, len(part)) is not None

    @property
    def _parts(self) -> Any:
        return self.results / PARTS


def _refuse_all(part: Part, found: Predicted) -> None:
    """Where a whole part fails, the model is at fault: going on would waste days."""
    names = [name for name, _ in found.failed]
    raise ValueError(
        f"no structure of part {part.number} of {part.split} can be predicted: "
        f"{found.failed[0][1]} (structures {listed(names)}). Fix the model, or leave these "
        "structures out"
    )
