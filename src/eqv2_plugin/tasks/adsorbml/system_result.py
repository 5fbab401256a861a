"""What AdsorbML found for one system: all relaxed placements, and which of them count."""

from __future__ import annotations

import gzip
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io.jsonio import decode, encode

from eqv2_plugin.common.files import whole_file
from eqv2_plugin.tasks.relaxation import anomalies

# fairchem-data-oc's, and those of any relaxation.
ANOMALIES = (
    "adsorbate_dissociated",
    "adsorbate_desorbed",
    "surface_changed",
    "adsorbate_intercalated",
    *anomalies.ANOMALIES,
)
# Below a results folder, and of each file there.
SYSTEMS = "systems"
SUFFIX = ".json.gz"
_LAYOUT = 1


@dataclass(frozen=True)
class Candidate:
    """One placement, relaxed.

    Attributes:
        id: within the system, such as "heuristic-0007".
        energy: predicted adsorption energy, eV; None if the relaxation failed.
        steps: of the optimizer.
        converged: whether all free forces fell below fmax.
        fmax: largest force on a free atom at the end, eV/Å; None if the relaxation failed.
        anomalies: names from `ANOMALIES`.
        error: why the relaxation failed; empty if it did not.
        initial: as placed.
        relaxed: at the end; tags and constraints of ``initial``.
    """

    id: str
    energy: float | None
    steps: int
    converged: bool
    fmax: float | None
    anomalies: tuple[str, ...]
    error: str
    initial: Atoms
    relaxed: Atoms

    @property
    def valid(self) -> bool:
        """Whether it takes part in the ranking."""
        return self.energy is not None and not self.anomalies and not self.error


@dataclass(frozen=True)
class SystemResult:
    """One system.

    Attributes:
        system: its id.
        adsorbate: SMILES or formula.
        target: lowest DFT adsorption energy of the input, eV; None if it has none.
        slab_energy: of the relaxed clean slab, eV, where total energies are referenced to it.
        candidates: in the order of their placement.
        error: why there are none; empty if there are.
    """

    system: str
    adsorbate: str
    target: float | None
    slab_energy: float | None
    candidates: tuple[Candidate, ...]
    error: str = ""

    def ranked(self) -> list[Candidate]:
        """Valid candidates, lowest energy first; of equal ones the first placed comes first."""
        valid = [candidate for candidate in self.candidates if candidate.valid]
        return sorted(valid, key=_energy)

    def anomaly_counts(self) -> dict[str, int]:
        """{kind of anomaly: candidates that have it}; a candidate may have several."""
        counts = Counter(kind for c in self.candidates for kind in c.anomalies)
        return {kind: counts[kind] for kind in ANOMALIES}

    def failed(self) -> int:
        """Relaxations that failed."""
        return sum(bool(candidate.error) for candidate in self.candidates)


def _energy(candidate: Candidate) -> float:
    return math.inf if candidate.energy is None else candidate.energy


def save_result(path: Path, result: SystemResult) -> None:
    """Write a result as compressed JSON; it appears only when it is whole.

    Raises:
        OSError: the file cannot be written.
    """
    content = {
        "layout": _LAYOUT,
        "system": result.system,
        "adsorbate": result.adsorbate,
        "target": result.target,
        "slab_energy": result.slab_energy,
        "error": result.error,
        "candidates": [_as_json(candidate) for candidate in result.candidates],
    }
    with whole_file(path) as building, gzip.open(building, "wt", encoding="utf-8") as file:
        file.write(encode(content))


def load_result(path: Path) -> SystemResult:
    """Read what `save_result` wrote.

    Raises:
        ValueError: a damaged file, or one of another version.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            content = decode(file.read())
        if content["layout"] != _LAYOUT:
            raise ValueError(f"layout {content['layout']} instead of {_LAYOUT}")
        return SystemResult(
            system=content["system"],
            adsorbate=content["adsorbate"],
            target=content["target"],
            slab_energy=content["slab_energy"],
            error=content["error"],
            candidates=tuple(_from_json(entry) for entry in content["candidates"]),
        )
    except (EOFError, KeyError, TypeError, ValueError, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): remove it and run AdsorbML again, which repeats "
            "this system only"
        ) from error


def load_results(folder: Path) -> list[SystemResult]:
    """All results below a run's folder, by id.

    Raises:
        FileNotFoundError: no such folder, or no results in it.
        ValueError: a damaged file.
    """
    files = sorted((folder / SYSTEMS).glob(f"*{SUFFIX}"))
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no results of AdsorbML (no {SYSTEMS}/*{SUFFIX}); give the folder "
            "`results` of a run"
        )
    return sorted((load_result(path) for path in files), key=lambda result: result.system)


def _as_json(candidate: Candidate) -> dict[str, Any]:
    return {**vars(candidate), "anomalies": list(candidate.anomalies)}


def _from_json(entry: dict[str, Any]) -> Candidate:
    return Candidate(**{**entry, "anomalies": tuple(entry["anomalies"])})
