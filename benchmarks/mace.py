"""EquiformerV2 beside MACE: the same frames, the same time of the processor, one thread each.

    python benchmarks/mace.py ethanol cualloy --mace-env FOLDER
    python benchmarks/mace.py inorganic --mace-env FOLDER --data FOLDER
    python benchmarks/mace.py inorganic --sides direct --data FOLDER
    python benchmarks/mace.py ethanol --sides mace --seconds 1500

Ours trains by ``fairchem -c configs/eqv2_train.yml``, MACE by its own command, in an environment
of its own (made once). The plan is in docs/mace.md. One JSON file per run is the result, kept in
--results; a run that has one is not repeated, a run that was interrupted begins anew. The report is
made of the results that there are (``--report-only`` trains nothing).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from beside_mace.report import markdown, plot_curves
from beside_mace.sets import MACE_OPTIONS, SETS
from beside_mace.sides import DIRECT, MACE, OURS, Run
from compare.environment import mace_python

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", choices=SETS, metavar="SET", help=", ".join(SETS))
    parser.add_argument("--sides", nargs="+", choices=(OURS, DIRECT, MACE), default=[OURS, MACE])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--seconds", type=float, help="of training, instead of the set's")
    parser.add_argument("--data", type=Path, help="folder with inorganic_pbe.npz")
    parser.add_argument("--mace-env", type=Path, default=Path("runs/mace_env"))
    parser.add_argument("--out", type=Path, default=Path("runs/mace"), help="runs and frames")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "mace")
    parser.add_argument("--report", type=Path, help="Markdown file; default: in OUT")
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    out = options.out.resolve()
    options.results.mkdir(parents=True, exist_ok=True)
    if not options.report_only:
        # Not resolved: the interpreter of an environment is a link.
        python = mace_python(options.mace_env.absolute()) if MACE in options.sides else Path()
        try:
            for seed in options.seeds:
                for name in options.sets:
                    for side in options.sides:
                        train(planned(name, side, seed, options, out, python), options.results)
        except (RuntimeError, ValueError) as error:
            sys.exit(f"mace: {error}")
    results = {p.stem: json.loads(p.read_text()) for p in sorted(options.results.glob("*.json"))}
    report = options.report or out / "mace.md"
    report.parent.mkdir(parents=True, exist_ok=True)
    picture = report.with_suffix(".png")
    plot_curves(results, picture)
    text = markdown(results, picture.name)
    report.write_text(text)
    print(text)


def planned(
    name: str, side: str, seed: int, options: argparse.Namespace, out: Path, python: Path
) -> Run:
    """The run of a side on a set.

    Raises:
        ValueError: direct heads are not compared on this set.
    """
    frames = SETS[name]
    own, rate = frames.ours, frames.per_second
    if side == MACE:
        own = MACE_OPTIONS
    elif side == DIRECT:
        if frames.direct_per_second is None:
            raise ValueError(f"direct heads are not compared on {name}: leave out that side")
        own, rate = (*own, "heads=direct"), frames.direct_per_second
    seconds = options.seconds or frames.seconds
    steps = round(seconds * rate)
    return Run(frames, side, seed, out, own, seconds, steps, python, options.data)


def train(run: Run, stored: Path) -> None:
    """Execute a run that has no result.

    Raises:
        RuntimeError: it failed.
        ValueError: its result was made with other settings.
    """
    path = stored / f"{run.name}.json"
    if path.exists():
        if json.loads(path.read_text())["settings"] != run.settings:
            raise ValueError(f"{path} was made with other settings: move it, or give --results")
        return
    print(f"{run.name} begins", flush=True)
    result = run.execute()
    path.write_text(json.dumps(result) + "\n")
    print(
        f"{run.name}: forces {result['errors']['forces_mae']:.1f} meV/Å, {result['steps']} steps, "
        f"{result['seconds']:.0f} s of training",
        flush=True,
    )


if __name__ == "__main__":
    main()
