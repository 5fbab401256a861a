"""Equiformer's MD17 recipes: beside EquiformerV2's in equal time, and with DeNS beside without.

    python benchmarks/equiformer_gain.py              all runs of docs/equiformer_v1_gain.md
    python benchmarks/equiformer_gain.py --only ethanol-100-4000 --seeds 0 1 --most 2
    python benchmarks/equiformer_gain.py --report-only

Every run trains by ``fairchem -c`` with a recipe of this repository, in a process of its own, on
the frames that `dens_gain.py` draws for the same seed, whose stored runs of EquiformerV2 are the
other side. Run again after an interruption: finished runs are kept, a started one goes on from its
last checkpoint. One JSON file per run is the result, kept in --results.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path

from dens_gain import load, runs_of, train
from gain.arms import PLAIN, Arm
from gain.plan import REPORTED, Experiment, molecule
from gain.report import FORCES, Results
from gain.runs import Run

HERE = Path(__file__).parent
DENS = Arm("dens", "DeNS, 1 kcal/mol/Å, counts per task")
# EquiformerV2's runs on the same frames: those of docs/dens_gain.md have the same names. One with
# half the steps, which takes as long as Equiformer's twice as many, is of this plan.
HALF = replace(molecule("ethanol", 100, 1000, REPORTED[:1], (PLAIN,)), name="eqv2-ethanol-100-1000")
THEIRS = {"ethanol-100-2000": HALF.name}


def experiment(
    name: str,
    frames: int,
    steps: int,
    seeds: tuple[int, ...],
    arms: tuple[Arm, ...],
    **options: int,
) -> Experiment:
    """Frames and steps as in `gain.plan.molecule`, trained by Equiformer's recipes."""
    alike = molecule(name, frames, steps, seeds, arms, **options)
    return replace(
        alike,
        plain_config="equiformer_v1_md17.yml",
        dens_config="equiformer_v1_dens_md17.yml",
        # Their model has an S2 grid.
        overrides=tuple(o for o in alike.overrides if not o.startswith("model.")),
    )


def plan() -> list[Experiment]:
    """In the order of their worth."""
    both = (PLAIN, DENS)
    return [
        HALF,
        experiment("ethanol", 100, 2000, REPORTED[:1], both),
        experiment("ethanol", 100, 4000, REPORTED, both),
        experiment("aspirin", 100, 4000, REPORTED, both, batch_size=2),
        experiment("ethanol", 950, 3800, REPORTED[:3], (PLAIN,)),
        experiment("ethanol", 100, 12000, REPORTED, both),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", help="names of experiments")
    parser.add_argument("--seeds", nargs="+", type=int, help="of the plan's")
    parser.add_argument("--arms", nargs="+", help="plain, dens")
    parser.add_argument("--most", type=int, help="runs to do now")
    parser.add_argument("--out", type=Path, default=Path("runs/equiformer_gain"))
    parser.add_argument("--results", type=Path, default=HERE / "results" / "equiformer_gain")
    parser.add_argument("--compile", action="store_true", help="training steps")
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    everything = plan()
    chosen = [e for e in everything if options.only is None or e.name in options.only]
    # Seeds outermost, but one experiment after the other.
    runs = [
        Run(e, arm, seed, options.out.resolve(), options.compile)
        for e in chosen
        for seed in e.seeds
        for arm in e.arms
        if options.seeds is None or seed in options.seeds
        if options.arms is None or arm.name in options.arms
    ]
    if not runs:
        parser.error("no run of the plan has these names and seeds")
    try:
        if not options.report_only:
            train(runs, options.results, 1, options.most)
        results = load(runs_of(everything, options.out.resolve()), options.results)
    except (RuntimeError, ValueError) as error:
        sys.exit(f"equiformer_gain: {error}")
    for one in chosen:
        if one == HALF:
            continue
        print("\n".join(["", f"#### {one.title}", "", *table(one, results)]))


def table(one: Experiment, results: Results) -> list[str]:
    """Seed by seed: test errors of forces, and the processor's time."""
    lines = [
        "| seed | EquiformerV2 | s | Equiformer | s | with DeNS | s |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    differences = {"EquiformerV2": [], "DeNS": []}
    for seed in one.seeds:
        theirs = _theirs(one.name, seed, results)
        plain, dens = (results.get((one.name, arm, seed)) for arm in ("plain", "dens"))
        cells = [str(seed)]
        for result in (theirs, plain, dens):
            cells += ["", ""] if result is None else [f"{_error(result):.1f}", _seconds(result)]
        lines.append(f"| {' | '.join(cells)} |")
        if plain and theirs:
            differences["EquiformerV2"].append(_error(plain) / _error(theirs) - 1)
        if plain and dens:
            differences["DeNS"].append(_error(dens) / _error(plain) - 1)
    lines.append("")
    says = {"EquiformerV2": "Equiformer against EquiformerV2", "DeNS": "DeNS against without"}
    for key, found in differences.items():
        if found:
            lower = sum(value < 0 for value in found)
            lines.append(
                f"{says[key]}: {100 * statistics.mean(found):+.1f} % in the mean, lower in {lower} "
                f"of {len(found)} seeds."
            )
    return lines


def _theirs(name: str, seed: int, results: Results) -> dict | None:
    """EquiformerV2's run on the same frames: of this plan where it names one, else a stored one."""
    if name in THEIRS:
        return results.get((THEIRS[name], "plain", seed))
    path = HERE / "results" / "dens_gain" / f"{name}-plain-{seed}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _error(result: dict) -> float:
    return result["splits"]["test"][FORCES]


def _seconds(result: dict) -> str:
    complete = result.get("seconds_complete", True)
    return f"{result['cpu_seconds']:.0f}" + ("" if complete else " and more")


if __name__ == "__main__":
    main()
