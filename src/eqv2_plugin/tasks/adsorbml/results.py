"""What AdsorbML found: all relaxed placements of each system, in the results folder of a run."""

from __future__ import annotations

import gzip
import math
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ase import Atoms
from ase.io.jsonio import decode, encode

from eqv2_plugin.common import manifest
from eqv2_plugin.common.files import atomic_write
from eqv2_plugin.tasks.relaxation import anomalies

# fairchem-data-oc's, and those of any relaxation.
ANOMALIES = (
    "adsorbate_dissociated",
    "adsorbate_desorbed",
    "surface_changed",
    "adsorbate_intercalated",
    *anomalies.ANOMALIES,
)
MANIFEST = "adsorbml_run.json"
# Below a results folder, and of each file there.
SYSTEMS = "systems"
SUFFIX = ".json.gz"
_LAYOUT = 1


@dataclass(frozen=True)
class Candidate:
    """One placement, relaxed."""

    id: str  # within the system, such as "heuristic-0007"
    energy: float | None  # predicted adsorption energy, eV; None if the relaxation failed
    steps: int  # of the optimizer
    converged: bool  # whether all free forces fell below fmax
    fmax: float | None  # largest force on a free atom at the end, eV/Å; None if it failed
    anomalies: tuple[str, ...]  # names from `ANOMALIES`
    error: str  # why the relaxation failed; empty if it did not
    initial: Atoms  # as placed
    relaxed: Atoms  # at the end, with the same tags and constraints

    @property
    def valid(self) -> bool:
        """Whether it takes part in the ranking."""
        return self.energy is not None and not self.anomalies and not self.error


@dataclass(frozen=True)
class SystemResult:
    """One system."""

    system: str  # its id
    adsorbate: str  # SMILES or formula
    target: float | None  # lowest DFT adsorption energy of the input, eV; None if it has none
    # Of the relaxed clean slab, eV, where total energies are referenced to it.
    slab_energy: float | None
    candidates: tuple[Candidate, ...]  # in the order of their placement
    error: str = ""  # why there are none; empty if there are

    def ranked(self) -> list[Candidate]:
        """Valid candidates, lowest energy first; of equal ones the first placed comes first."""
        valid = [candidate for candidate in self.candidates if candidate.valid]
        return sorted(valid, key=lambda c: math.inf if c.energy is None else c.energy)

    def anomaly_counts(self) -> dict[str, int]:
        """{kind of anomaly: candidates that have it}; a candidate may have several."""
        counts = Counter(kind for c in self.candidates for kind in c.anomalies)
        return {kind: counts[kind] for kind in ANOMALIES}

    def failed(self) -> int:
        """Relaxations that failed."""
        return sum(bool(candidate.error) for candidate in self.candidates)


class ResultsFolder:
    """The folder of one run, whose systems may be shared out among several jobs.

    Raises:
        ValueError: the folder holds results that depend on something else than ``made_with``.
    """

    def __init__(self, path: Path, made_with: Mapping[str, Any]) -> None:
        self.path = path
        (path / SYSTEMS).mkdir(parents=True, exist_ok=True)
        manifest.begin(path / MANIFEST, made_with, path, "results of AdsorbML")

    def file(self, system: str) -> Path:
        """Where the result of a system is, or will be."""
        return self.path / SYSTEMS / f"{file_name(system)}{SUFFIX}"

    def is_finished(self, system: str) -> bool:
        """Whether a system's result is there."""
        return self.file(system).is_file()

    def save(self, result: SystemResult) -> None:
        """Write a result as compressed JSON."""
        candidates = [{**vars(c), "anomalies": list(c.anomalies)} for c in result.candidates]
        content = {"layout": _LAYOUT, **vars(result), "candidates": candidates}
        with atomic_write(self.file(result.system)) as building:
            building.write_bytes(gzip.compress(encode(content).encode(), mtime=0))

    def load(self, system: str) -> SystemResult:
        """A finished system's result; raises ValueError as `load_results` does."""
        return _load(self.file(system))


def file_name(system: str) -> str:
    """A system's id as a name for files; asterisks and the like are written out as %2A."""
    return quote(system, safe=" ()+=,")


def load_results(folder: Path) -> list[SystemResult]:
    """All results below a run's folder, in the order of their ids.

    Raises:
        ValueError: a damaged file, or one of another version.
    """
    files = sorted((folder / SYSTEMS).glob(f"*{SUFFIX}"))
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no results of AdsorbML (no {SYSTEMS}/*{SUFFIX}); give the folder "
            "`results` of a run"
        )
    return sorted(map(_load, files), key=lambda result: result.system)


def _load(path: Path) -> SystemResult:
    try:
        content = decode(gzip.decompress(path.read_bytes()).decode())
        if (layout := content.pop("layout")) != _LAYOUT:
            raise ValueError(f"layout {layout} instead of {_LAYOUT}")
        candidates = content.pop("candidates")
        for candidate in candidates:
            candidate["anomalies"] = tuple(candidate["anomalies"])
        return SystemResult(**content, candidates=tuple(Candidate(**c) for c in candidates))
    except (EOFError, KeyError, TypeError, ValueError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): remove it and run AdsorbML again, which repeats "
            "this system only"
        ) from error
