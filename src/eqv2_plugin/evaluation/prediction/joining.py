"""From finished parts to what a user wants: EvalAI files and a table of metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqv2_plugin.evaluation.prediction.description import read_description
from eqv2_plugin.evaluation.prediction.metrics import added, readable, table
from eqv2_plugin.evaluation.prediction.parts import PARTS, Part, PartFolder, Predicted, cut
from eqv2_plugin.evaluation.submission.joined import checked, join_splits, missing_splits
from eqv2_plugin.evaluation.submission.layout import S2EF_DTYPES, write_s2ef
from eqv2_plugin.files import save_text

SUBMISSION = "submission.npz"
METRICS = "metrics.json"
TASK = "s2ef"


def join(results: Path, splits: Sequence[str], facts: Mapping[str, Any]) -> str:
    """Write ``<split>.npz`` of each split, ``metrics.json``, and of all splits ``submission.npz``.

    Args:
        results: folder of the job's results, with all parts.
        splits: names.
        facts: copied into ``metrics.json``.

    Returns:
        What there is now, as lines for the user.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: a part is damaged, or an id occurs twice.
        OSError: a file cannot be written.
    """
    run = read_description(results / PARTS)
    dataset = run["dataset"]
    metrics: dict[str, dict[str, float]] = {}
    for split in splits:
        folder = PartFolder(results / PARTS / split)
        found = [folder.load(part) for part in all_parts(folder.path, run["structures_per_part"])]
        write_split(results / f"{split}.npz", found, dataset)
        count = {"structures": sum(len(one.ids) for one in found)}
        metrics[split] = count | readable(added(one.metrics for one in found))
    files = {split: results / f"{split}.npz" for split in splits}
    written = [checked(path, dataset, TASK) for path in files.values()]
    missing = missing_splits(dataset, splits)
    if not missing:
        written.append(join_splits(results / SUBMISSION, files, dataset, TASK))
    faults = [line for file in written for line in file.lines()]
    facts = {**facts, "dataset": dataset, "energy": run["model"]["energy"]}
    verdicts = {file.path.name: file.verdict for file in written}
    report = {"facts": facts, "splits": metrics, "files": verdicts}
    save_text(results / METRICS, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return _summary(results, metrics, missing, faults)


def _summary(
    results: Path, metrics: dict[str, dict[str, float]], missing: list[str], faults: list[str]
) -> str:
    lines = ["", *faults]
    labelled = {split: found for split, found in metrics.items() if "energy_mae_meV" in found}
    if labelled:
        lines += [table(labelled), ""]
    for split, found in metrics.items():
        lines.append(f"{results / split}.npz: {found['structures']:,} structures")
    if missing:
        lines.append(f"No submission file: it needs the split(s) {', '.join(missing)}, too.")
    else:
        lines.append(f"{results / SUBMISSION}: submission of all splits")
    return "\n".join(lines)


def all_parts(folder: Path, size: int) -> list[Part]:
    """The parts of the split whose parts lie in ``folder``, ``size`` structures each."""
    return cut(folder.name, read_description(folder)["structures"], size)


def write_split(path: Path, found: list[Predicted], dataset: str) -> None:
    """Write the EvalAI file of one split.

    Raises:
        ValueError: an id occurs twice.
        OSError: it cannot be written.
    """
    ids = [str(one) for predicted in found for one in predicted.ids]
    forces = [one for p in found for one in np.split(p.forces, np.cumsum(p.free)[:-1])]
    energies = np.concatenate([predicted.energy for predicted in found])
    try:
        write_s2ef(path, ids, energies, forces, None, S2EF_DTYPES[dataset])
    except ValueError as error:
        raise ValueError(
            f"the data of {path.stem}: {error}; mend them and predict again"
        ) from error
