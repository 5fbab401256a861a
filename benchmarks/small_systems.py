"""Steps of molecules and tiny models, compiled and not, beside an earlier commit of this package.

    git worktree add /tmp/earlier COMMIT
    python benchmarks/small_systems.py --earlier /tmp/earlier [--repeats 9] [--cases NAME ...]

Training steps of four structures (forward, loss, backward, AdamW) and steps of molecular dynamics
of ethanols, with one thread. Processes of both commits take turns, a few steps each; printed are
medians of the processor's time, ratios, the time of the first step (which compiles; the clock's)
and how many operators a step runs.
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
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    trees = {"now": (ROOT, False), "compiled": (ROOT, True)}
    if options.earlier is not None:
        trees = {"earlier": (options.earlier.resolve(), False), **trees}
    print("| step | version | ms (least to largest) | times as fast | first step, s | operators |")
    print("|---|---|---|---|---|---|")
    for name in options.cases:
        kind, recipe, *rest = CASES[name]
        workers = {version: started(tree) for version, (tree, _) in trees.items()}
        first = {
            version: worker.ask(
                "prepare",
                name=name,
                kind=kind,
                config=str(trees[version][0] / "configs" / f"{recipe}.yml"),
                arguments=[*rest, trees[version][1]],
            )
            for version, worker in workers.items()
        }
        times: dict[str, list[float]] = {version: [] for version in workers}
        for _ in range(options.repeats):
            for version, worker in workers.items():
                times[version].append(1e3 * worker.ask("steps", name=name, count=STEPS)["seconds"])
        for worker in workers.values():
            worker.close()
        base = next(iter(times.values()))
        for version, found in times.items():
            ratio = statistics.median(b / f for b, f in zip(base, found, strict=True))
            operators = first[version]["operators"] or ""
            took = f"{statistics.median(found):.0f} ({min(found):.0f} to {max(found):.0f})"
            start = f"{first[version]['seconds']:.0f}"
            cells = name, version, took, f"{ratio:.1f}", start, str(operators)
            print(f"| {' | '.join(cells)} |", flush=True)


def started(tree: Path) -> Worker:
    """A worker whose package is that of a working tree."""
    os.environ["PYTHONPATH"] = str(tree / "src")
    return Worker([sys.executable, worker_script("small")], threads=1, allocator="default")


if __name__ == "__main__":
    main()
