"""The whole chain of AdsorbML on metals that ASE's EMT knows, with EMT in the place of DFT.

    python benchmarks/adsorbml_emt.py --quick    tiny sizes: does everything work? (minutes)
    python benchmarks/adsorbml_emt.py            the tables of docs/adsorbml_emt.md

Frames of small slabs with a nitrogen atom are made and labelled with EMT; an EquiformerV2 learns
them; AdsorbML relaxes 20 other placements on each of five surfaces with it; EMT calculates single
points of the best, and relaxes all placements for comparison. Run again after an interruption:
steps that are finished are kept, training and relaxations go on where they stopped. Needs
`pip install 'eqv2-plugin[catalysis]'`.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase.io import read, write
from emt_frames import (
    ADSORBATE,
    MODE,
    SEEDS,
    SURFACES,
    clean_slab,
    emt_energy,
    emt_slab,
    frames_of,
    relax_placements,
)
from one_thread import ENVIRONMENT

from eqv2_plugin.common import manifest
from eqv2_plugin.common.files import save_text
from eqv2_plugin.data.sample import write_ase_db
from eqv2_plugin.tasks.adsorbml.metrics import is_success
from eqv2_plugin.tasks.adsorbml.results import SystemResult, load_results

CONFIGS = Path(__file__).parents[1] / "configs"
OPTIONS = (
    "scale=sample", "energy_coefficient=20", "model.backbone.cutoff=4.2",
    "model.backbone.avg_num_nodes=19", "model.backbone.avg_degree=12",
)  # fmt: skip
# Placements per surface, and most steps of a relaxation.
FULL = {"train": 14, "val_id": 2, "epochs": 3, "placements": 20, "steps": 300}
QUICK = {"train": 1, "val_id": 1, "epochs": 1, "placements": 2, "steps": 3}
MAINS = {
    "fairchem": "from fairchem.core._cli import main; main()",
    "eqv2": "import sys; from eqv2_plugin.cli import main; sys.exit(main())",
}


class Chain:
    """All steps in one folder; each leaves a file and is not repeated where that is there."""

    def __init__(self, out: Path, sizes: dict[str, int]) -> None:
        self.out, self.sizes = out, sizes
        self.results, self.trained = out / "adsorbml/default/results", out / "model/results"
        out.mkdir(parents=True, exist_ok=True)
        manifest.begin(out / "settings.json", {**sizes, "options": OPTIONS}, out, "a chain")

    def run(self) -> None:
        out = self.out
        self.step("slabs", self.write_slabs)
        self.step("input.json", self.make_input)
        for split in SEEDS:
            self.step(f"data/{split}", lambda folder, split=split: self.write_split(folder, split))
        fit, best = ("data", "fit-normalizer"), ("adsorbml", "single-points")
        self.step(
            "normalizer.yaml", lambda path: self.eqv2(*fit, out / "data/train", "--out", path)
        )
        self.step("model/results/inference_ckpt.pt", self.train)
        self.step("adsorbml/default/results/report.html", self.adsorbml)
        self.step("dft", lambda path: self.eqv2(*best, self.results, "-k", "5", "--out", path))
        self.step("single_points.csv", self.fill_single_points)
        self.step("references.json", self.relax_with_emt)
        self.step("score.json", self.score)

    def step(self, name: str, make: Callable[[Path], Any]) -> None:
        """Make a file or a folder; what is half written has another name."""
        path = self.out / name
        if path.exists():
            return
        print(f"{name} ...", end=" ", flush=True)
        start, building = time.monotonic(), path.with_name(f".{path.name}")
        shutil.rmtree(building, ignore_errors=True)
        make(building)
        if building.exists():  # the jobs of fairchem look after themselves
            building.rename(path)
        print(f"{time.monotonic() - start:.0f} s", flush=True)

    def eqv2(self, *arguments: str | Path, program: str = "eqv2") -> None:
        """A command of the package, in a process of one thread; its output goes to log.txt."""
        command = [sys.executable, "-c", MAINS[program], *map(str, arguments)]
        with (self.out / "log.txt").open("a") as log:
            done = subprocess.run(
                command, env={**os.environ, **ENVIRONMENT}, stdout=log, stderr=log, check=False
            )
        if done.returncode:
            sys.exit(f"{program} {' '.join(command[3:])} failed, see {self.out / 'log.txt'}")

    def fairchem(self, config: str, *options: str) -> None:
        self.eqv2("-c", CONFIGS / config, *options, "job.device_type=CPU", program="fairchem")

    def write_slabs(self, folder: Path) -> None:
        for kind in ("initial", "relaxed"):
            (folder / kind).mkdir(parents=True)
            for surface in SURFACES:
                atoms = clean_slab(surface) if kind == "initial" else emt_slab(surface)[0]
                write(folder / kind / f"{surface}.traj", atoms)

    def make_input(self, path: Path) -> None:
        initial, relaxed = (
            [self.out / "slabs" / kind / f"{surface}.traj" for surface in SURFACES]
            for kind in ("initial", "relaxed")
        )
        self.eqv2("adsorbml", "input", *initial, "--relaxed", *relaxed, "--adsorbates", ADSORBATE,
                  "--out", path)  # fmt: skip

    def write_split(self, folder: Path, split: str) -> None:
        folder.mkdir(parents=True)
        frames = [frame for s in SURFACES for frame in frames_of(s, split, self.sizes[split])]
        write_ase_db(frames, folder)

    def train(self, _: Path) -> None:
        fitted = yaml.safe_load((self.out / "normalizer.yaml").read_text())
        normalizers = [
            f"{key}.{name}={fitted[key][name]}"
            for key in ("energy_normalizer", "force_normalizer")
            for name in ("mean", "rmsd")
        ]
        # The same command goes on after a kill, from its last checkpoint.
        self.fairchem(
            "eqv2_oc20.yml", f"run_dir={self.out}", "run_name=model",
            f"data_root={self.out / 'data'}", "data.train_repeats=1", "~data.val_splits.val_ood",
            "data.energy_reference='EMT energy minus clean slab minus isolated atom (adsorption "
            "energy)'", "with_baselines=false", "closing_note=null",
            f"epochs={self.sizes['epochs']}", *normalizers, *OPTIONS,
        )  # fmt: skip

    def adsorbml(self, _: Path) -> None:
        self.fairchem(
            "adsorbml_batched.yml", f"run_dir={self.out / 'adsorbml'}",
            f"checkpoint={self.trained / 'inference_ckpt.pt'}", f"input={self.out / 'input.json'}",
            f"placements.{MODE}={self.sizes['placements']}",
            f"relaxation.steps={self.sizes['steps']}",
        )  # fmt: skip

    def fill_single_points(self, path: Path) -> None:
        with (self.out / "dft/single_points.csv").open() as file:
            rows = list(csv.DictReader(file))
        offsets = {row["system"]: emt_slab(row["system"].split("_")[0])[1] for row in rows}
        for row in rows:
            energy = emt_energy(read(self.out / "dft" / row["folder"] / "POSCAR"))
            row.update(energy=energy - offsets[row["system"]], ionic_steps=1)
            del row["scf_steps"]  # EMT has none
        write_csv(path, rows)

    def relax_with_emt(self, path: Path) -> None:
        found = [relax_placements(result) for result in load_results(self.results)]
        save_text(path, json.dumps(found, indent=1) + "\n")

    def score(self, path: Path) -> None:
        best = self.out / "best.csv"
        write_csv(
            best,
            [
                {"system": r["system"], "energy": min(r["relaxed"]), "ionic_steps": r["steps"]}
                for r in self.references()
            ],
        )
        self.eqv2(
            "adsorbml", "score", self.results, "--dft", self.out / "single_points.csv", "--best",
            best, "--report", self.out / "score.html", "--plot", self.out / "score.png", "--json",
            path,
        )  # fmt: skip

    def references(self) -> list[dict[str, Any]]:
        return json.loads((self.out / "references.json").read_text())

    def tables(self) -> str:
        """Those of docs/adsorbml_emt.md."""
        metrics = json.loads((self.trained / "metrics.json").read_text())
        score = json.loads((self.out / "score.json").read_text())
        references = self.references()
        errors = [
            [name, f"{m['energy_mae_meV']:.1f}", f"{m['forces_mae_meV_per_A']:.1f}",
             f"{m['forces_cosine']:.3f}"]
            for name, m in (("before training", metrics["at_start"]["val_id"]),
                            ("after", metrics["splits"]["val_id"]))
        ]  # fmt: skip
        rates = []
        for row in score["k"]:
            drawn, unrelaxed = (
                np.mean([chance(r[kind], min(r["relaxed"]), row["k"]) for r in references])
                for kind in ("predicted", "unrelaxed")
            )
            shares = (row["success_rate"], row["much_better_rate"], drawn, unrelaxed)
            rates.append(
                [
                    row["k"],
                    *(f"{100 * share:.0f}" for share in shares),
                    f"{row['ionic_speedup']:.0f}",
                ]
            )
        surfaces = [
            surface_row(*pair) for pair in zip(load_results(self.results), references, strict=True)
        ]
        return "\n\n".join([
            f"{metrics['steps']:,} steps, {metrics['facts']['parameters']:,} parameters",
            markdown("| energy MAE, meV | force MAE, meV/Å | force cosine", errors),
            markdown("k | success, % | much better, % | drawn at random instead of ranked, % | not "
                     "relaxed, % | speed-up (EMT calls)", rates),
            markdown("surface | EMT minimum, eV | local minima within 0.1 eV | highest, eV above | "
                     "best of k = 1, meV above | of k = 5 | predicted energy of the best, error in "
                     "meV | anomalies, model / EMT | converged | steps, median", surfaces),
        ])  # fmt: skip


def chance(energies: Sequence[float], minimum: float, k: int) -> float:
    """Probability that the best of k structures drawn at random is a success."""
    bad, drawn = sum(not is_success(e - minimum) for e in energies), min(k, len(energies))
    return 1.0 - math.comb(bad, drawn) / math.comb(len(energies), drawn) if energies else 0.0


def surface_row(result: SystemResult, reference: dict[str, Any]) -> list[str]:
    relaxed, predicted = reference["relaxed"], reference["predicted"]
    ranked, lowest, count = result.ranked(), min(relaxed), len(result.candidates)
    best = ["-", "-", "-"]
    if ranked:
        best = [f"{1000 * (min(predicted[:k]) - lowest):.0f}" for k in (1, 5)]
        best.append(f"{1000 * (ranked[0].energy - predicted[0]):+.0f}")
    return [
        result.system.split("_")[0],
        f"{lowest:.3f}",
        f"{sum(is_success(energy - lowest) for energy in relaxed)} of {len(relaxed)}",
        f"{max(relaxed) - lowest:.2f}",
        *best,
        f"{count - len(ranked)} / {count - len(relaxed)}",
        f"{sum(c.converged for c in result.candidates)} of {count}",
        f"{np.median([c.steps for c in result.candidates]):.0f}",
    ]


def markdown(header: str, rows: Sequence[Sequence[Any]]) -> str:
    rule = "---|" + (len(rows[0]) - 1) * "---:|"
    return "\n".join(
        [f"| {header} |", f"|{rule}", *(f"| {' | '.join(map(str, r))} |" for r in rows)]
    )


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--out", type=Path, help="default: runs/adsorbml_emt/default or .../quick")
    options = parser.parse_args()
    out = options.out or Path("runs/adsorbml_emt") / ("quick" if options.quick else "default")
    chain = Chain(out.resolve(), QUICK if options.quick else FULL)
    chain.run()
    print(f"\n{chain.tables()}\n\nplot: {out / 'score.png'}; all files: {out}")


if __name__ == "__main__":
    main()
