"""The list of all checks, and what they find as JSON and as a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from eqv2_plugin.common.figures import TALK, save_png
from eqv2_plugin.common.findings import Finding, Verdict
from eqv2_plugin.doctor import denoising, gradient, nve, speed, symmetry
from eqv2_plugin.doctor.examination import CannotRunError, Examination, Outcome

CHECKS: dict[str, Callable[[Examination], Outcome]] = {
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
    "encoded forces": denoising.encoded_forces,
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
        if check is denoising.encoded_forces and exam.subject.denoise is None:
            continue
        progress(name)
        try:
            outcome = check(exam)
        except CannotRunError as error:
            outcome = Verdict.NOT_RUN, str(error), {}
        except Exception as error:
            # A model that fails on a sound structure is a finding, not an end.
            outcome = Verdict.BAD, f"failed with {type(error).__name__}: {error}", {}
        exam.findings.append(Finding(name, *outcome))


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The findings as JSON values; a number that is not finite becomes text."""
    return [
        {
            "check": found.check,
            "verdict": str(found.verdict),
            "text": found.text,
            "numbers": {k: v if math.isfinite(v) else str(v) for k, v in found.numbers.items()},
        }
        for found in findings
    ]


def plot(exam: Examination, title: str, path: Path) -> None:
    """Write the measurements behind the table into a PNG file; one without says so."""
    with plt.rc_context(TALK):
        save_png(_figure(exam, title), path)


def _figure(exam: Examination, title: str) -> Figure:
    figure, axes = plt.subplots(2, 2, figsize=(11.0, 8.4), layout="constrained")
    for axis, (name, (draw, heading, x, y)) in zip(axes.flat, _PANELS.items(), strict=True):
        axis.set(title=heading, xlabel=x, ylabel=y)
        if name in exam.measured:
            draw(axis, exam.measured[name])
        else:
            axis.text(0.5, 0.5, "not run", ha="center", transform=axis.transAxes, color="grey")
        axis.grid(alpha=0.3)
    figure.suptitle(title, wrap=True)
    return figure
