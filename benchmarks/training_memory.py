"""The largest training batch of 70-atom slabs in a given memory, beside fairchem-core 1.10's.

    python benchmarks/training_memory.py [--model 83M] [--memory 24]

Each number of structures is trained for two steps in a fresh process (default allocator), whose
peak memory is read off. Memory grows with the structures along a line; the largest batch is where
the line meets --memory (GB), so the last column is an extrapolation.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from compare.cases import MODELS, save_structures, slab
from compare.environment import reference_python
from compare.process import Worker, WorkerError, worker_script
from compare.report import processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="83M")
    parser.add_argument("--memory", type=float, default=24.0, help="GB")
    parser.add_argument("--reference-env", type=Path, default=Path("runs/reference_env"))
    options = parser.parse_args()
    reference = [str(reference_python(options.reference_env.absolute()))]
    ours = [sys.executable, worker_script("plugin")]
    commands = {
        "fairchem-core 1.10": ([*reference, worker_script("reference")], (1, 2)),
        "this package": (ours, (1, 2, 4)),
        "this package, recomputing": ([*ours, "--recompute"], (1, 2, 4, 8)),
    }
    print(f"{processor()}, {options.model}, GB of a process with so many slabs of 70 atoms\n")
    print(f"| | 1 | 2 | 4 | 8 | per slab | largest batch in {options.memory:g} GB |")
    print("|---|---|---|---|---|---|---|")
    for name, (command, counts) in commands.items():
        peaks = {}
        for count in counts:
            try:
                peaks[count] = peak(command, options.model, count)
            except WorkerError as error:
                print(f"{name} with {count}: {error}", file=sys.stderr)
        cells = [f"{peaks[n]:.1f}" if n in peaks else "" for n in (1, 2, 4, 8)]
        if len(peaks) > 1:
            slope, base = np.polyfit(list(peaks), list(peaks.values()), 1)
            cells += [f"{slope:.2f}", str(int((options.memory - base) // slope))]
        print("| " + " | ".join([name, *cells]) + " |", flush=True)


def peak(command: list[str], name: str, count: int) -> float:
    """GB of the process during two training steps."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "structures.npz"
        frames = [slab((4, 4, 4), 3, seed) for seed in range(count)]
        save_structures(file, frames)
        with Worker(command, 1, "default") as worker:
            weights = str(Path(folder) / "weights.pt")
            config = MODELS[name]
            worker.ask("load", config=config, weights=weights, threads=1, precision="fp32")
            worker.ask("structures", file=str(file), device="cpu")
            answers = [worker.ask("training", precision="fp32") for _ in range(2)]
    return max(answer["memory_peak"] for answer in answers) / 1024


if __name__ == "__main__":
    main()
