"""The HTML report of an AdsorbML run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eqv2_plugin.common.html import Section, write_report
from eqv2_plugin.tasks.adsorbml.metrics import Score, is_much_better, is_success
from eqv2_plugin.tasks.adsorbml.plots import success_plot
from eqv2_plugin.tasks.adsorbml.system_result import ANOMALIES, SystemResult
from eqv2_plugin.tasks.relaxation.pictures import drawn, views

MOST_RANKED = 10  # lines of a system's table
MOST_PICTURES = 50  # systems with a picture; a report of a thousand would not open


def write_adsorbml_report(
    path: Path,
    results: Sequence[SystemResult],
    score: Score | None = None,
    title: str = "AdsorbML",
    note: str = "",
) -> None:
    """Success table and plot if there is a score, then each system.

    Args:
        path: HTML file.
        results: systems.
        score: of these systems.
        title: of the page.
        note: what the energies are, and where they come from.

    Raises:
        OSError: the file cannot be written.
    """
    sections = [_overview(results, note)]
    if score is not None:
        sections.append(_success(score))
    for number, result in enumerate(results):
        sections.append(_system(result, score, with_picture=number < MOST_PICTURES))
    write_report(path, title, sections)


def success_table(score: Score) -> tuple[list[str], list[list[Any]]]:
    """Header and rows, as in Table 3 of the EquiformerV2 paper."""
    header = [
        "k",
        "success",
        "much better",
        "speed-up (SCF steps)",
        "speed-up (ionic steps)",
        "single points missing",
    ]
    rows = [
        [
            row.k,
            f"{100 * row.success_rate:.2f}%",
            f"{100 * row.much_better_rate:.2f}%",
            _times(row.scf_speedup),
            _times(row.ionic_speedup),
            row.missing,
        ]
        for row in score.rows
    ]
    return header, rows


def unscored_lines(score: Score) -> list[str]:
    """Sentences on systems that are failures for want of structures, or do not count."""
    lines = []
    for systems, what in (
        (score.no_valid, "without a valid structure, counted as failures"),
        (score.no_results, "with a reference but without results, counted as failures"),
        (score.no_reference, "without a reference, not counted"),
    ):
        if systems:
            names = ", ".join(systems[:5]) + (", ..." if len(systems) > 5 else "")
            lines.append(f"{len(systems)} {what}: {names}")
    return lines


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def warning(results: Sequence[SystemResult]) -> str:
    """What must not be overlooked: no structure at all is valid, or converged; else empty."""
    every = [candidate for result in results for candidate in result.candidates]
    valid = [candidate for candidate in every if candidate.valid]
    if not valid:
        return f"NOTHING IS VALID: all {len(every):,} structures failed or have anomalies."
    if not any(candidate.converged for candidate in valid):
        return (
            f"NOTHING CONVERGED: all {len(valid):,} valid structures ran out of steps; their "
            "energies are of no minimum."
        )
    return ""


def _overview(results: Sequence[SystemResult], note: str) -> Section:
    header = ["system", "placements", "valid", *(a.replace("_", " ") for a in ANOMALIES)]
    header += ["failed", "not converged", "lowest energy, eV"]
    rows: list[list[Any]] = []
    for result in results:
        ranked = result.ranked()
        counts = result.anomaly_counts()
        waiting = sum(not c.converged for c in ranked)
        lowest: Any = f"{ranked[0].energy:.4f}" if ranked else "-"
        row = [result.system, len(result.candidates), len(ranked), *counts.values()]
        rows.append([*row, result.failed(), waiting, lowest])
    text = (
        "Predicted adsorption energies. A structure with an anomaly, or whose relaxation failed, "
        "is not ranked; one may have several anomalies. Not converged: of the valid ones, those "
        "that ran out of steps."
    )
    return Section("Systems", "\n".join(filter(None, (warning(results), note, text))), header, rows)


def _success(score: Score) -> Section:
    header, rows = success_table(score)
    text = (
        "Success: the lowest DFT single point of the k best structures is within 0.1 eV of the "
        "lowest DFT energy, or below it. Much better: more than 0.1 eV below. Speed-up: DFT steps "
        "of all reference relaxations divided by those of the single points."
    )
    picture = success_plot(score.rows, len(score.differences))
    return Section(
        f"Success rate of {len(score.differences)} systems",
        "\n".join([text, *unscored_lines(score)]),
        header,
        rows,
        [picture],
    )


def _system(result: SystemResult, score: Score | None, with_picture: bool) -> Section:
    ranked = result.ranked()
    header = ["rank", "candidate", "energy, eV", "above lowest, eV", "steps", "converged", "fmax"]
    rows: list[list[Any]] = []
    for rank, candidate in enumerate(ranked[:MOST_RANKED], start=1):
        assert candidate.energy is not None
        assert ranked[0].energy is not None
        rows.append(
            [
                rank,
                candidate.id,
                f"{candidate.energy:.4f}",
                f"{candidate.energy - ranked[0].energy:.4f}",
                candidate.steps,
                "yes" if candidate.converged else "no",
                f"{candidate.fmax:.3f}",
            ]
        )
    images: list[bytes] = []
    if ranked and with_picture:
        images += drawn(views, ranked[0].initial, ranked[0].relaxed)
    text = _system_text(result, score, len(ranked), bool(images))
    return (
        Section(result.system, text, header, rows, images) if rows else Section(result.system, text)
    )


def _system_text(result: SystemResult, score: Score | None, valid: int, pictured: bool) -> str:
    lines = [f"Adsorbate {result.adsorbate}; {valid} of {len(result.candidates)} valid."]
    if valid > MOST_RANKED:
        lines[0] += f" The {MOST_RANKED} lowest:"
    if result.error:
        lines.append(f"Failed: {result.error}.")
    counts = {kind: n for kind, n in result.anomaly_counts().items() if n}
    if counts:
        named = ", ".join(f"{kind.replace('_', ' ')} {n}" for kind, n in counts.items())
        lines.append(f"Anomalies: {named}.")
    errors = sorted({c.error for c in result.candidates if c.error})
    if errors:
        lines.append(f"{result.failed()} relaxations failed, e.g.: {errors[0]}")
    if result.target is not None:
        lines.append(f"Lowest DFT adsorption energy of the input: {result.target:.4f} eV.")
    if score is not None and result.system in score.differences:
        difference = score.differences[result.system][-1]
        verdict = "success" if is_success(difference) else "failure"
        verdict = "much better" if is_much_better(difference) else verdict
        found = f"{difference:+.3f} eV" if math.isfinite(difference) else "no energy to compare"
        lines.append(f"k = {score.rows[-1].k}: {verdict}; best single point - reference: {found}.")
    if pictured:
        lines.append("Pictured: the best one, as placed and relaxed.")
    return "\n".join(lines)
