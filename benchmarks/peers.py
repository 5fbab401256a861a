"""EquiformerV2 beside what a user would pick instead: eSCN-MD of fairchem 2, and MACE.

    python benchmarks/peers.py [--repeats 5] [--threads 1] [--device cpu]

One slab of 70 atoms, random weights, the same run; each model in a process of its own, calls
alternating. MACE gets an environment of its own (--mace-env, made once), since it needs an older
e3nn; --no-mace leaves it out. A training step is forward, loss, backward and AdamW.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from compare.cases import MODELS, save_structures, structures
from compare.environment import mace_python
from compare.process import Worker, worker_script
from compare.report import processor, spread, table


def escnmd(layers: int, lmax: int, conservative: bool, ff_type: str) -> tuple[str, dict]:
    config = {"layers": layers, "lmax": lmax, "mmax": 2, "conservative": conservative}
    return "escnmd", {**config, "ff_type": ff_type}


PEERS = {
    "EquiformerV2 31M, direct": ("plugin", MODELS["31M"]),
    "EquiformerV2 83M, direct": ("plugin", MODELS["83M"]),
    "eSCN-MD K4 L2, direct": escnmd(4, 2, False, "spectral"),
    "eSCN-MD K4 L2, conservative": escnmd(4, 2, True, "spectral"),
    "eSCN-MD K10 L4, direct": escnmd(10, 4, False, "grid"),
    "MACE 128x0e+128x1o, conservative": ("mace", {"elements": [6, 8, 29]}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--mace-env", type=Path, default=Path("runs/mace_env"))
    parser.add_argument("--no-mace", action="store_true")
    options = parser.parse_args()
    chosen = {k: v for k, v in PEERS.items() if not (options.no_mace and v[0] == "mace")}
    pythons = {"plugin": sys.executable, "escnmd": sys.executable}
    if not options.no_mace:
        try:
            pythons["mace"] = str(mace_python(options.mace_env.absolute()))
        except RuntimeError as error:
            sys.exit(f"peers: {error}\nLeave it out with --no-mace")
    seconds: dict[tuple[str, str], list[float]] = {}
    parameters, workers = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "structures.npz"
        save_structures(file, structures("1 x 70 atoms"))
        try:
            for name, (script, config) in chosen.items():
                command = [pythons[script], worker_script(script)]
                workers[name] = Worker(command, options.threads, "tuned")
                answer = workers[name].ask(
                    "load",
                    config=config,
                    weights=str(Path(folder) / "none"),
                    threads=options.threads,
                    precision="fp32",
                )
                parameters[name] = answer["parameters"]
                workers[name].ask("structures", file=str(file), device=options.device)
            for repeat in range(options.repeats + 1):
                for name, worker in workers.items():
                    for work, extra in (("inference", {"frozen": True}), ("training", {})):
                        answer = worker.ask(work, precision="fp32", **extra)
                        if repeat:
                            seconds.setdefault((name, work), []).append(answer["wall"])
        finally:
            for worker in workers.values():
                worker.close()
    device = "GPU" if options.device == "cuda" else processor()
    threads = "1 thread" if options.threads == 1 else f"{options.threads} threads"
    print(f"{device}, {threads}, fp32, 70 atoms; medians (least to largest) in seconds\n")
    header = ("model", "parameters", "energy and forces", "training step", "times EquiformerV2 31M")
    first, rows = next(iter(chosen)), []
    for name in chosen:
        cells = [spread(seconds[name, work]) for work in ("inference", "training")]
        ratios = " / ".join(
            f"{statistics.median(seconds[name, w]) / statistics.median(seconds[first, w]):.2f}"
            for w in ("inference", "training")
        )
        rows.append([name, f"{parameters[name] / 1e6:.1f}M", *cells, ratios])
    print("\n".join(table(header, rows)))


if __name__ == "__main__":
    main()
