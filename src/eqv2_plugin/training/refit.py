"""References per element by which a checkpoint's predictions become the labels of new data.

Fine-tuning goes on from heads whose outputs mean energies relative to the checkpoint's references.
References that are fitted to the labels alone would give these outputs another meaning. They keep
it if the new references are the old ones plus a fit to labels minus predictions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings

from eqv2_plugin.common.files import save_json
from eqv2_plugin.common.hashing import file_sha256
from eqv2_plugin.common.text import say
from eqv2_plugin.data.references.linear_fit import compositions_of
from eqv2_plugin.data.references.ridge import fit_ridge
from eqv2_plugin.inference.energy_agreement import compare
from eqv2_plugin.inference.predictor import BatchPredictor, open_predictor

FRAMES = 200
# Of the run's folder: another machine's rounding must not make another run of it.
FILE = "refit_references.json"


def refitted_references(
    checkpoint: str,
    unsafe: bool,
    frames: Iterable[Atoms],
    fitted: Mapping[str, float],
    folder: str | None = None,
) -> dict[str, float]:
    """{symbol: eV per atom} of the elements of ``fitted``.

    An element that no predicted frame has gets its old reference plus the mean difference per atom;
    one that the checkpoint cannot predict keeps ``fitted``.

    Args:
        checkpoint: that training starts from.
        unsafe: unpickle whatever is in it.
        frames: some training frames (`FRAMES` say enough) with energies, eV.
        fitted: references that were fitted to the labels.
        folder: of the run, which keeps what was found; None keeps nothing.
    """
    path = Path(checkpoint).expanduser()
    made_with = {
        "checkpoint": file_sha256(path),
        "fitted to labels": {symbol: round(value, 3) for symbol, value in fitted.items()},
    }
    kept = None if folder is None else Path(folder) / FILE
    if kept is not None and kept.is_file():
        before = json.loads(kept.read_text(encoding="utf-8"))
        if before["made_with"] == made_with:
            return dict(before["references"])
    settings = InferenceSettings(activation_checkpointing=False)
    # On a CPU, which gives the same numbers whatever the run is done on.
    predict = open_predictor(str(path), "cpu", settings, None, unsafe)
    found = compare(predict, ((atoms, _energy(atoms)) for atoms in frames))
    references = dict(fitted)
    if len(found) > 1:
        apart = np.array([one.labelled - one.predicted for one in found])
        compositions = compositions_of([one.numbers for one in found])
        _, groups = np.unique(compositions, axis=0, return_inverse=True)
        fit = fit_ridge(compositions, apart, groups.ravel())
        mean = float(apart.sum() / compositions.sum())
        old = _references_of(predict, len(fit.coefficients))
        shift = old + np.where(np.isnan(fit.coefficients), mean, fit.coefficients)
        for symbol in fitted:
            if np.isfinite(value := shift[atomic_numbers[symbol]]):
                references[symbol] = float(value)
        say(
            f"references=refit: the checkpoint's, and what labels of {len(found)} frames differ "
            f"from its predictions per element; {np.sqrt(np.mean(fit.held_out**2)):.3g} eV (rms) "
            "are left."
        )
    if kept is not None:
        save_json(kept, {"references": references, "made_with": made_with})
    return references


def _energy(atoms: Atoms) -> float | None:
    return None if atoms.calc is None else atoms.calc.results.get("energy")


def _references_of(predict: BatchPredictor, count: int) -> np.ndarray:
    """[count] eV per atom that the checkpoint adds; zeros without references."""
    tasks: Any = predict.unit.dataset_to_tasks[predict.task_name]
    energy = next(task for task in tasks if task.property == "energy")
    found = np.zeros(count)
    if energy.element_references is not None:
        values = energy.element_references.element_references.double().cpu().numpy()[:count]
        found[:] = np.nan
        found[: len(values)] = values
    return found
