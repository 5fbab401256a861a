"""Steps of molecules and tiny models, compiled and not, beside an earlier commit of this package.

    git worktree add /tmp/earlier COMMIT
    python benchmarks/small_systems.py --earlier /tmp/earlier [--repeats 9] [--cases NAME ...]
    python benchmarks/small_systems.py --together --cases NAME NAME ...

Training steps of four structures (forward, loss, backward, AdamW) and steps of molecular dynamics
of ethanols, with one thread. Processes of both commits take turns, a few steps each; printed are
medians of the processor's time, ratios, the time of the first step (which compiles; the clock's)
and how many operators a step runs. With ``--together`` it is the cases that take turns, and ratios
are to the first of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path

from compare.process import Worker, worker_script

ROOT = Path(__file__).parents[1]
# Kind, recipe, sample, name of the data set and, of dynamics, number of molecules.
CASES = {
    "MD17, conservative": ("training", "eqv2_md17", "rmd17_ethanol", "md17"),
    "MD17, conservative, DeNS": ("training", "eqv2_dens_md17", "rmd17_ethanol", "md17"),
    "Equiformer, conservative": ("training", "equiformer_v1_md17", "rmd17_ethanol", "md17"),
    "Equiformer, conservative, DeNS": (
        "training",
        "equiformer_v1_dens_md17",
        "rmd17_ethanol",
        "md17",
    ),
    "OC20 sample, direct, DeNS": ("training", "eqv2_dens_oc20", "oc20_sample", "oc20"),
    "dynamics of one ethanol": ("dynamics", "eqv2_md17", "rmd17_ethanol", "md17", 1),
    "dynamics of five ethanols": ("dynamics", "eqv2_md17", "rmd17_ethanol", "md17", 5),
}
STEPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--earlier", type=Path, help="a working tree of the commit to compare with")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--together", action="store_true", help="cases take turns")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    trees = {"now": (ROOT, False), "compiled": (ROOT, True)}
    if options.earlier is not None:
        trees = {"earlier": (options.earlier.resolve(), False), **trees}
    print("| step | version | ms (least to largest) | times as fast | first step, s | operators |")
    print("|---|---|---|---|---|---|")
    if options.together:
        turns = [{(case, version): trees[version] for case in options.cases} for version in trees]
    else:
        turns = [{(case, version): trees[version] for version in trees} for case in options.cases]
    for contestants in turns:
        in_turns(contestants, options.repeats)


def in_turns(contestants: dict[tuple[str, str], tuple[Path, bool]], repeats: int) -> None:
    """Time {(case, version): (working tree, whether it compiles)}, and print a row of each."""
    workers = {one: started(tree) for one, (tree, _) in contestants.items()}
    first = {}
    for (case, version), worker in workers.items():
        kind, recipe, *rest = CASES[case]
        tree, compiles = contestants[case, version]
        config = str(tree / "configs" / f"{recipe}.yml")
        first[case, version] = worker.ask(
            "prepare", name=case, kind=kind, config=config, arguments=[*rest, compiles]
        )
    times: dict[tuple[str, str], list[float]] = {one: [] for one in workers}
    for _ in range(repeats):
        for one, worker in workers.items():
            times[one].append(1e3 * worker.ask("steps", name=one[0], count=STEPS)["seconds"])
    for worker in workers.values():
        worker.close()
    base = next(iter(times.values()))
    for (case, version), found in times.items():
        ratio = statistics.median(b / f for b, f in zip(base, found, strict=True))
        seen = first[case, version]
        took = f"{statistics.median(found):.0f} ({min(found):.0f} to {max(found):.0f})"
        cells = case, version, took, f"{ratio:.1f}", f"{seen['seconds']:.0f}"
        print(f"| {' | '.join([*cells, str(seen['operators'] or '')])} |", flush=True)


def started(tree: Path) -> Worker:
    """A worker whose package is that of a working tree."""
    os.environ["PYTHONPATH"] = str(tree / "src")
    return Worker([sys.executable, worker_script("small")], threads=1, allocator="default")


if __name__ == "__main__":
    main()
