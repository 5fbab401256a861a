"""Whether the results of a run are complete: a marker, written last, says what there is."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from eqv2_plugin.common.files import save_text

METRICS, INFERENCE_CHECKPOINT, LEARNING_CURVE = (
    "metrics.json",
    "inference_ckpt.pt",
    "learning_curve.png",
)
MARKER = "finished.json"
_END_OF_PNG = b"IEND\xaeB`\x82"


def mark_finished(results: Path, step: int) -> None:
    """Say that all files of the results are there.

    Args:
        results: the folder.
        step: that the run ended at.

    Raises:
        OSError: the marker cannot be written.
    """
    files = sorted(p for p in results.iterdir() if p.is_file() and p.name[0] != ".")
    content = {"steps": step, "files": {p.name: p.stat().st_size for p in files}}
    save_text(results / MARKER, json.dumps(content, indent=2) + "\n")


def mark_if_missing(results: Path) -> None:
    """Write the marker of complete results: a kill came before it, or a version without it.

    Args:
        results: for which `are_complete` holds.

    Raises:
        OSError: the marker cannot be written.
    """
    if not (results / MARKER).is_file():
        mark_finished(results, (_json(results / METRICS) or {}).get("steps", 0))


def unmark(results: Path) -> None:
    """A run in this folder goes on: its results are no longer, or not yet, complete."""
    # Without metrics, the results of a version that wrote no marker count as incomplete, too.
    for name in (MARKER, METRICS):
        (results / name).unlink(missing_ok=True)


def are_complete(results: Path) -> bool:
    """Whether a run has finished, and what it left is still there.

    Results of versions that wrote no marker are looked at one by one.
    """
    marker = results / MARKER
    if marker.is_file():
        files = (_json(marker) or {}).get("files")
        return isinstance(files, dict) and all(
            (results / name).is_file() and (results / name).stat().st_size == size
            for name, size in files.items()
        )
    metrics = _json(results / METRICS)
    return (
        metrics is not None
        and "splits" in metrics
        and zipfile.is_zipfile(results / INFERENCE_CHECKPOINT)
        and (results / LEARNING_CURVE).is_file()
        and all(path.read_bytes().endswith(_END_OF_PNG) for path in results.glob("*.png"))
    )


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
