"""From finished parts to what a user wants: EvalAI files and a table of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqv2_plugin.common.files import save_json
from eqv2_plugin.common.manifest import read_manifest
from eqv2_plugin.common.text import listed, table
from eqv2_plugin.inference.parts import Part, Predicted, load_part, part_file
from eqv2_plugin.tasks.s2ef.metrics import added, readable
from eqv2_plugin.tasks.submission.joined import (
    CheckedFile,
    Written,
    checked,
    join_splits,
    missing_splits,
)
from eqv2_plugin.tasks.submission.layout import S2EF_DTYPES, SPLITS, write_s2ef

PARTS, MANIFEST = "parts", "description.json"
SUBMISSION, METRICS = "submission.npz", "metrics.json"
TASK = "s2ef"
# Of the table on the screen: its heads, and what stands below them.
_COLUMNS = {
    "energy MAE meV": "energy_mae_meV",
    "force MAE meV/Å": "forces_mae_meV_per_A",
    "force cosine": "forces_cosine",
    "EFwT %": "EFwT_percent",
}


def write_results(
    results: Path, parts: Sequence[Part], facts: Mapping[str, Any], energy: Mapping[str, Any]
) -> Written:
    """Write ``<split>.npz`` of each split, ``metrics.json``, and of all splits ``submission.npz``.

    Structures without prediction are left out of the files of their splits, and there is no
    submission while one of its splits lacks some.

    Args:
        facts: copied into ``metrics.json``.
        energy: likewise; what is known of energies, with ``notes``.

    Raises:
        ValueError: a part is damaged, or an id occurs twice.
    """
    run = read_manifest(results / PARTS / MANIFEST)
    dataset = run["dataset"]
    metrics: dict[str, dict[str, Any]] = {}
    failed: dict[str, list[tuple[str, str]]] = {}
    written: dict[str, CheckedFile] = {}
    for split in dict.fromkeys(part.split for part in parts):
        found = [
            load_part(part_file(results / PARTS, part), len(part))
            for part in parts
            if part.split == split
        ]
        file = results / f"{split}.npz"
        if write_split(file, found, dataset):
            written[split] = checked(file, dataset, TASK)
        failed[split] = [one for predicted in found for one in predicted.failed]
        count = {"structures": sum(len(one.ids) for one in found)}
        metrics[split] = count | readable(added(one.metrics for one in found))
        if failed[split]:
            metrics[split] |= {"failed": len(failed[split]), "failures": dict(failed[split])}
    submission, refused = _submission(results, dataset, failed)
    files = [*written.values(), *submission]
    report = {
        "facts": {**facts, "dataset": dataset, "energy": run["model"]["energy"]},
        "energy": dict(energy),
        "splits": metrics,
        "files": {file.path.name: file.verdict for file in files},
    }
    save_json(results / METRICS, report)
    lines = ["", *(line for file in files for line in file.lines())]
    lines += [f"NOTE: {note}" for note in energy["notes"]]
    rows = [
        [split, *(f"{one[key]:.4g}" for key in _COLUMNS.values())]
        for split, one in metrics.items()
        if "energy_mae_meV" in one
    ]
    lines += [table(["split", *_COLUMNS], rows), ""] if rows else []
    for split, one in written.items():
        lines.append(f"{one.path}: {metrics[split]['structures']:,} structures")
    lines.append(refused or f"{results / SUBMISSION}: submission of all splits")
    return Written("\n".join(lines), _error(results, [f for one in failed.values() for f in one]))


def _submission(
    results: Path, dataset: str, failed: Mapping[str, Sequence[tuple[str, str]]]
) -> tuple[list[CheckedFile], str]:
    """Join the splits; returns what was written, or why nothing was."""
    lacking = [name for split in SPLITS[dataset] for name, _ in failed.get(split, ())]
    refused = missing_splits(dataset, failed)
    if lacking and not refused:
        refused = (
            f"No submission file: {len(lacking):,} structure(s) would be missing in it: "
            f"{listed(lacking)}"
        )
    if refused:
        (results / SUBMISSION).unlink(missing_ok=True)
        return [], refused
    files = {split: results / f"{split}.npz" for split in failed}
    return [join_splits(results / SUBMISSION, files, dataset, TASK)], ""


def _error(results: Path, failed: Sequence[tuple[str, str]]) -> str:
    if not failed:
        return ""
    name, reason = failed[0]
    others = f" (and {len(failed) - 1:,} more)" if len(failed) > 1 else ""
    return (
        f"{name}: {reason}. This structure{others} has no prediction, and is missing in the files; "
        f"all reasons are in {results / METRICS}"
    )


def write_split(path: Path, found: Sequence[Predicted], dataset: str) -> bool:
    """Write the EvalAI file of one split; returns whether there is anything to write."""
    # Of nothing, numpy.split makes one part.
    good = [predicted for predicted in found if len(predicted.ids)]
    if not good:
        path.unlink(missing_ok=True)
        return False
    ids = [str(one) for predicted in good for one in predicted.ids]
    forces = [one for p in good for one in np.split(p.forces, np.cumsum(p.free)[:-1])]
    energies = np.concatenate([predicted.energy for predicted in good])
    try:
        write_s2ef(path, ids, energies, forces, None, S2EF_DTYPES[dataset])
    except ValueError as error:
        raise ValueError(f"the data of {path.stem}: {error}; fix them and predict again") from error
    return True
