"""One training run of the comparison: its frames, its command and its result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from one_thread import ENVIRONMENT

from eqv2_plugin.common.files import building_folder
from eqv2_plugin.data.sample import load_sample, write_ase_db
from gain.arms import Arm
from gain.plan import Experiment

BENCHMARKS = Path(__file__).parents[1]
CONFIGS = BENCHMARKS.parent / "configs"
_MAIN = "from fairchem.core._cli import main; main()"


@dataclass(frozen=True)
class Run:
    """An arm of an experiment with one seed; restartable by executing it again."""

    experiment: Experiment
    arm: Arm
    seed: int
    out: Path
    compiled: bool = False  # the training step; the same numbers up to rounding

    @property
    def name(self) -> str:
        return f"{self.experiment.name}-{self.arm.name}-{self.seed}"

    @property
    def settings(self) -> list[str]:
        """What the result depends on, beside seed and frames; kept with it."""
        own = ("+dens", *self.arm.overrides) if self.arm.dens else ("+plain",)
        return [*own, *self.experiment.overrides]

    @property
    def folder(self) -> Path:
        return self.out / "runs" / self.name

    def execute(self) -> dict[str, Any]:
        """Train to the end with one thread, from the last checkpoint if there is one.

        Returns:
            ``steps``, ``splits`` (metrics of the last weights), ``curve`` (step, validation force
            MAE in meV/Å, energy MAE in meV), ``losses`` (mean per task before each of these),
            ``denoising`` (the unit's figures at the end), ``settings``, ``compiled``,
            ``wall_seconds``, ``cpu_seconds``, ``seconds_complete`` (False where this process, too,
            was killed during an earlier part of the run: the time of that part is not known).

        Raises:
            RuntimeError: the training failed; its last lines are in the message.
        """
        data = subset_folder(self.experiment, self.seed, self.out)
        experiment, arm = self.experiment, self.arm
        config = experiment.dens_config if arm.dens else experiment.plain_config
        command = [
            sys.executable, "-c", _MAIN, "-c", str(CONFIGS / config),
            f"run_dir={self.out / 'runs'}", f"run_name={self.name}", f"seed={self.seed}",
            f"data_root={data}", "job.device_type=CPU", "checkpoint_every_n_steps=500",
            *experiment.overrides, *arm.overrides, *(["compile=true"] if self.compiled else []),
        ]  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        earlier = self._parts()
        self._keep_parts([*earlier, None])
        start = time.monotonic()
        with (self.folder / "log.txt").open("a") as log:
            process = subprocess.Popen(
                command, env={**os.environ, **ENVIRONMENT, **_path()}, stdout=log, stderr=log
            )
            _, status, usage = os.wait4(process.pid, 0)
        spent = {"wall": time.monotonic() - start, "cpu": usage.ru_utime + usage.ru_stime}
        self._keep_parts([*earlier, spent])
        if status:
            lines = (self.folder / "log.txt").read_text().splitlines()
            raise RuntimeError(f"{self.name} failed:\n" + "\n".join(lines[-15:]))
        return self._result()

    def _parts(self) -> list[dict[str, float] | None]:
        """Seconds of each start of the run; None for one whose end was not seen."""
        path = self.folder / "seconds.json"
        return json.loads(path.read_text()) if path.exists() else []

    def _keep_parts(self, parts: list[dict[str, float] | None]) -> None:
        (self.folder / "seconds.json").write_text(json.dumps(parts))

    def _result(self) -> dict[str, Any]:
        results = self.folder / "results"
        metrics = json.loads((results / "metrics.json").read_text())
        lines = (results / "history.jsonl").read_text().splitlines()
        history = [json.loads(line) for line in lines]
        parts = self._parts()
        known = [part for part in parts if part is not None]
        validated = [(record["step"], record["splits"]["val"]) for record in history]
        curve = [
            (step, round(v["forces_mae_meV_per_A"], 3), round(v["energy_mae_meV"], 3))
            for step, v in validated
        ]
        return {
            "steps": metrics["steps"],
            "splits": metrics["splits"],
            "curve": curve,
            "losses": [record.get("losses") for record in history],
            "denoising": metrics.get("denoising"),
            "settings": self.settings,
            "compiled": self.compiled,
            "wall_seconds": sum(part["wall"] for part in known),
            "cpu_seconds": sum(part["cpu"] for part in known),
            "seconds_complete": len(known) == len(parts),
        }


def _path() -> dict[str, str]:
    """Runs find the units of `gain.variants`."""
    others = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(BENCHMARKS), *([others] if others else [])])}


def subset_folder(experiment: Experiment, seed: int, out: Path) -> Path:
    """The frames of a seed: ``train`` and ``val`` drawn without overlap, and the test splits.

    All arms of a seed share them. The draw depends on the seed and the experiment's sizes only.

    Raises:
        ValueError: the experiment asks for more frames than there are.
    """
    name = f"{experiment.sample}-{experiment.train_frames}-{seed}"
    folder = out / "data" / name
    if folder.is_dir():
        return folder
    # The arrays have one training file, of which validation frames are drawn, too.
    splits = experiment.pool if experiment.arrays is None else ("train",)
    pool = [f for split in splits for f in _frames(experiment, split)]
    drawn = np.random.default_rng([seed, experiment.train_frames]).permutation(len(pool))
    stop = experiment.train_frames + experiment.val_frames
    if stop > len(pool):
        raise ValueError(f"{experiment.name} needs {stop} frames, there are {len(pool)}")
    parts = {
        "train": [pool[i] for i in sorted(drawn[: experiment.train_frames])],
        "val": [pool[i] for i in sorted(drawn[experiment.train_frames : stop])],
    }
    parts |= {split: _frames(experiment, split) for split in experiment.test_splits}
    # Another run of the same seed may be faster.
    with suppress(FileExistsError), building_folder(folder) as building:
        for split, frames in parts.items():
            (building / split).mkdir()
            write_ase_db(frames, building / split)
    return folder


def _frames(experiment: Experiment, split: str) -> list[Atoms]:
    if experiment.arrays is None:
        return load_sample(experiment.sample, split)
    molecule = experiment.sample.removeprefix("rmd17_")
    with np.load(experiment.arrays / f"{molecule}_train.npz") as file:
        train = {key: file[key] for key in ("numbers", "pos", "energy", "forces")}
    reference = train["energy"].mean()
    if split == "test":
        with np.load(experiment.arrays / f"{molecule}_test.npz") as file:
            arrays = {key: file[key] for key in ("numbers", "pos", "energy", "forces")}
    else:
        arrays = train
    frames = []
    for i in range(len(arrays["pos"])):
        info = {"sid": molecule, "fid": i}
        atoms = Atoms(arrays["numbers"], arrays["pos"][i].astype(float), info=info)
        energy = float(arrays["energy"][i] - reference)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=arrays["forces"][i])
        frames.append(atoms)
    return frames
