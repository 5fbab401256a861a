"""Checks before the first step, each with an error that names cause and fix."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.datasets.mt_concat_dataset import ConcatDataset
from fairchem.core.units.mlip_unit.mlip_unit import Task, mt_collater_adapter
from torch import nn

from eqv2_plugin.common.findings import Finding, Verdict
from eqv2_plugin.common.options import did_you_mean
from eqv2_plugin.data.ase_dataset import EXACT_ENERGY
from eqv2_plugin.data.datasets import FRAMES_READ, check_data_set_name, evenly_spaced
from eqv2_plugin.data.inspection.frames import frame_of_data
from eqv2_plugin.data.inspection.stress import StressCheck
from eqv2_plugin.data.labels import SCALAR
from eqv2_plugin.heads.conservative import ConservativeHead
from eqv2_plugin.models.known_elements import elements_with_references, without_reference
from eqv2_plugin.training.data_sets import data_set_of, data_sets_of, tasks_of


def check_tasks_match_heads(model: nn.Module, tasks: Sequence[Task]) -> None:
    """Every task needs the output of its name, and every head a task.

    A head that no loss reaches breaks data-parallel training; gradients of the energy have no
    weights of their own. A head of one data set gives zeros for all others.
    """
    heads, names = model.output_names, {task.name for task in tasks}
    if names - heads:
        raise ValueError(
            f"task(s) {sorted(names - heads)} have no head of the same name; heads: {sorted(heads)}"
        )
    if heads := heads - names - model.gradient_names:
        raise ValueError(
            f"head(s) {sorted(heads)} have no task of the same name, so nothing trains "
            "them: add a task or remove the head"
        )
    for head in model.output_heads.values():
        if not isinstance(head, ConservativeHead) or head.dataset is None:
            continue
        for task in tasks:
            if task.name in head.output_names and list(task.datasets) != [head.dataset]:
                raise ValueError(
                    f"the head of task {task.name!r} serves the data set {head.dataset} alone, but "
                    f"the task is of {', '.join(task.datasets)}: give it datasets: [{head.dataset}]"
                )


def check_data_sets(tasks: Sequence[Task], names: Sequence[str]) -> None:
    """Several data sets must be told apart by their names, and have an energy each.

    Args:
        names: of the splits of all loaders, "dft.train".
    """
    sets = data_sets_of(tasks)
    for name in sorted({data_set_of(split) for split in names} - set(sets)):
        raise ValueError(
            f"no task is of the data set {name!r}{did_you_mean(name, sets)}: name it in the "
            "`datasets` of its tasks, or leave its splits out"
        )
    if len(sets) < 2:
        return
    for name in sets:
        check_data_set_name(name)
        own = tasks_of(tasks, name)
        if SCALAR in own or "energy" not in own:
            raise ValueError(
                f"the data set {name!r} has tasks for {', '.join(sorted(own))}: data sets that are "
                "trained together have a task for the energy each, and none for other properties"
            )


def check_gradient_scales(model: nn.Module, tasks: Sequence[Task]) -> None:
    """Forces and stress that are gradients share the energy's scale, and have no mean."""
    if model.backbone.config.direct_forces:
        return
    for name in data_sets_of(tasks):
        own = tasks_of(tasks, name)
        if "energy" not in own:
            continue
        scale = float(own["energy"].normalizer.rmsd)
        for label in {"forces", "stress"} & set(own):
            task = own[label]
            mean, rmsd = float(task.normalizer.mean), float(task.normalizer.rmsd)
            if mean != 0.0 or abs(rmsd - scale) > 1e-6 * scale:
                what = label if task.name == label else f"{label} ({task.name})"
                raise ValueError(
                    f"the {what} of a conservative model are a gradient of the energy: their "
                    f"normaliser must have mean 0 and the energy's rmsd ({scale:g}), but has mean "
                    f"{mean:g} and rmsd {rmsd:g}"
                )


def check_frames(
    datasets: ConcatDataset, tasks: Sequence[Task], max_num_elements: int, every: bool = False
) -> None:
    """What can be known of the data before the first step; a ValueError names the first bad frame.

    Of each split up to 1000 frames, evenly spaced, are read: the first must hold the label of
    every task of its data set, none may have labels that contradict each other or elements that
    the model does not know, and stress that is trained must be possible (`StressCheck`).

    Args:
        max_num_elements: of the model's embedding.
        every: read all frames, each of which must hold finite labels (fine-tuning: small sets).
    """
    check_data_sets(tasks, datasets.dataset_names)
    for name, dataset in zip(datasets.dataset_names, datasets.datasets, strict=True):
        # A task of no data set has labels that the training unit makes (DeNS).
        own = [task for task in tasks if data_set_of(name) in task.datasets]
        labels = [task.name for task in own]
        references = _known_elements(own, max_num_elements)
        stress = StressCheck()
        frames = evenly_spaced(dataset, len(dataset) if every else FRAMES_READ)
        for index, frame in frames:  # the reader refuses contradictions
            if index == 0 and (lacking := [label for label in labels if label not in frame]):
                raise ValueError(
                    f"the data set {name} has no label {lacking[0]!r}: training needs the labels "
                    f"{', '.join(labels)}. For ase_db data write them with a "
                    "SinglePointCalculator, and check key_mapping"
                )
            where = f"{name}, frame {index} ({_sid(frame)})"
            _refuse_elements(frame.atomic_numbers.numpy(), references, max_num_elements, where)
            _refuse_stress_without_volume(frame, labels, where)
            if every:
                _refuse_missing_labels(frame, labels, where)
            if any("stress" in label for label in labels):
                names = {task.property: task.name for task in own}
                stress.add(frame_of_data(frame, int(dataset.indices[index]), names))
        if stress.frames:
            _judge(name, stress.findings())


class CheckedCollater:
    """fairchem's collater, which refuses frames with an element that has no reference.

    It works where frames are read, so that no step is taken with such a frame and the device waits
    for nothing. The ValueError names the frame, the elements and the task.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._collate = mt_collater_adapter(list(tasks))
        most = len(chemical_symbols)
        self._references = {
            name: _known_elements(tasks_of(tasks, name).values(), most)
            for name in data_sets_of(tasks)
        }
        self._of_any = _known_elements(tasks, most)
        trained = [task for task in tasks if not task.inference_only]
        self._labels = {task.name for task in trained}
        self._energies = [task.name for task in trained if task.property == "energy"]

    def __call__(self, frames: list[AtomicData]) -> Any:
        """One batch of frames; its energies are in float64 where frames have such."""
        most = len(chemical_symbols)
        for frame in frames:
            numbers, where = frame.atomic_numbers.numpy(), f"frame {_sid(frame)}"
            name = _first(getattr(frame, "dataset", None))
            references = self._references.get(name, self._of_any)
            _refuse_elements(numbers, references, most, where)
        batch = self._collate(self._alike(frames))
        if EXACT_ENERGY in batch:
            for name in self._energies:
                exact = torch.isfinite(batch[name])
                batch[name] = torch.where(exact, batch[EXACT_ENERGY], batch[name].double())
        return batch

    def _alike(self, frames: list[AtomicData]) -> list[AtomicData]:
        """Frames with the same entries, but for labels, which fairchem's collater fills in.

        Data sets may store more than is trained, and one of them its energies in float64.
        """
        stored = [set(frame.keys()) - self._labels for frame in frames]
        if all(one == stored[0] for one in stored):
            return frames
        exact = any(EXACT_ENERGY in one for one in stored)
        common = set.intersection(*stored)
        return [self._with(frame, common, exact) for frame in frames]

    def _with(self, frame: AtomicData, common: set[str], exact: bool) -> AtomicData:
        name = frame.dataset
        frame = frame.clone()
        frame.dataset = name  # the copy's is a list, which fairchem's collater cannot look up
        if exact and EXACT_ENERGY not in frame:
            energy = next(energy for energy in self._energies if energy in frame)
            frame[EXACT_ENERGY] = frame[energy].double()
        for key in set(frame.keys()) - common - self._labels - {EXACT_ENERGY}:
            del frame[key]
        return frame


def _known_elements(tasks: Iterable[Task], max_num_elements: int) -> dict[str, np.ndarray]:
    """[max_num_elements] whether there is a reference, of tasks that have any."""
    return {
        task.name: elements_with_references([task], max_num_elements)
        for task in tasks
        if task.element_references is not None
    }


def _refuse_elements(
    numbers: np.ndarray, references: Mapping[str, np.ndarray], max_num_elements: int, where: str
) -> None:
    if beyond := sorted({int(z) for z in numbers if z >= max_num_elements}):
        raise ValueError(
            f"{where} holds {', '.join(chemical_symbols[z] for z in beyond)}, but the model knows "
            f"elements up to {chemical_symbols[max_num_elements - 1]} "
            f"(max_num_elements={max_num_elements}) only: leave these frames out, or take a model "
            "that knows more"
        )
    for task, known in references.items():
        if lacking := without_reference(numbers, known):
            raise ValueError(
                f"the element references of task {task!r} have no value for {lacking}, which "
                f"{where} holds: fit them on data with these elements (eqv2 data fit-references) "
                "and give references=FILE.npz, or references=refit where training starts from a "
                "checkpoint"
            )


def _refuse_stress_without_volume(frame: AtomicData, labels: Sequence[str], where: str) -> None:
    learned = [label for label in labels if "stress" in label]
    if learned and not bool(frame.pbc.all()):
        raise ValueError(
            f"{where} is periodic along {frame.pbc[0].tolist()}: without three periodic directions "
            f"it has no volume, hence no {learned[0]!r} to learn; remove it, or train without it"
        )


def _refuse_missing_labels(frame: AtomicData, labels: Sequence[str], where: str) -> None:
    for label in labels:
        if label not in frame:
            raise ValueError(f"{where} has no label {label!r}: remove or fix it")
        if not bool(torch.isfinite(frame[label]).all()):
            raise ValueError(f"{where} has a label {label!r} that is not finite: remove or fix it")


def _judge(name: str, findings: Sequence[Finding]) -> None:
    for finding in findings:
        text = f"the data set {name}: {finding.check}: {finding.text}"
        if finding.verdict is Verdict.BAD:
            raise ValueError(f"{text}. Fix the labels; `eqv2 data check` looks at every frame")
        if finding.verdict is Verdict.LOOK:
            logging.warning("%s", text)


def _sid(frame: AtomicData) -> str:
    return str(_first(frame.sid))


def _first(text: Any) -> Any:
    return text[0] if isinstance(text, list) else text
