"""EMT in the place of DFT: single points of the best, and relaxations of all placements."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

from ase.io import read

from emt_chain.surfaces import emt_energy, reference_energy, relax, relaxed_slab
from eqv2_plugin.tasks.adsorbml.results import SystemResult


def surface_of(system: str) -> str:
    """Name of the slab of a system such as "Pt111_N"."""
    return system.split("_")[0]


def fill_single_points(folder: Path, out: Path) -> None:
    """Energies for the table that ``eqv2 adsorbml single-points`` wrote, from its POSCAR files."""
    with (folder / "single_points.csv").open() as file:
        rows = list(csv.DictReader(file))
    systems = {row["system"] for row in rows}
    offsets = {system: reference_energy(relaxed_slab(surface_of(system))) for system in systems}
    for row in rows:
        energy = emt_energy(read(folder / row["folder"] / "POSCAR"))
        row["energy"] = energy - offsets[row["system"]]
        row["ionic_steps"] = 1
    # EMT has no electronic steps.
    _write_csv(out, [name for name in rows[0] if name != "scf_steps"], rows)


def relax_placements(result: SystemResult) -> dict[str, Any]:
    """EMT relaxations of the placements that the model relaxed.

    Returns:
        Energies of EMT in eV: ``relaxed`` (of those without anomaly), ``unrelaxed`` (of all, as
        placed), ``predicted`` (of the model's valid structures, in the order of its ranking). And
        ``steps``, the calls of EMT in the relaxations.
    """
    from fairchem.core.components.calculate.recipes.adsorbml import detect_anomaly

    slab = relaxed_slab(surface_of(result.system))
    offset = reference_energy(slab)
    found: dict[str, Any] = {"system": result.system, "relaxed": [], "unrelaxed": [], "steps": 0}
    for candidate in result.candidates:
        path = relax(candidate.initial.copy())
        found["unrelaxed"].append(float(path[0].get_potential_energy()) - offset)
        found["steps"] += len(path)
        if not detect_anomaly(candidate.initial, path[-1], slab):
            found["relaxed"].append(float(path[-1].get_potential_energy()) - offset)
    found["predicted"] = [emt_energy(c.relaxed) - offset for c in result.ranked()]
    return found


def write_best(references: list[dict[str, Any]], out: Path) -> None:
    """The lowest energy of each system, and the steps of all its relaxations."""
    rows = [
        {"system": r["system"], "energy": min(r["relaxed"]), "ionic_steps": r["steps"]}
        for r in references
    ]
    _write_csv(out, list(rows[0]), rows)


def write_json(path: Path, content: Any) -> None:
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(unfinished, path)


def _write_csv(path: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    unfinished = path.with_name(f".{path.name}")
    with unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(unfinished, path)
