"""CSV files of DFT results: what `eqv2 adsorbml score` reads."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from eqv2_plugin.tasks.adsorbml.metrics import DftResult
from eqv2_plugin.tasks.adsorbml.system_result import SystemResult

STEPS = ("scf_steps", "ionic_steps")


def read_single_points(path: Path) -> dict[tuple[str, str], DftResult]:
    """Columns system, candidate, energy (eV) and, if counted, scf_steps and ionic_steps.

    An empty energy is a calculation that gave none; its steps may be empty, too, and count as 0.
    Other columns are ignored.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a column is missing, a value is no number, or a candidate occurs twice.
    """
    results: dict[tuple[str, str], DftResult] = {}
    for line, row in _rows(path, ("system", "candidate", "energy")):
        key = (row["system"], row["candidate"])
        where = f"{path}, line {line}, {key[0]} {key[1]}"
        if key in results:
            raise ValueError(f"{where}: this candidate occurs twice")
        energy = _number(row, "energy", where)
        steps = {name: _number(row, name, where) for name in STEPS if name in row}
        if energy is None:
            steps = {name: value or 0.0 for name, value in steps.items()}
        results[key] = DftResult(energy, **_checked(steps, where))
    return results


def read_references(path: Path, needs: str = "the lowest DFT energy") -> dict[str, DftResult]:
    """Columns system, energy (eV) and, if counted, scf_steps and ionic_steps.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a column is missing, a value is no number or absent, or a system occurs twice.
    """
    results: dict[str, DftResult] = {}
    for line, row in _rows(path, ("system", "energy")):
        where = f"{path}, line {line}, {row['system']}"
        if row["system"] in results:
            raise ValueError(f"{where}: this system occurs twice")
        energy = _number(row, "energy", where)
        if energy is None:
            raise ValueError(f"{where}: no energy; give {needs}, or leave the line out")
        steps = {name: _number(row, name, where) for name in STEPS if name in row}
        results[row["system"]] = DftResult(energy, **_checked(steps, where))
    return results


def _rows(path: Path, needed: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(
                f"{path} has no column {', '.join(missing)}: its first line must name the columns "
                f"{', '.join(needed)}"
            )
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"{path}, line {reader.line_num}: not as many values as columns")
            rows.append((reader.line_num, {key: value.strip() for key, value in row.items()}))
    if not rows:
        raise ValueError(f"{path} holds no results")
    return rows


def _number(row: Mapping[str, str], name: str, where: str) -> float | None:
    """The value, or None where it is empty or "nan"."""
    text = row[name]
    if not text or text.lower() == "nan":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f"{where}: {name} is {text!r}, which is no number")
    return value


def _checked(steps: Mapping[str, float | None], where: str) -> dict[str, float | None]:
    for name, value in steps.items():
        if value is None or value < 0:
            raise ValueError(
                f"{where}: {name} is missing or negative; count it for all, or leave out the column"
            )
    return dict(steps)


def check_candidates(
    path: Path,
    single_points: Mapping[tuple[str, str], DftResult],
    results: Sequence[SystemResult],
) -> None:
    """Single points must belong to these results.

    Raises:
        ValueError: a system or candidate that the results do not have.
    """
    known = {result.system: {c.id for c in result.candidates} for result in results}
    for system, candidate in single_points:
        if system not in known:
            raise ValueError(
                f"{path} has a system {system!r} that is not among the results; they have "
                f"{', '.join(list(known)[:5])}{', ...' if len(known) > 5 else ''}"
            )
        if candidate not in known[system]:
            raise ValueError(
                f"{path} has a candidate {candidate!r} that system {system} does not have: its "
                "single points belong to another run"
            )
