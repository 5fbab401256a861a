"""Before a checkpoint is fine-tuned: are the labels what it predicts, in the same units?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from fairchem.core.datasets.mt_concat_dataset import ConcatDataset
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings

from eqv2_plugin.common.text import say
from eqv2_plugin.data.datasets import labelled_frames
from eqv2_plugin.data.fixed_atoms import fixed_mask
from eqv2_plugin.data.inspection.frames import frame_of
from eqv2_plugin.data.inspection.units import UnitCheck
from eqv2_plugin.inference.energy_agreement import Compared, magnitudes_note
from eqv2_plugin.inference.predictor import Predict, open_predictor
from eqv2_plugin.inference.unit_agreement import FAR, Pairs, energy_unit_note, force_unit_note
from eqv2_plugin.training.start import FROM_CHECKPOINT, read_start, start_normalizer

CHECK, IGNORE = "check", "ignore_mismatch"
FRAMES = 48
# Frames of each split among which neighbours of a trajectory are looked for.
_IN_ORDER = 500
_WAYS = (
    "Fix the labels. If they are right as they are, in eV and eV/Å, give references=refit, which "
    f"fits references per element to them, or energy={IGNORE} to train on them in any case"
)


class LabelGuard:
    """Compares the starting checkpoint's predictions with some training labels.

    Args:
        checkpoint: that training starts from; None compares nothing.
        references: of the run; where they are not the checkpoint's, energies may be relative to
            something else.
        energy: ``check``, or ``ignore_mismatch`` to go on in any case.
        unsafe: unpickle whatever is in the checkpoint.

    Raises:
        ValueError: another value of ``energy``.
    """

    def __init__(
        self, checkpoint: str | None, references: str, energy: str = CHECK, unsafe: bool = False
    ) -> None:
        if energy not in (CHECK, IGNORE):
            raise ValueError(f"energy must be {CHECK} or {IGNORE}, got {energy!r}")
        self.checkpoint = checkpoint
        self._relative_to_the_same = references == FROM_CHECKPOINT
        self._energy = energy
        self._unsafe = unsafe

    def check(self, datasets: ConcatDataset) -> None:
        """Predict up to 48 training frames, evenly spaced.

        Raises:
            ValueError: units, signs or what energies are relative to differ, or energies and forces
            belong to different units.
        """
        if self.checkpoint is None:
            return
        if read_start(self.checkpoint, self._unsafe).task("forces") is None:
            say(
                f"{Path(self.checkpoint).name} predicts no forces: labels are not compared with it."
            )
            return
        device: Any = "cuda" if torch.cuda.is_available() else "cpu"
        settings = InferenceSettings(activation_checkpointing=False)
        predict = open_predictor(self.checkpoint, device, settings, None, self._unsafe)
        scale = start_normalizer("checkpoint", self.checkpoint, "energy", "rmsd", self._unsafe)
        pairs = predicted_pairs(predict, labelled_frames(datasets, FRAMES))
        notes = mismatches(pairs, scale, self._relative_to_the_same)
        if not notes:
            notes = [note for split in datasets.datasets if (note := work_note(_in_order(split)))]
        if not notes:
            return
        text = f"{Path(self.checkpoint).name} and the labels do not belong together: "
        text += "; ".join(notes).removesuffix(".") + "."
        if self._energy == CHECK:
            raise ValueError(f"{text} {_WAYS}")
        say(f"energy={IGNORE}: {text}")


def work_note(frames: Iterable[Atoms]) -> str:
    """A sentence where energies change otherwise along trajectories than forces say; else "".

    Labels alone tell this, where a checkpoint has learned too little of the energies.
    """
    check = UnitCheck()
    for index, atoms in enumerate(frames):
        check.add(frame_of(atoms, index))
    ratio = check.work_ratio
    if ratio is None or 1 / FAR < ratio < FAR:
        return ""
    return f"the labelled {check.findings()[0].text.removesuffix('?')}"


def _in_order(split: Any) -> Iterator[Atoms]:
    """The first frames of a split, as stored."""
    for index in split.indices[:_IN_ORDER]:
        yield split.dataset.get_atoms(int(index))


def predicted_pairs(predict: Predict, frames: Iterable[Atoms]) -> Pairs:
    """Predictions beside the labels of frames that have an energy.

    One that the model refuses, or that does not fit into memory, is left out: training itself will
    name it.
    """
    numbers, energies, forces = [], [], []
    for atoms in frames:
        bare = atoms.copy()
        bare.calc = None
        try:
            predicted = predict([bare])[0]
        except (ValueError, MemoryError, torch.OutOfMemoryError):
            continue
        results, free = atoms.calc.results, ~fixed_mask(atoms)
        labelled = np.asarray(results.get("forces", np.empty((0, 3))))
        both = (predicted.forces[free], labelled[free]) if len(labelled) else (labelled, labelled)
        numbers.append(atoms.numbers.copy())
        energies.append((predicted.energy, results["energy"]))
        forces.append(np.stack(both, axis=1))
    return Pairs(numbers, np.array(energies).reshape(-1, 2), forces)


def mismatches(pairs: Pairs, scale: float, relative_to_the_same: bool) -> list[str]:
    """Why labels are not what a checkpoint predicts, in the same units, as sentences.

    Args:
        scale: eV, spread of the energies that the checkpoint has learned from.
        relative_to_the_same: whether a run trains on energies relative to what the checkpoint's
            are.
    """
    if not pairs.numbers:
        return []
    energy = energy_unit_note(pairs)
    if not energy and relative_to_the_same:
        both = zip(pairs.numbers, pairs.energies, strict=True)
        found = [Compared(numbers, *energies) for numbers, energies in both]
        energy = magnitudes_note(found, "the training data", scale)
    return [note for note in (energy, force_unit_note(pairs)) if note]
