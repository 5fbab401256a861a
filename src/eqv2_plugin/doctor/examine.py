"""The list of all checks, and their findings as a table, as JSON and as a picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from eqv2_plugin.common.files import atomic_write
from eqv2_plugin.doctor import gradient, nve, speed, symmetry
from eqv2_plugin.doctor.examination import CannotRunError, Examination, Finding, Verdict

CHECKS: dict[str, Callable[[Examination], Finding]] = {
    "rotation, float32": partial(symmetry.rotation, precision="float32"),
    "rotation, float64": partial(symmetry.rotation, precision="float64"),
    "stress under rotation": symmetry.stress,
    "permutation": symmetry.permutation,
    "translation and images": symmetry.translation,
    "alone or in a batch": symmetry.batch,
    "same input twice": symmetry.repeat,
    "net force": symmetry.net_force,
    "force Jacobian symmetric": gradient.jacobian,
    "forces against energy": gradient.gradient,
    "energy in NVE run": nve.nve,
    "speed": speed.speed,
}
# What is measured: how it is drawn, title and axes.
_PANELS = {
    "rotations": (symmetry.plot, "change of forces under rotation",
                  "largest change / largest force", "rotations"),
    "differences": (gradient.plot, "force Jacobian", "J[i, k], eV/Å²", "J[k, i], eV/Å²"),
    "run": (nve.plot, "energy in NVE run", "time, ps", "total energy, meV per atom"),
    "timings": (speed.plot, "time", "structures in the batch", "seconds per structure"),
}  # fmt: skip


def examine(exam: Examination, progress: Callable[[str], None] = lambda name: None) -> None:
    """Run all checks; ``progress`` is told the name of each before it begins."""
    for name, check in CHECKS.items():
        if check is symmetry.stress and not exam.subject.stress:
            continue
        progress(name)
        try:
            exam.findings[name] = check(exam)
        except CannotRunError as error:
            exam.findings[name] = Finding(Verdict.NOT_RUN, str(error))
        except Exception as error:
            # A model that fails on a sound structure is a finding, not an end.
            text = f"failed with {type(error).__name__}: {error}"
            exam.findings[name] = Finding(Verdict.BAD, text)


def table(exam: Examination) -> str:
    """One line per check, in columns."""
    width = max(map(len, exam.findings))
    return "\n".join(f"{n:<{width}}  {f.verdict:<7}  {f.text}" for n, f in exam.findings.items())


def as_json(exam: Examination) -> list[dict[str, Any]]:
    """The findings as JSON values; a number that is not finite becomes text."""
    return [
        {
            "check": name,
            "verdict": str(found.verdict),
            "text": found.text,
            "numbers": {k: v if math.isfinite(v) else str(v) for k, v in found.numbers.items()},
        }
        for name, found in exam.findings.items()
    ]


def plot(exam: Examination, title: str, path: Path) -> None:
    """Write the measurements behind the table into a PNG file; one without says so."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9.6, 7.4), layout="constrained")
    for axis, (name, (draw, heading, x, y)) in zip(axes.flat, _PANELS.items(), strict=True):
        axis.set(title=heading, xlabel=x, ylabel=y)
        if name in exam.measured:
            draw(axis, exam.measured[name])
        else:
            axis.text(0.5, 0.5, "not run", ha="center", transform=axis.transAxes, color="grey")
        axis.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    with atomic_write(path) as building:
        figure.savefig(building, dpi=130)
    plt.close(figure)
