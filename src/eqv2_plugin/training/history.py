"""The history of a run: one validation to a line, as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from eqv2_plugin.common.files import save_text

HISTORY = "history.jsonl"


class History:
    """``history.jsonl`` in a results folder.

    Args:
        results: the folder.
    """

    def __init__(self, results: Path) -> None:
        self.path = results / HISTORY

    def read(self) -> list[dict[str, Any]]:
        """All records. A last line that a full disk or a kill left incomplete is dropped.

        Raises:
            ValueError: another line is damaged; the message names it.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().splitlines(keepends=True)
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                if not isinstance(record, dict) or "step" not in record:
                    raise ValueError("it is no record of a validation")
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
        """Keep what was recorded up to a step; what comes after will be recorded again.

        Raises:
            ValueError: as `read`.
            OSError: the file cannot be written.
        """
        kept = [record for record in self.read() if record["step"] <= step] if step else []
        save_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))

    def append(self, record: dict[str, Any]) -> None:
        """Add a record; it is on the disk when this returns.

        Raises:
            OSError: the disk is full, or the file cannot be written; the line is not there then.
        """
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
