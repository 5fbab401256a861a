"""Does DeNS lower force errors? Arms with and without it, on the same frames and steps.

    python benchmarks/dens_gain.py --quick      two tiny runs of each arm: does it all work?
    python benchmarks/dens_gain.py              the plan of docs/dens_gain.md
    python benchmarks/dens_gain.py --why        the plan of docs/dens_gain_why.md
    python benchmarks/dens_gain.py --full --data FOLDER    all molecules, 100, 300 and 950 frames

Every run trains by ``fairchem -c`` with a config of this repository, in a process of its own.
Run again after an interruption: finished runs are kept, a started one goes on from its last
checkpoint. Results are kept as JSON in --results, one file per run; the report is made from
them (``--report-only`` trains nothing). With ``--results benchmarks/results/dens_gain`` those of
this repository count as finished.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from gain.plan import PLAIN, plan
from gain.report import Results, markdown, plot_curves
from gain.runs import Run

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="size", action="store_const", const="quick")
    size.add_argument("--why", dest="size", action="store_const", const="why")
    size.add_argument("--full", dest="size", action="store_const", const="full")
    parser.add_argument("--only", nargs="+", help="names of experiments")
    parser.add_argument("--data", type=Path, help="folder with <molecule>_{train,test}.npz")
    parser.add_argument("--out", type=Path, default=Path("runs/dens_gain"), help="runs and data")
    parser.add_argument("--results", type=Path, help="default: a folder in OUT")
    parser.add_argument("--report", type=Path, help="Markdown file; default: in OUT")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs at a time")
    parser.set_defaults(size="default")
    options = parser.parse_args()
    experiments = plan(options.size, options.data)
    if options.only:
        unknown = set(options.only) - {e.name for e in experiments}
        if unknown:
            known = [e.name for e in experiments]
            parser.error(f"no experiment {sorted(unknown)}; there are {known}")
        experiments = [e for e in experiments if e.name in options.only]
    out = options.out.resolve() / options.size
    stored = options.results or out / "results"
    stored.mkdir(parents=True, exist_ok=True)
    # Seeds outermost: an interrupted table has whole rows.
    seeds = sorted({seed for e in experiments for seed in e.seeds})
    runs = [
        Run(experiment, arm, seed, out)
        for seed in seeds
        for experiment in experiments
        if seed in experiment.seeds
        for arm in experiment.arms
    ]
    # Several experiments share one; where the default plan has trained it, it is not run again.
    baselines = {
        (experiment.baseline, seed): Run(
            replace(experiment, name=experiment.baseline), PLAIN, seed, out
        )
        for experiment in experiments
        if experiment.baseline
        for seed in experiment.seeds
    }
    runs += baselines.values()
    if not options.report_only:
        train(runs, stored, options.workers)
    results = load(runs, stored)
    report = options.report or out / "dens_gain.md"
    report.parent.mkdir(parents=True, exist_ok=True)
    picture = report.with_suffix(".png")
    plot_curves(experiments, results, picture)
    text = markdown(experiments, results, picture.name)
    report.write_text(text)
    print(text)
    print(f"report: {report}, results: {stored}")


def train(runs: list[Run], stored: Path, workers: int) -> None:
    """Execute what has no stored result, ``workers`` runs at a time, one thread each."""
    waiting = [run for run in runs if not (stored / f"{run.name}.json").exists()]
    print(f"{len(waiting)} of {len(runs)} runs to do, {workers} at a time", flush=True)
    with ThreadPoolExecutor(workers) as pool:
        started = {pool.submit(run.execute): run for run in waiting}
        try:
            for done, future in enumerate(as_completed(started), start=1):
                run, result = started[future], future.result()
                (stored / f"{run.name}.json").write_text(json.dumps(result, indent=1) + "\n")
                tests = {
                    name: round(split["forces_mae_meV_per_A"], 1)
                    for name, split in result["splits"].items()
                }
                print(
                    f"[{done}/{len(waiting)}] {run.name}: forces meV/Å {tests}, "
                    f"{result['steps']} steps, {result['wall_seconds']:.0f} s",
                    flush=True,
                )
        except RuntimeError as error:
            pool.shutdown(cancel_futures=True)
            sys.exit(f"dens_gain: {error}")


def load(runs: list[Run], stored: Path) -> Results:
    return {
        (run.experiment.name, run.arm.name, run.seed): json.loads(path.read_text())
        for run in runs
        if (path := stored / f"{run.name}.json").exists()
    }


if __name__ == "__main__":
    main()
