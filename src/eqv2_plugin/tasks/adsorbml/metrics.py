"""Success rate and speed-up of AdsorbML (EquiformerV2 paper, Table 3 and section D.4).

Definitions of Lan et al. (AdsorbML, 2023) and of its evaluation script:

- The k valid structures with the lowest predicted energies get a DFT single point each. A success:
  the lowest is at most 0.1 eV above the reference's lowest DFT energy, or below it; "much better":
  more than 0.1 eV below.
- A system without any valid structure is a failure. A DFT calculation that gave no energy takes
  its place among the k.
- Speed-up: DFT steps of all relaxations of the reference over those of the single points, each
  summed over all systems. Clean slabs, which both need, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

SUCCESS_THRESHOLD = 0.1  # eV
# Energies are decimals: -1.9 is 0.1 above -2.0, although their binary difference is larger.
_ROUNDING = 1e-9
KS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class DftResult:
    """Of one single point, or of all DFT relaxations of one system."""

    energy: float | None  # eV; of the reference, the lowest; None if the calculation gave none
    scf_steps: float | None = None  # if counted
    ionic_steps: float | None = None  # if counted


@dataclass(frozen=True)
class Row:
    """Of k single points per system."""

    k: int
    success_rate: float  # share of the systems, from 0 to 1
    much_better_rate: float  # likewise
    scf_speedup: float | None  # None where steps are not known
    ionic_speedup: float | None  # likewise
    missing: int  # structures among the k best of all systems whose single point gave no energy


@dataclass(frozen=True)
class Score:
    """Of a set of systems."""

    rows: tuple[Row, ...]  # one for each k
    # {system: lowest single point minus reference for each k, eV}; infinite without energy.
    differences: dict[str, tuple[float, ...]]
    no_valid: tuple[str, ...]  # systems of the reference that have results, but no valid structure
    # Systems of the reference that were not run; they count as failures.
    no_results: tuple[str, ...]
    no_reference: tuple[str, ...]  # systems that were run and cannot be scored; they do not count


def score(
    ranked: Mapping[str, Sequence[str]],
    single_points: Mapping[tuple[str, str], DftResult],
    references: Mapping[str, DftResult],
) -> Score:
    """Success rates and speed-ups for k = 1 to 5.

    Args:
        ranked: {system: valid candidates, lowest predicted energy first}.
        single_points: {(system, candidate): result}; may lack some.
        references: {system: lowest DFT energy, and steps of all DFT relaxations}.
    """
    if not references:
        raise ValueError("there is no system with a DFT reference energy to compare with")
    points = {s: [single_points.get((s, c)) for c in ranked.get(s, ())] for s in references}
    differences = {
        system: tuple(_lowest(found[:k]) - _lowest([references[system]]) for k in KS)
        for system, found in points.items()
    }
    rows = []
    for i, k in enumerate(KS):
        apart = [of_system[i] for of_system in differences.values()]
        chosen = [result for found in points.values() for result in found[:k]]
        rows.append(
            Row(
                k=k,
                success_rate=sum(map(is_success, apart)) / len(apart),
                much_better_rate=sum(map(is_much_better, apart)) / len(apart),
                scf_speedup=_ratio("scf_steps", references.values(), chosen),
                ionic_speedup=_ratio("ionic_steps", references.values(), chosen),
                missing=sum(result is None or result.energy is None for result in chosen),
            )
        )
    return Score(
        rows=tuple(rows),
        differences=differences,
        no_valid=tuple(s for s in references if s in ranked and not ranked[s]),
        no_results=tuple(s for s in references if s not in ranked),
        no_reference=tuple(s for s in ranked if s not in references),
    )


def is_success(difference: float) -> bool:
    """Whether the energy is within 0.1 eV of the reference, or below it."""
    return difference <= SUCCESS_THRESHOLD + _ROUNDING


def is_much_better(difference: float) -> bool:
    """Whether the energy is more than 0.1 eV below the reference."""
    return difference < -SUCCESS_THRESHOLD - _ROUNDING


def _lowest(results: Sequence[DftResult | None]) -> float:
    """Lowest energy, infinite if there is none."""
    known = [result.energy for result in results if result is not None]
    return min((energy for energy in known if energy is not None), default=math.inf)


def _ratio(
    steps: str, before: Iterable[DftResult], after: Iterable[DftResult | None]
) -> float | None:
    """Ratio of sums; None if a count is unknown or nothing was calculated."""
    sums = []
    for results in (before, after):
        counts = [getattr(result, steps) for result in results if result is not None]
        if None in counts:
            return None
        sums.append(sum(counts))
    return sums[0] / sums[1] if sums[1] else None
