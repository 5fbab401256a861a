"""What lies in a run's ``results/``: its history, and a marker that says that all is there."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

from eqv2_plugin.common.files import save_json, save_text

METRICS, HISTORY = "metrics.json", "history.jsonl"
INFERENCE_CHECKPOINT, LEARNING_CURVE = "inference_ckpt.pt", "learning_curve.png"
MARKER = "finished.json"
_END_OF_PNG = b"IEND\xaeB`\x82"


class History:
    """One validation, or point of a curve, to a line, as JSON, in the folder ``results``."""

    def __init__(self, results: Path, name: str = HISTORY) -> None:
        self.path = results / name

    def read(self) -> list[dict[str, Any]]:
        """All records. A last line that a full disk or a kill left incomplete is dropped."""
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().splitlines(keepends=True)
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                if not isinstance(record, dict) or "step" not in record:
                    raise ValueError("it is no record of a step")
            except ValueError as error:
                if number == len(lines) and not line.endswith(b"\n"):
                    print(
                        f"{self.path}: the last line is incomplete and is left out; the run was "
                        "ended while it was written.",
                        flush=True,
                    )
                    break
                raise ValueError(
                    f"{self.path} is damaged in line {number} ({error}): remove that line and run "
                    "the same command again"
                ) from error
            records.append(record)
        return records

    def restart(self, step: int) -> None:
        """Keep what was recorded up to a step; what comes after will be recorded again."""
        kept = [record for record in self.read() if record["step"] <= step] if step else []
        save_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))

    def append(self, record: dict[str, Any]) -> None:
        """Add a record; it is on the disk when this returns, or not there if the disk is full."""
        line = (json.dumps(record) + "\n").encode()
        with self.path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                if file.write(line) != len(line):
                    raise OSError("there is no room for a line")
                os.fsync(file.fileno())
            except OSError as error:
                file.truncate(before)
                raise OSError(
                    f"cannot write {self.path}: {error}. Make room, and run the same command "
                    "again: it goes on from the last checkpoint"
                ) from error


def mark_finished(results: Path, step: int) -> None:
    """Say that all files of the results are there, of a run that ended at ``step``."""
    files = sorted(p for p in results.iterdir() if p.is_file() and p.name[0] != ".")
    save_json(results / MARKER, {"steps": step, "files": {p.name: p.stat().st_size for p in files}})


def mark_if_missing(results: Path) -> None:
    """Write the marker of complete results: a kill came before it, or a version without it."""
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
