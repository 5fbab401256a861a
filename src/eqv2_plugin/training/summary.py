"""The words that close a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eqv2_plugin.training.evaluation import FORCE_RMSE, MAE_PER_ATOM, STRESS_MAE
from eqv2_plugin.training.results import INFERENCE_CHECKPOINT
from eqv2_plugin.training.scalar_report import MAE, scalar_line, scalar_table

_FEW = 10  # atoms, of which an error says little
_COMPARED = (
    ("forces_mae_meV_per_A", "force", "meV/Å"),
    ("energy_mae_meV", "energy", "meV"),
    (STRESS_MAE, "stress", "meV/Å^3"),
)


def summary(
    report: dict[str, Any], results: Path, compare_with_start: bool, closing_note: str | None
) -> str:
    """The table and the lines that close a run, from the content of ``metrics.json``."""
    if any(MAE in found for found in report["splits"].values()):
        return "\n".join(scalar_table(report, results / INFERENCE_CHECKPOINT))
    wide = max([10, *map(len, report["splits"])])
    head = (
        f"{'split':<{wide}} {'MAE of':<28} {'forces meV/Å':>13} {'energy meV':>11} {'per atom':>9}"
    )
    lines = ["", head, "-" * len(head)]

    def row(
        split: str,
        what: str,
        forces: float | None,
        energy: float | None,
        per_atom: float | None = None,
    ) -> None:
        f = "-" if forces is None else f"{forces:.1f}"
        e = "-" if energy is None else f"{energy:.0f}"
        a = "-" if per_atom is None else f"{per_atom:.1f}"
        lines.append(f"{split:<{wide}} {what:<28} {f:>13} {e:>11} {a:>9}")

    def errors(split: str, what: str, found: dict[str, float], kind: str = "mae") -> None:
        keys = ("forces_{}_meV_per_A", "energy_{}_meV", "energy_{}_meV_per_atom")
        row(split, what, *(found.get(key.format(kind)) for key in keys))

    for name, m in report["splits"].items():
        errors(name, "model", m)
        errors(name, "model, RMSE instead", m, "rmse")
        if start := (report["at_start"] or {}).get(name):
            errors(name, "model at start", start)
        b = report["baselines"].get(name)
        if b:
            row(name, "zero forces", b["zero_forces_mae_meV_per_A"], None)
            near = b["nearest_frame_forces_mae_meV_per_A"]
            row(name, "nearest training frame", near, b["nearest_frame_energy_mae_meV"])
            below = 100 * (1 - m["forces_mae_meV_per_A"] / b["zero_forces_mae_meV_per_A"])
            side = "below" if below >= 0 else "above"
            lines.append(f"{name:<{wide}} force MAE is {abs(below):.0f} % {side} zero forces")
    if chosen := report.get("chosen"):
        lines += ["", f"weights of step {chosen['step']}, whose validation errors were the lowest"]
    worst = [_worst_line(*item) for item in report.get("force_errors", {}).items()]
    if any(worst):
        lines += ["", *filter(None, worst)]
    if line := _encoding_line(report.get("denoising", {})):
        lines += ["", line]
    if compare_with_start and report["at_start"]:
        lines += ["", *improvements(report["at_start"], report["splits"])]
    checkpoint = results / INFERENCE_CHECKPOINT
    lines += ["", f"Results (metrics, plots, checkpoint): {results}"]
    sets = report.get("data_sets", [])
    task = f'task_name="{sets[0]}", ' if sets else ""
    others = f"; or task_name {', '.join(sets[1:])}" if sets else ""
    lines.append(
        f'Use it: FAIRChemCalculator.from_model_checkpoint("{checkpoint}", {task}'
        f'inference_settings="batch"){others}'
    )
    if closing_note:
        lines += ["", closing_note]
    return "\n".join(lines)


def _worst_line(split: str, errors: dict[str, list[dict[str, Any]]]) -> str | None:
    """The elements with the largest errors of forces, of several."""
    rows = [row for row in errors.get("by_element", []) if row["atoms"] >= _FEW]
    if len(rows) < 2:
        return None
    rows.sort(key=lambda row: -row["mae_meV_per_A"])
    shown = ", ".join(
        f"{row['element']} {row['mae_meV_per_A']:.0f} ({row['atoms']:,} atoms)" for row in rows[:3]
    )
    return f"{split}: largest force MAE by element, meV/Å: {shown}"


def _encoding_line(figures: dict[str, float]) -> str | None:
    """Whether DeNS uses the forces that it encodes."""
    if "noise_mae_encoded_sigma" not in figures:
        return None
    encoded, unencoded = (figures[f"noise_mae_{what}_sigma"] for what in ("encoded", "unencoded"))
    return (
        f"denoising: noise MAE on validation frames {encoded:.2f} sigma with encoded forces, "
        f"{unencoded:.2f} without them"
    )


def improvements(
    before: dict[str, dict[str, float]], after: dict[str, dict[str, float]]
) -> list[str]:
    """Lines such as "val: force MAE 210.0 -> 95.0 meV/Å: 2.2 times lower", of both's metrics."""
    lines = []
    for split, end in after.items():
        for key, what, unit in _COMPARED:
            if key not in end or key not in before.get(split, {}):
                continue
            old, new = before[split][key], end[key]
            ratio = old / new if new <= old else new / old
            side = "lower" if new <= old else "higher"
            lines.append(
                f"{split}: {what} MAE {old:.1f} -> {new:.1f} {unit}: {ratio:.2f} times {side}"
            )
    return lines


def errors_line(metrics: dict[str, float]) -> str:
    """Validation errors in one line."""
    if MAE in metrics:
        return scalar_line(metrics)
    shown = f"energy {metrics['energy_mae_meV']:.0f} meV"
    if MAE_PER_ATOM in metrics:
        shown += f" ({metrics[MAE_PER_ATOM]:.1f} per atom)"
    if "forces_mae_meV_per_A" in metrics:
        shown += f", forces {metrics['forces_mae_meV_per_A']:.1f} meV/Å"
    if FORCE_RMSE in metrics:
        shown += f" (rms {metrics[FORCE_RMSE]:.1f})"
    if STRESS_MAE in metrics:
        shown += f", stress {metrics[STRESS_MAE]:.2f} meV/Å^3"
    return shown
