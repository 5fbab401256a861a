"""One training run of either side, and its errors on the test frames."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.io import read
from one_thread import ENVIRONMENT

from beside_mace.sets import ENERGY, FORCES, FrameSet, write_parts
from eqv2_plugin.common.files import building_folder

BENCHMARKS = Path(__file__).parents[1]
CONFIG = BENCHMARKS.parent / "configs" / "eqv2_train.yml"
OURS, DIRECT, MACE = "ours", "direct", "mace"
_FAIRCHEM = "from fairchem.core._cli import main; main()"
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Run:
    """A side on a set of frames with one seed.

    Attributes:
        options: what it trains with: overrides of the recipe, or arguments of mace_run_train.
        seconds: of the processor that training may take.
        steps: of our side, whose schedule has to know its end; MACE is ended by its driver.
        python: of MACE's environment.
    """

    frames: FrameSet
    side: str
    seed: int
    out: Path
    options: tuple[str, ...]
    seconds: float
    steps: int
    python: Path
    data: Path | None

    @property
    def name(self) -> str:
        return f"{self.frames.name}-{self.seconds:g}s-{self.side}-{self.seed}"

    @property
    def settings(self) -> dict[str, Any]:
        """What the result depends on, kept with it."""
        steps = {} if self.side == MACE else {"steps": self.steps}
        return {"options": list(self.options), "seconds": self.seconds, **steps}

    def execute(self) -> dict[str, Any]:
        """Train from the beginning, and predict the test frames.

        Returns:
            ``settings``, ``errors`` (of the test frames), ``curve`` (seconds of training,
            validation MAE of forces in meV/Å as that side counts it), ``steps``, ``seconds`` (of
            training) and, of ours, ``compiling``, seconds that are not among them.

        Raises:
            RuntimeError: a command failed; its last lines are in the message.
        """
        parts = self.out / "frames" / f"{self.frames.name}-{self.seed}"
        if not parts.is_dir():
            with building_folder(parts) as building:
                write_parts(self.frames.draw(self.seed, self.data), building)
        folder = self.out / "runs" / self.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        trained = self._mace if self.side == MACE else self._ours
        result = trained(parts, folder)
        frames = read(parts / "test.extxyz", ":")
        with np.load(folder / "test.npz") as found:
            result["errors"] = errors(frames, found["energies"], found["forces"])
        return {"settings": self.settings, **result}

    def _ours(self, parts: Path, folder: Path) -> dict[str, Any]:
        command = [
            sys.executable, "-c", _FAIRCHEM, "-c", str(CONFIG), f"train={parts / 'train.extxyz'}",
            f"val={parts / 'val.extxyz'}", f"run_dir={folder}", "run_name=run", f"seed={self.seed}",
            "job.device_type=CPU", "runner._target_=beside_mace.timed.TimedRunner",
            "runner.max_epochs=null", f"+runner.max_steps={self.steps}",
            "runner.train_eval_unit.cosine_lr_scheduler_fn.epochs=null",
            f"+runner.train_eval_unit.cosine_lr_scheduler_fn.steps={self.steps}",
            f"evaluate_every_n_steps={max(self.steps // 6, 1)}", "with_baselines=false",
            *self.options,
        ]  # fmt: skip
        _call(command, folder / "log.txt")
        results = folder / "run" / "results"
        times = json.loads((folder / "run" / "times.json").read_text())
        history = map(json.loads, (results / "history.jsonl").read_text().splitlines())
        after = [0.0, *times["after"]]
        curve = [(after[r["step"]], r["splits"]["val"]["forces_mae_meV_per_A"]) for r in history]
        checkpoint, test = results / "inference_ckpt.pt", parts / "test.extxyz"
        predict = [sys.executable, str(_HERE / "timed.py"), str(checkpoint), str(test)]
        _call([*predict, str(folder / "test.npz")], folder / "log.txt")
        return {
            "curve": _rounded(curve),
            "steps": len(times["after"]),
            "seconds": times["seconds"],
            "compiling": times["compiling"],
        }

    def _mace(self, parts: Path, folder: Path) -> dict[str, Any]:
        known = {s for part in ("train", "val") for a in _read(parts, part) for s in a.symbols}
        numbers = sorted(atomic_numbers[symbol] for symbol in known)
        driver = [str(self.python), str(_HERE / "mace_driver.py"), str(self.seconds)]
        command = [
            *driver, str(folder / "times.json"), "--name=run", f"--work_dir={folder}",
            f"--train_file={parts / 'train.extxyz'}", f"--valid_file={parts / 'val.extxyz'}",
            f"--energy_key={ENERGY}", f"--forces_key={FORCES}", f"--atomic_numbers={numbers}",
            f"--seed={self.seed}", "--device=cpu", "--plot=False", *self.options,
        ]  # fmt: skip
        _call(command, folder / "log.txt", folder)
        times = json.loads((folder / "times.json").read_text())
        predict = [str(self.python), "-m", "mace.cli.eval_configs", "--default_dtype=float32"]
        predict += [f"--configs={parts / 'test.extxyz'}", f"--model={folder / 'run.model'}"]
        _call(
            [*predict, f"--output={folder / 'test.xyz'}", "--batch_size=8"],
            folder / "log.txt",
            folder,
        )
        found = read(folder / "test.xyz", ":")
        np.savez(
            folder / "test.npz",
            energies=np.array([atoms.info["MACE_energy"] for atoms in found]),
            forces=np.concatenate([atoms.arrays["MACE_forces"] for atoms in found]),
        )
        logged = next((folder / "results").glob("*_train.txt")).read_text().splitlines()
        validated = [r for r in map(json.loads, logged) if r["mode"] == "eval"]
        seconds = [0.0, *(epoch[1] for epoch in times["epochs"])]
        curve = [(s, 1e3 * r["mae_f"]) for s, r in zip(seconds, validated, strict=True)]
        return {"curve": _rounded(curve), "steps": times["steps"], "seconds": times["seconds"]}


def errors(frames: Sequence[Atoms], energies: np.ndarray, forces: np.ndarray) -> dict[str, float]:
    """MAEs and root mean squares of frames: forces of free atoms in meV/Å, energies in meV.

    ``energy_shift`` is the median error, ``energy_mae_beside_shift`` the MAE about it.
    """
    free, truth = [], []
    for atoms in frames:
        fixed = {i for c in atoms.constraints for i in c.get_indices()}
        free += [i not in fixed for i in range(len(atoms))]
        truth.append(atoms.arrays[FORCES])
    off = 1e3 * (forces - np.concatenate(truth))[np.array(free)]
    of_energies = 1e3 * (energies - np.array([atoms.info[ENERGY] for atoms in frames]))
    per_atom = of_energies / np.array([len(atoms) for atoms in frames])
    return {
        "forces_mae": float(np.abs(off).mean()),
        "forces_rmse": float(np.sqrt((off**2).mean())),
        "energy_mae": float(np.abs(of_energies).mean()),
        "energy_shift": float(np.median(of_energies)),
        "energy_mae_beside_shift": float(np.abs(of_energies - np.median(of_energies)).mean()),
        "energy_per_atom_mae": float(np.abs(per_atom).mean()),
        "zero_forces_mae": float(np.abs(1e3 * np.concatenate(truth)[np.array(free)]).mean()),
    }


def _read(parts: Path, part: str) -> list[Atoms]:
    frames: list[Atoms] = read(parts / f"{part}.extxyz", ":")
    return frames


def _rounded(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(round(seconds, 1), round(error, 2)) for seconds, error in curve]


def _call(command: Sequence[str], log: Path, of_mace: Path | None = None) -> None:
    """A command with one thread, its output at the end of a file; MACE's in a folder of its own.

    There, and without our folder on the path, ``mace`` is MACE.
    """
    environment = {**os.environ, **ENVIRONMENT}
    if of_mace is None:
        path = [str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(path)
    else:
        environment.pop("PYTHONPATH", None)
    with log.open("a") as file:
        done = subprocess.run(command, env=environment, stdout=file, stderr=file, cwd=of_mace)
    if done.returncode:
        raise RuntimeError(f"{log}:\n" + "\n".join(log.read_text().splitlines()[-15:]))
