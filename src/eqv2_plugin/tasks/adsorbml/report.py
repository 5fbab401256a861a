"""The HTML report of an AdsorbML run, and the plot of success rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from eqv2_plugin.common.figures import COLOURS, as_png
from eqv2_plugin.common.html import Section, write_report
from eqv2_plugin.common.text import listed
from eqv2_plugin.tasks.adsorbml.metrics import Score, is_much_better, is_success
from eqv2_plugin.tasks.adsorbml.results import ANOMALIES, SystemResult
from eqv2_plugin.tasks.relaxation.pictures import drawn, views

MAX_RANKED = 10  # lines of a system's table
MAX_PICTURES = 50  # systems with a picture; a report of a thousand would not open
SUCCESS_HEADER = (
    "k",
    "success",
    "much better",
    "speed-up (SCF steps)",
    "speed-up (ionic steps)",
    "single points missing",
)


def write_adsorbml_report(
    path: Path,
    results: Sequence[SystemResult],
    score: Score | None = None,
    title: str = "AdsorbML",
    note: str = "",
) -> None:
    """Success table and plot if there is a score, then each system; begins with the note."""
    sections = [_overview(results, note)]
    if score is not None:
        sections.append(_success(score))
    for number, result in enumerate(results):
        sections.append(_system(result, score, with_picture=number < MAX_PICTURES))
    write_report(path, title, sections)


def success_rows(score: Score) -> list[list[str]]:
    """Rows below `SUCCESS_HEADER`, as in Table 3 of the EquiformerV2 paper."""
    return [
        [
            str(row.k),
            f"{100 * row.success_rate:.2f}%",
            f"{100 * row.much_better_rate:.2f}%",
            *("-" if up is None else f"{up:.2f}" for up in (row.scf_speedup, row.ionic_speedup)),
            str(row.missing),
        ]
        for row in score.rows
    ]


def unscored_lines(score: Score) -> list[str]:
    """Sentences on systems without structures, which are failures, and on those not counted."""
    return [
        f"{len(systems)} {what}: {listed(systems)}"
        for systems, what in (
            (score.no_valid, "without a valid structure, counted as failures"),
            (score.no_results, "with a reference but without results, counted as failures"),
            (score.no_reference, "without a reference, not counted"),
        )
        if systems
    ]


def success_plot(score: Score) -> bytes:
    """PNG: share of systems that succeeded, and that are much better, for each k."""
    ks, systems = [row.k for row in score.rows], len(score.differences)
    figure, axis = plt.subplots(figsize=(5.4, 3.6), layout="constrained")
    success = [100 * row.success_rate for row in score.rows]
    better = [100 * row.much_better_rate for row in score.rows]
    # The larger markers show even where both rates are the same.
    line = {"marker": "o", "clip_on": False}
    axis.plot(ks, success, color=COLOURS[0], ms=9, label="within 0.1 eV or below", **line)
    axis.plot(ks, better, color=COLOURS[1], ms=5, label="more than 0.1 eV below", **line)
    for k, value in zip(ks, success, strict=True):
        axis.annotate(
            f"{value:.1f}", (k, value), (0, 6), textcoords="offset points", ha="center", fontsize=8
        )
    axis.set(
        title=f"AdsorbML, {systems} system{'s' if systems != 1 else ''}",
        xlabel="k, DFT single points per system",
        ylabel="success rate, %",
        ylim=(0, 108),
    )
    axis.set_yticks(range(0, 101, 20))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.legend(loc="best", fontsize=8)
    return as_png(figure)


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
        row = [result.system, len(result.candidates), len(ranked)]
        row += [*result.anomaly_counts().values(), result.failed()]
        row += [sum(not c.converged for c in ranked), f"{ranked[0].energy:.4f}" if ranked else "-"]
        rows.append(row)
    text = (
        "Predicted adsorption energies. A structure with an anomaly, or whose relaxation failed, "
        "is not ranked; one may have several anomalies. Not converged: of the valid ones, those "
        "that ran out of steps."
    )
    return Section("Systems", "\n".join(filter(None, (warning(results), note, text))), header, rows)


def _success(score: Score) -> Section:
    text = (
        "Success: the lowest DFT single point of the k best structures is within 0.1 eV of the "
        "lowest DFT energy, or below it. Much better: more than 0.1 eV below. Speed-up: DFT steps "
        "of all reference relaxations divided by those of the single points."
    )
    return Section(
        f"Success rate of {len(score.differences)} systems",
        "\n".join([text, *unscored_lines(score)]),
        SUCCESS_HEADER,
        success_rows(score),
        [success_plot(score)],
    )


def _system(result: SystemResult, score: Score | None, with_picture: bool) -> Section:
    ranked = result.ranked()
    text = "\n".join(_system_lines(result, score))
    if not ranked:
        return Section(result.system, text)
    images = drawn(views, ranked[0].initial, ranked[0].relaxed) if with_picture else []
    if images:
        text += "\nPictured: the best one, as placed and relaxed."
    header = ["rank", "candidate", "energy, eV", "above lowest, eV", "steps", "converged", "fmax"]
    energies = [c.energy for c in ranked if c.energy is not None]
    rows = [
        [
            rank,
            candidate.id,
            f"{energy:.4f}",
            f"{energy - energies[0]:.4f}",
            candidate.steps,
            "yes" if candidate.converged else "no",
            f"{candidate.fmax:.3f}",
        ]
        for rank, (candidate, energy) in enumerate(
            zip(ranked[:MAX_RANKED], energies, strict=False), start=1
        )
    ]
    return Section(result.system, text, header, rows, images)


def _system_lines(result: SystemResult, score: Score | None) -> list[str]:
    valid = len(result.ranked())
    lines = [f"Adsorbate {result.adsorbate}; {valid} of {len(result.candidates)} valid."]
    if valid > MAX_RANKED:
        lines[0] += f" The {MAX_RANKED} lowest:"
    if result.error:
        lines.append(f"Failed: {result.error}.")
    if counts := {kind: n for kind, n in result.anomaly_counts().items() if n}:
        named = ", ".join(f"{kind.replace('_', ' ')} {n}" for kind, n in counts.items())
        lines.append(f"Anomalies: {named}.")
    if errors := sorted({c.error for c in result.candidates if c.error}):
        lines.append(f"{result.failed()} relaxations failed, e.g.: {errors[0]}")
    if result.target is not None:
        lines.append(f"Lowest DFT adsorption energy of the input: {result.target:.4f} eV.")
    if score is not None and result.system in score.differences:
        difference = score.differences[result.system][-1]
        verdict = "success" if is_success(difference) else "failure"
        verdict = "much better" if is_much_better(difference) else verdict
        found = f"{difference:+.3f} eV" if math.isfinite(difference) else "no energy to compare"
        lines.append(f"k = {score.rows[-1].k}: {verdict}; best single point - reference: {found}.")
    return lines
