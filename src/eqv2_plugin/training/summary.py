"""The words that close a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eqv2_plugin.training.evaluation import STRESS_MAE
from eqv2_plugin.training.results import INFERENCE_CHECKPOINT

_COMPARED = (
    ("forces_mae_meV_per_A", "force", "meV/Å"),
    ("energy_mae_meV", "energy", "meV"),
    (STRESS_MAE, "stress", "meV/Å^3"),
)


def summary(
    report: dict[str, Any], results: Path, compare_with_start: bool, closing_note: str | None
) -> str:
    """The table and the lines that close a run, from the content of ``metrics.json``."""
    head = f"{'split':<10} {'what':<28} {'forces meV/Å':>13} {'energy meV':>11}"
    lines = ["", head, "-" * len(head)]

    def row(split: str, what: str, forces: float | None, energy: float | None) -> None:
        f = "-" if forces is None else f"{forces:.1f}"
        e = "-" if energy is None else f"{energy:.0f}"
        lines.append(f"{split:<10} {what:<28} {f:>13} {e:>11}")

    for name, m in report["splits"].items():
        row(name, "model", m.get("forces_mae_meV_per_A"), m["energy_mae_meV"])
        start = (report["at_start"] or {}).get(name)
        if start:
            forces = start.get("forces_mae_meV_per_A")
            row(name, "model at start", forces, start["energy_mae_meV"])
        b = report["baselines"].get(name)
        if b:
            row(name, "zero forces", b["zero_forces_mae_meV_per_A"], None)
            near = b["nearest_frame_forces_mae_meV_per_A"]
            row(name, "nearest training frame", near, b["nearest_frame_energy_mae_meV"])
            below = 100 * (1 - m["forces_mae_meV_per_A"] / b["zero_forces_mae_meV_per_A"])
            side = "below" if below >= 0 else "above"
            lines.append(f"{name:<10} force MAE is {abs(below):.0f} % {side} zero forces")
    if chosen := report.get("chosen"):
        lines += ["", f"weights of step {chosen['step']}, whose validation errors were the lowest"]
    if line := _encoding_line(report.get("denoising", {})):
        lines += ["", line]
    if compare_with_start and report["at_start"]:
        lines += ["", *improvements(report["at_start"], report["splits"])]
    checkpoint = results / INFERENCE_CHECKPOINT
    lines += ["", f"Results (metrics, plots, checkpoint): {results}"]
    lines.append(
        f'Use it: FAIRChemCalculator.from_model_checkpoint("{checkpoint}", '
        'inference_settings="batch")'
    )
    if closing_note:
        lines += ["", closing_note]
    return "\n".join(lines)


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
    shown = f"energy {metrics['energy_mae_meV']:.0f} meV"
    if "forces_mae_meV_per_A" in metrics:
        shown += f", forces {metrics['forces_mae_meV_per_A']:.1f} meV/Å"
    if STRESS_MAE in metrics:
        shown += f", stress {metrics[STRESS_MAE]:.2f} meV/Å^3"
    return shown
