"""Small data sets and models, and prediction jobs run in this process as fairchem runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from ase import Atoms
from fairchem.core.launchers.api import DeviceType
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings, MLIPInferenceCheckpoint
from native_checkpoints import checkpoint
from omegaconf import OmegaConf

from eqv2_plugin.data.sample import load_sample, write_ase_db
from eqv2_plugin.tasks.s2ef.runner import S2EFPredictionRunner

SIZE, PER_PART = 7, 3


def frames(split: str, count: int = SIZE) -> list[Atoms]:
    """Real frames of different systems; the last ones have the fewest atoms."""
    every = load_sample("oc20_sample", split)
    return every[:: len(every) // count][:count]


def id_of(atoms: Atoms) -> str:
    return f"{atoms.info['sid'].removeprefix('random')}_{atoms.info['fid']}"


def write_data(folder: Path, atoms: Sequence[Atoms]) -> Path:
    folder.mkdir(parents=True)
    write_ase_db(list(atoms), folder)
    return folder


def write_model(path: Path, change=lambda made: None) -> Path:
    """A tiny random checkpoint, after ``change`` has edited it."""
    made: MLIPInferenceCheckpoint = checkpoint("direct")
    change(made)
    torch.save(made, path)
    return path


def job_config(folder: Path, job: int = 0, jobs: int = 1, mode: str = "slurm"):
    return OmegaConf.create(
        {
            "device_type": DeviceType.CPU,
            "scheduler": {"mode": mode, "num_array_jobs": jobs},
            "metadata": {"results_dir": str(folder / "results"), "array_job_num": job},
        }
    )


def options(root: Path | None, model: Path | str | None, splits: Mapping[str, Mapping]) -> dict:
    return {
        "checkpoint": None if model is None else str(model),
        "dataset": "oc20",
        "data": {
            "root": None if root is None else str(root),
            "reader": {"format": "ase_db"},
            "splits": splits,
            "how_to_get": "Fetch it.",
        },
        "task_name": None,
        "atoms_per_batch": 90,
        "structures_per_part": PER_PART,
        "num_workers": 0,
        "facts": {"checkpoint": "tiny"},
    }


def settings(precision: str = "float32") -> InferenceSettings:
    return InferenceSettings(activation_checkpointing=False, base_precision_dtype=precision)


def predict(folder: Path, made: Mapping, job: int = 0, jobs: int = 1, **changes) -> None:
    """Run one array job to its end."""
    wanted = {**made, "inference_settings": settings(), **changes}
    runner = S2EFPredictionRunner(**wanted)
    runner.job_config = job_config(folder, job, jobs)
    runner.load_state(None)
    runner.run()


def results(folder: Path) -> dict[str, bytes]:
    """What a job leaves for its user; killed ones leave hidden files besides."""
    return {path.name: path.read_bytes() for path in (folder / "results").glob("[!.]*.*")}
