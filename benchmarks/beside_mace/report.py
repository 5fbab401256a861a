"""The table and the picture of the comparison with MACE, from stored results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from beside_mace.sets import SETS

_ERRORS = ("forces_mae", "forces_rmse", "energy_mae", "energy_mae_beside_shift")
# {name of a run: result of `sides.Run.execute`}
Results = dict[str, dict[str, Any]]
_SIDES = {"ours": "eqv2_train.yml", "direct": "the same, heads=direct", "mace": "MACE"}
_COLOURS = {"ours": "C0", "direct": "C2", "mace": "C1"}
_HEAD = (
    "frames", "side", "seed", "forces MAE", "forces RMSE", "energy MAE", "beside its shift",
    "per atom", "steps", "seconds of training", "of compiling",
)  # fmt: skip


def markdown(results: Results, plot: str) -> str:
    """A row for each run: forces in meV/Å, energies in meV, also about the median error."""
    if not results:
        return "None yet.\n"
    lines = [f"| {' | '.join(_HEAD)} |", "|---|---|" + "---:|" * (len(_HEAD) - 2)]
    for name, result in sorted(results.items(), key=lambda item: _place(item[0])):
        frames, _, side, seed = _words(name)
        errors = result["errors"]
        shown = [
            *(f"{errors[key]:.1f}" for key in _ERRORS),
            f"{errors['energy_per_atom_mae']:.2f}",
            f"{result['steps']:,}",
            f"{result['seconds']:.0f}",
            f"{result['compiling']:.0f}" if result.get("compiling") else "",
        ]
        cells = [SETS[frames].title, _SIDES[side], seed, *shown]
        lines.append(f"| {' | '.join(cells)} |")
    zero = {_words(n)[0]: r["errors"]["zero_forces_mae"] for n, r in results.items()}
    said = ", ".join(f"{SETS[name].name} {value:.0f}" for name, value in sorted(zero.items()))
    return "\n".join([*lines, "", f"Zero forces: {said} meV/Å.", "", f"![Curves]({plot})", ""])


def plot_curves(results: Results, path: Path) -> None:
    """Validation error of forces against the time of training: a panel for each set."""
    names = [name for name in SETS if any(_words(run)[0] == name for run in results)]
    if not names:
        return
    figure, axes = plt.subplots(
        1, len(names), figsize=(4.4 * len(names), 3.6), layout="constrained", squeeze=False
    )
    for axis, frames in zip(axes[0], names, strict=True):
        for run, result in sorted(results.items()):
            if _words(run)[0] != frames:
                continue
            side = _words(run)[2]
            seconds, errors = zip(*result["curve"][1:], strict=True)
            axis.plot(seconds, errors, "o-", ms=3, color=_COLOURS[side], label=_SIDES[side])
        axis.set(title=SETS[frames].name, xlabel="seconds of training", yscale="log")
        low, high = axis.get_ylim()
        # A curve that is flat shall look flat.
        axis.set_ylim(0.8 * low, 1.25 * high)
        axis.yaxis.set_major_formatter("{x:.0f}")
        axis.yaxis.set_minor_formatter("{x:.0f}")
        axis.legend(fontsize=8)
    axes[0, 0].set_ylabel("validation force MAE, meV/Å")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _words(name: str) -> tuple[str, float, str, str]:
    """Of a run's name: set, seconds, side and seed."""
    frames, seconds, side, seed = name.split("-")
    return frames, float(seconds.removesuffix("s")), side, seed


def _place(name: str) -> tuple[int, float, str, int]:
    frames, seconds, side, seed = _words(name)
    return list(SETS).index(frames), seconds, seed, list(_SIDES).index(side)
