"""The rows of one part of a session: a line of JSON each, on disk as soon as it is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# A row that was begun so often and never ended is left out: it hangs, or kills its process.
_ATTEMPTS = 2


class Log:
    """Rows by name, in a file that later calls add to.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        self.begun: dict[str, int] = {}
        self.finished = False
        text = path.read_text() if path.exists() else ""
        for line in text.splitlines():
            try:
                self._take(json.loads(line))
            except json.JSONDecodeError:
                continue  # the process was killed while it wrote
        if text and not text.endswith("\n"):
            self._write_text("\n")

    def wants(self, name: str) -> bool:
        """Whether a row is to be measured; one that hung is given up with a note."""
        if name in self.rows:
            return False
        if self.begun.get(name, 0) < _ATTEMPTS:
            return True
        self.add(name, {"error": f"did not end in {_ATTEMPTS} calls"})
        return False

    def begin(self, name: str) -> None:
        self._write({"begin": name})

    def add(self, name: str, values: dict[str, Any]) -> None:
        self._write({"row": name, **values})

    def finish(self) -> None:
        self._write({"finished": True})

    def _write(self, record: dict[str, Any]) -> None:
        self._take(record)
        self._write_text(json.dumps(record, default=float) + "\n")

    def _write_text(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def _take(self, record: dict[str, Any]) -> None:
        if "begin" in record:
            self.begun[record["begin"]] = self.begun.get(record["begin"], 0) + 1
        elif "row" in record:
            values = {key: value for key, value in record.items() if key != "row"}
            self.rows[record["row"]] = values
        else:
            self.finished = True


def markdown(rows: dict[str, dict[str, Any]]) -> list[str]:
    """One table of all rows; columns in the order in which they first occur."""
    from compare.report import table

    columns = list(dict.fromkeys(key for values in rows.values() for key in values))
    cells = [[name, *(_cell(values.get(key)) for key in columns)] for name, values in rows.items()]
    return table(("", *columns), cells)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e4 else f"{value:.0f}"
    return " ".join(str(value).split()).replace("|", "/")
