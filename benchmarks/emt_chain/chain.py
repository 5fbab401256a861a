"""The steps of the chain; each leaves files and is not repeated where they are there."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from ase.io import write

from emt_chain.commands import CONFIGS, run_command
from emt_chain.dft import fill_single_points, relax_placements, write_best, write_json
from emt_chain.frames import MODE, write_split
from emt_chain.surfaces import ADSORBATE, SURFACES, clean_slab, relaxed_slab
from eqv2_plugin.tasks.adsorbml.results import load_results

RUN = "model"
_ENERGY = "EMT energy minus clean slab minus isolated atom (adsorption energy)"


@dataclass(frozen=True)
class Settings:
    """Sizes of everything; a folder belongs to one of them.

    Attributes:
        train_placements, val_placements: of each surface, for the frames.
        epochs: of the training.
        placements: of each surface, in AdsorbML.
        steps: of a relaxation with the model, at most.
        overrides: of configs/eqv2_oc20.yml.
    """

    train_placements: int = 14
    val_placements: int = 2
    epochs: int = 3
    placements: int = 20
    steps: int = 300
    overrides: tuple[str, ...] = (
        "scale=sample",
        "energy_coefficient=20",
        "model.backbone.cutoff=4.2",
        "model.backbone.avg_num_nodes=19",
        "model.backbone.avg_degree=12",
    )


QUICK = Settings(train_placements=1, val_placements=1, epochs=1, placements=2, steps=3)


class Chain:
    """All steps in one folder.

    Raises:
        ValueError: the folder was begun with other settings.
    """

    def __init__(self, out: Path, settings: Settings) -> None:
        self.out, self.settings = out, settings
        out.mkdir(parents=True, exist_ok=True)
        described = json.loads(json.dumps(asdict(settings)))
        before = out / "settings.json"
        if before.exists() and json.loads(before.read_text()) != described:
            raise ValueError(f"{out} was begun with other settings: remove it, or give --out")
        write_json(before, described)

    @property
    def results(self) -> Path:
        """Of AdsorbML."""
        return self.out / "adsorbml/default/results"

    @property
    def trained(self) -> Path:
        """Results of the training."""
        return self.out / RUN / "results"

    def run(self) -> None:
        """Everything that is not there yet."""
        self._folder_step("slabs", self._write_slabs)
        self._step("input.pkl", self._make_input)
        for split, number in (
            ("train", self.settings.train_placements),
            ("val_id", self.settings.val_placements),
        ):
            self._folder_step(
                f"data/{split}", lambda folder, s=split, n=number: write_split(s, n, folder)
            )
        self._step("normalizer.yaml", self._fit_normalizer)
        self._step(f"{RUN}/results/inference_ckpt.pt", self._train)
        self._step("adsorbml/default/results/report.html", self._adsorbml)
        self._folder_step("dft", self._write_single_points)
        self._step("single_points.csv", lambda path: fill_single_points(self.out / "dft", path))
        self._step("references.json", self._relax_with_emt)
        self._step("best.csv", lambda path: write_best(self.references(), path))
        self._step("score.json", self._score)

    def references(self) -> list[dict[str, Any]]:
        return json.loads((self.out / "references.json").read_text())

    def seconds(self) -> dict[str, float]:
        """Of each step; of one that was interrupted, those of its last part."""
        path = self.out / "seconds.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def _step(self, name: str, make: Callable[[Path], Any]) -> None:
        path = self.out / name
        if path.exists():
            return
        print(f"{name} ...", end=" ", flush=True)
        start = time.monotonic()
        make(path)
        spent = time.monotonic() - start
        print(f"{spent:.0f} s", flush=True)
        write_json(self.out / "seconds.json", {**self.seconds(), name: spent})

    def _folder_step(self, name: str, make: Callable[[Path], Any]) -> None:
        """A folder that is half written has another name."""

        def whole(path: Path) -> None:
            unfinished = path.with_name(f".{path.name}")
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(path)

        self._step(name, whole)

    def _command(self, name: str, *arguments: str | Path) -> None:
        run_command(name, *arguments, log=self.out / "log.txt")

    def _fit_normalizer(self, path: Path) -> None:
        self._command("eqv2", "data", "fit-normalizer", self.out / "data/train", "--out", path)

    def _train(self, path: Path) -> None:
        fitted = yaml.safe_load((self.out / "normalizer.yaml").read_text())
        normalizers = [
            f"{key}.{name}={fitted[key][name]}"
            for key in ("energy_normalizer", "force_normalizer")
            for name in ("mean", "rmsd")
        ]
        # The same command goes on after a kill, from its last checkpoint.
        self._command(
            "fairchem", "-c", CONFIGS / "eqv2_oc20.yml", f"run_dir={self.out}", f"run_name={RUN}",
            f"data_root={self.out / 'data'}", f"data.energy_reference='{_ENERGY}'",
            "data.train_repeats=1", "~data.val_splits.val_ood", "job.device_type=CPU",
            "with_baselines=false", "closing_note=null", f"epochs={self.settings.epochs}",
            *normalizers, *self.settings.overrides,
        )  # fmt: skip

    def _write_slabs(self, folder: Path) -> None:
        for name, make in (("initial", clean_slab), ("relaxed", relaxed_slab)):
            (folder / name).mkdir(parents=True)
            for surface in SURFACES:
                write(folder / name / f"{surface}.traj", make(surface))

    def _make_input(self, path: Path) -> None:
        slabs = {
            kind: [self.out / "slabs" / kind / f"{surface}.traj" for surface in SURFACES]
            for kind in ("initial", "relaxed")
        }
        self._command(
            "eqv2", "adsorbml", "input", *slabs["initial"], "--relaxed", *slabs["relaxed"],
            "--adsorbates", ADSORBATE, "--out", path,
        )  # fmt: skip

    def _adsorbml(self, path: Path) -> None:
        self._command(
            "fairchem", "-c", CONFIGS / "adsorbml_batched.yml", f"run_dir={self.out / 'adsorbml'}",
            f"checkpoint={self.trained / 'inference_ckpt.pt'}", f"input={self.out / 'input.pkl'}",
            f"placements.{MODE}={self.settings.placements}",
            f"relaxation.steps={self.settings.steps}", "job.device_type=CPU",
        )  # fmt: skip

    def _write_single_points(self, folder: Path) -> None:
        self._command("eqv2", "adsorbml", "single-points", self.results, "-k", "5", "--out", folder)

    def _relax_with_emt(self, path: Path) -> None:
        write_json(path, [relax_placements(result) for result in load_results(self.results)])

    def _score(self, path: Path) -> None:
        self._command(
            "eqv2", "adsorbml", "score", self.results, "--dft", self.out / "single_points.csv",
            "--best", self.out / "best.csv", "--report", self.out / "score.html",
            "--plot", self.out / "score.png", "--json", path,
        )  # fmt: skip
