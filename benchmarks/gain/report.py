"""The table and the plot of the comparison, from stored results."""

from __future__ import annotations

import math
import platform
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from gain.arms import PLAIN, Arm
from gain.plan import Experiment

_PANELS_PER_ROW = 3
FORCES, ENERGY = "forces_mae_meV_per_A", "energy_mae_meV"

# {(experiment, arm, seed): result of gain.runs.Run}
Results = dict[tuple[str, str, int], dict]


def markdown(experiments: list[Experiment], results: Results, plot: str) -> str:
    """The results of the runs that there are, a table per experiment."""
    planned = sum(len(e.seeds) * len(e.arms) for e in experiments)
    names = {experiment.name for experiment in experiments}
    own = [result for (name, _, _), result in results.items() if name in names]
    if not own:
        return "## Results\n\nNone yet.\n"
    lines = ["## Results", "", _machine(own, planned), ""]
    for experiment in experiments:
        lines += [f"### {experiment.title}", "", *_table(experiment, results), ""]
    lines += [f"![Validation error against the step]({plot})", ""]
    return "\n".join(lines)


def _machine(results: list[dict], planned: int) -> str:
    hours = sum(result["cpu_seconds"] for result in results) / 3600
    partial = sum(not _timed(result) for result in results)
    lost = f", without the parts of {partial} interrupted runs whose time was lost" * bool(partial)
    return (
        f"{len(results)} of {planned} runs, one thread each, {hours:.1f} hours of processor time "
        f"in all{lost} (the clock also counts what else the machine did). Python "
        f"{platform.python_version()}, torch {torch.__version__}, {platform.machine()}."
    )


def _timed(result: dict) -> bool:
    """Whether all of its time is known; results of earlier versions do not say when it is."""
    return result.get("seconds_complete", True)


def _table(experiment: Experiment, results: Results) -> list[str]:
    """Means and sample standard deviations over the seeds, and differences seed by seed."""
    tests = experiment.test_splits
    head = ["training", "steps", "seeds", "val forces"]
    head += [f"{t} {what}" for t in tests for what in ("forces", "vs. without DeNS", "energy")]
    head += ["noise", "s per run", "CPU s"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    baseline = _of(experiment, PLAIN, results)
    for arm in experiment.arms:
        runs = _of(experiment, arm, results)
        if not runs:
            lines.append(f"| {arm.title} | not run |" + " |" * (len(head) - 2))
            continue
        cells = [arm.title, str(next(iter(runs.values()))["steps"]), str(len(runs))]
        cells.append(_spread([r["splits"]["val"][FORCES] for r in runs.values()]))
        for test in tests:
            cells.append(_spread([r["splits"][test][FORCES] for r in runs.values()]))
            cells.append("" if arm == PLAIN else _paired(runs, baseline, test))
            cells.append(_spread([r["splits"][test][ENERGY] for r in runs.values()]))
        cells.append(_noise(list(runs.values())))
        for key in ("wall_seconds", "cpu_seconds"):
            seconds = [r[key] for r in runs.values() if _timed(r)]
            cells.append(f"{statistics.mean(seconds):.0f}" if seconds else "not known")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _of(experiment: Experiment, arm: Arm, results: Results) -> dict[int, dict]:
    return {
        seed: results[key]
        for seed in experiment.seeds
        if (key := (experiment.name, arm.name, seed)) in results
    }


def _noise(runs: list[dict]) -> str:
    """Mean error of the noise in sigma."""
    found = [r["denoising"]["noise_mae_sigma"] for r in runs if r["denoising"]]
    return f"{statistics.mean(found):.2f}" if found else ""


def _spread(values: list[float]) -> str:
    mean = statistics.mean(values)
    return f"{mean:.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def _paired(runs: dict[int, dict], baseline: dict[int, dict], test: str) -> str:
    """Of the seeds that both arms have: mean difference and its standard error, how many lower."""
    both = sorted(runs.keys() & baseline.keys())
    if not both:
        return "no pair"
    ratios = [
        runs[s]["splits"][test][FORCES] / baseline[s]["splits"][test][FORCES] - 1 for s in both
    ]
    lower = sum(ratio < 0 for ratio in ratios)
    text = f"{100 * statistics.mean(ratios):+.1f}"
    if len(both) > 1:
        text += f" ± {100 * statistics.stdev(ratios) / len(both) ** 0.5:.1f}"
    return f"{text} % (lower in {lower} of {len(both)})"


def plot_curves(experiments: list[Experiment], results: Results, path: Path) -> None:
    """Validation force MAE against the step: a panel per experiment, a line per arm."""
    rows = math.ceil(len(experiments) / _PANELS_PER_ROW)
    columns = min(len(experiments), _PANELS_PER_ROW)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4.4 * columns, 3.9 * rows), layout="constrained", squeeze=False
    )
    for axis in axes.flat[len(experiments) :]:
        axis.set_axis_off()
    for axis, experiment in zip(axes.flat, experiments, strict=False):
        lows = []
        for number, arm in enumerate(experiment.arms):
            runs = _of(experiment, arm, results)
            if not runs:
                continue
            colour = "#555555" if arm == PLAIN else f"C{number % 10}"
            # Without the validation before training, which is far off the scale.
            curves = [r["curve"][1:] for r in runs.values()]
            steps = [point[0] for point in curves[0]]
            errors = [[point[1] for point in curve] for curve in curves]
            for values in errors:
                axis.plot(steps, values, color=colour, lw=0.6, alpha=0.45)
            means = [statistics.mean(values) for values in zip(*errors, strict=True)]
            axis.plot(steps, means, color=colour, lw=2, marker="o", ms=3, label=arm.title)
            lows.append(min(means))
        axis.set(title=experiment.title, xlabel="step", yscale="log")
        axis.yaxis.set_major_formatter("{x:.0f}")
        axis.yaxis.set_minor_formatter("{x:.0f}")
        if lows:
            axis.set_ylim(0.9 * min(lows), 2.2 * min(lows))
            axis.legend(fontsize=7)
    for axis in axes[:, 0]:
        axis.set_ylabel("validation force MAE, meV/Å")
    figure.savefig(path, dpi=130)
    plt.close(figure)
