"""What the tests of AdsorbML share; importing it skips them where its packages are missing."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import fcc111
from ase.constraints import FixAtoms
from helpers import job_config
from native_checkpoints import checkpoint

from eqv2_plugin.models.metadata import ENERGY_REFERENCES
from eqv2_plugin.tasks.adsorbml.input import SlabFile, build_input, write_input
from eqv2_plugin.tasks.adsorbml.results import Candidate, SystemResult
from eqv2_plugin.tasks.adsorbml.runner import BatchedAdsorbMLRunner

pytest.importorskip("fairchem.data.oc")
pytest.importorskip("pandas")

RANDOM = "random_site_heuristic_placement"


def slab(symbol: str = "Pt") -> Atoms:
    """Two layers, 18 atoms, as wide as fairchem-data-oc asks."""
    atoms = fcc111(symbol, (3, 3, 2), a=3.92, vacuum=7.0, periodic=True)
    atoms.info = {}
    return atoms


def write_slab_input(
    path: Path, smiles: Sequence[str] = ("*CO", "*O"), symbol: str = "Pt", **minima: float
) -> Path:
    """Rattled: fairchem-data-oc triangulates the surface, and on a perfect lattice the last bit of
    a relaxed position decides between triangulations, that is, between placements."""
    atoms = slab(symbol)
    atoms.rattle(0.05, seed=3)
    content, _ = build_input([SlabFile(f"{symbol}111", atoms)], smiles, minima)
    write_input(path, content)
    return path


def write_changed_input(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A pickle of two systems, after ``change`` has edited its content."""
    content = pickle.loads(write_slab_input(path).read_bytes())
    change(content)
    path.write_bytes(pickle.dumps(content))
    return path


def write_model(path: Path, energy: str | None = "adsorption", seed: int = 0) -> Path:
    """A tiny model with random weights; ``energy`` is a key of ENERGY_REFERENCES."""
    made = checkpoint("direct")
    if energy is not None:
        made.model_config["facts"] = {"energy_reference": ENERGY_REFERENCES[energy]}
    for tensor in made.ema_state_dict.values():
        if tensor.is_floating_point():
            tensor.mul_(1.0 + 0.01 * seed)
    torch.save(made, path)
    return path


def make_runner(model: Path, data: Path, **changes) -> BatchedAdsorbMLRunner:
    options = {
        "checkpoint": str(model),
        "input_data_path": str(data),
        "title": "a test",
        "placements": {RANDOM: 3},
        "relaxation": {"optimizer": "lbfgs", "fmax": 0.02, "steps": 4},
        "batch": {"structures": 4, "atoms": None},
        "precision": "float64",
        **changes,
    }
    return BatchedAdsorbMLRunner(**options)


def run(folder: Path, model: Path, data: Path, job: int = 0, jobs: int = 1, **changes) -> Path:
    """Run a job; returns the results folder."""
    runner = make_runner(model, data, **changes)
    runner.job_config = job_config(folder, job, jobs)
    runner.run()
    return runner.results


def table(results: Path) -> dict[str, dict[str, Any]]:
    """What fairchem's reducers read: {column: {number: value}}."""
    return json.loads(gzip.decompress((results / "adsorbml_1-0.json.gz").read_bytes()))


def candidate(name: str, energy: float | None = -1.0, x: float = 4.0, **changes) -> Candidate:
    """An oxygen atom at x above a slab."""
    atoms = slab()
    atoms.set_tags([1 if z > atoms.positions[:, 2].mean() else 0 for z in atoms.positions[:, 2]])
    atoms.set_constraint(FixAtoms(mask=atoms.get_tags() == 0))
    atoms += Atoms("O", positions=[(x, 3.0, atoms.positions[:, 2].max() + 1.3)], tags=[2])
    values = {
        "id": name, "energy": energy, "steps": 7, "converged": True, "fmax": 0.01,
        "anomalies": (), "error": "", "initial": atoms, "relaxed": atoms.copy(), **changes,
    }  # fmt: skip
    return Candidate(**values)


def result(system: str, *candidates: Candidate, target: float | None = None) -> SystemResult:
    return SystemResult(system, "*O", target, None, candidates)
