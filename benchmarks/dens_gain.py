"""Does DeNS lower force errors? Arms with and without it, on the same frames and steps.

    python benchmarks/dens_gain.py quick            two tiny runs of each arm: does it all work?
    python benchmarks/dens_gain.py scale causes     parts of docs/dens_gain_plan.md
    python benchmarks/dens_gain.py gain --only ethanol-100-4000 --seeds 0 1 --most 2
    python benchmarks/dens_gain.py molecule --data FOLDER

Every run trains by ``fairchem -c`` with a config of this repository, in a process of its own.
Run again after an interruption: finished runs are kept, a started one goes on from its last
checkpoint. One JSON file per run is the result, kept in --results (by default those of this
repository); the report is made of those that there are (``--report-only`` trains nothing).
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from gain.arms import Arm
from gain.plan import PARTS, Experiment, plan
from gain.report import Results, markdown, plot_curves
from gain.runs import Run

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--only", nargs="+", help="names of experiments")
    parser.add_argument("--arms", nargs="+", help="names of arms, in this order")
    parser.add_argument("--seeds", nargs="+", type=int, help="of the plan's")
    parser.add_argument("--most", type=int, help="runs to do now")
    parser.add_argument("--data", type=Path, help="folder with <molecule>_{train,test}.npz")
    parser.add_argument("--out", type=Path, default=Path("runs/dens_gain"), help="runs and data")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "dens_gain")
    parser.add_argument("--report", type=Path, help="Markdown file; default: in OUT")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    parser.add_argument("--compile", action="store_true", help="training steps of molecules")
    options = parser.parse_args()
    experiments = [e for part in options.parts for e in plan(part, options.data)]
    experiments = [e for e in experiments if options.only is None or e.name in options.only]
    out = options.out.resolve()
    # What is for trying out does not lie among the results.
    stored = out / "quick" if "quick" in options.parts else options.results
    stored.mkdir(parents=True, exist_ok=True)
    try:
        chosen = runs_of(experiments, out, options.arms, options.seeds, compiled=options.compile)
        if not chosen:
            parser.error("no run of the plan has these names and seeds")
        if not options.report_only:
            train(chosen, stored, options.workers, options.most)
        results = load(runs_of(experiments, out), stored)
    except (RuntimeError, ValueError) as error:
        sys.exit(f"dens_gain: {error}")
    report = options.report or out / "dens_gain.md"
    report.parent.mkdir(parents=True, exist_ok=True)
    picture = report.with_suffix(".png")
    plot_curves(experiments, results, picture)
    text = markdown(experiments, results, picture.name)
    report.write_text(text)
    print(text)
    print(f"report: {report}, results: {stored}")


def runs_of(
    experiments: list[Experiment],
    out: Path,
    arms: list[str] | None = None,
    seeds: list[int] | None = None,
    *,
    compiled: bool = False,
) -> list[Run]:
    """Seeds outermost: an interrupted table has whole rows; ``arms`` in the order given."""

    def chosen(experiment: Experiment) -> list[Arm]:
        if arms is None:
            return list(experiment.arms)
        return [arm for name in arms for arm in experiment.arms if arm.name == name]

    return [
        Run(experiment, arm, seed, out, compiled and experiment.sample != "oc20_sample")
        for seed in sorted({seed for e in experiments for seed in e.seeds})
        for experiment in experiments
        if seed in experiment.seeds and (seeds is None or seed in seeds)
        for arm in chosen(experiment)
    ]


def train(runs: list[Run], stored: Path, workers: int, most: int | None) -> None:
    """Execute what has no stored result, ``workers`` runs at a time, one thread each.

    Raises:
        RuntimeError: a run failed.
    """
    waiting = [run for run in runs if not (stored / f"{run.name}.json").exists()]
    print(f"{len(waiting)} of {len(runs)} runs to do, {workers} at a time", flush=True)
    waiting = waiting[:most]
    with ThreadPoolExecutor(workers) as pool:
        started = {pool.submit(run.execute): run for run in waiting}
        try:
            for done, future in enumerate(as_completed(started), start=1):
                run, result = started[future], future.result()
                (stored / f"{run.name}.json").write_text(json.dumps(result) + "\n")
                tests = {
                    name: round(split["forces_mae_meV_per_A"], 1)
                    for name, split in result["splits"].items()
                }
                print(
                    f"[{done}/{len(waiting)}] {run.name}: forces meV/Å {tests}, "
                    f"{result['steps']} steps, {result['wall_seconds']:.0f} s, "
                    f"CPU {result['cpu_seconds']:.0f} s",
                    flush=True,
                )
        except RuntimeError:
            pool.shutdown(cancel_futures=True)
            raise


def load(runs: list[Run], stored: Path) -> Results:
    """What is there of these runs, by experiment, arm and seed.

    Raises:
        ValueError: a result that was made with other settings.
    """
    found: Results = {}
    for run in runs:
        path = stored / f"{run.name}.json"
        if not path.exists():
            continue
        result = json.loads(path.read_text())
        # Those of the first comparison do not say.
        if result.get("settings", run.settings) != run.settings:
            raise ValueError(f"{path} was made with {result['settings']}, not {run.settings}")
        found[run.experiment.name, run.arm.name, run.seed] = result
    return found


if __name__ == "__main__":
    main()
