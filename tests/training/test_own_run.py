"""A file of frames becomes a model by one command."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import write
from ase.optimize import LBFGS
from fairchem.core import FAIRChemCalculator
from launches import launch

from eqv2_plugin.training.sizes import LIMITS, size_options

TINY = [
    "size=tiny", "epochs=1", "job.device_type=CPU", "model.backbone.sphere_channels=8",
    "model.backbone.num_layers=1", "model.backbone.edge_channels=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Dimers and trimers of EMT's metals, labels under names of their own."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(40):
        atoms = Atoms(["Cu2", "CuAg", "Ag2", "Cu2Ag", "CuAu", "Au2"][i % 6])
        atoms.positions = 2.6 * np.arange(len(atoms))[:, None] * np.eye(3)[i % 3]
        atoms.positions += 0.2 * rng.normal(size=(len(atoms), 3))
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        made.append(atoms)
    path = tmp_path_factory.mktemp("own") / "clusters.extxyz"
    write(path, made)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [["heads=conservative"], ["heads=direct", "training=dens"]],
    ids=["conservative", "direct with DeNS"],
)
def test_frames_become_a_model_that_relaxes(frames, tmp_path, options):
    done = launch("eqv2_train", [f"train={frames}", f"run_dir={tmp_path}", *TINY, *options])
    assert done.returncode == 0, done.stderr[-4000:]
    assert "energy from 'REF_energy' (eV), forces from 'REF_forces'" in done.stdout
    results = tmp_path / "clusters" / "results"
    metrics = json.loads((results / "metrics.json").read_text())
    assert np.isfinite(metrics["splits"]["val"]["forces_mae_meV_per_A"])
    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0.1, 2.7]])
    atoms.calc = FAIRChemCalculator.from_model_checkpoint(
        str(results / "inference_ckpt.pt"), inference_settings="batch"
    )
    LBFGS(atoms, logfile=None).run(fmax=0.05, steps=2)
    # References were fitted: energies are those of the frames, not what is left of them.
    assert abs(atoms.get_potential_energy() / 2 - 2.0) < 3.0


@pytest.mark.parametrize("size", LIMITS)
def test_a_size_suits_its_number_of_frames(size):
    options = size_options(size, 100, None, None)
    assert options["name"] == size
    chosen = size_options("auto", min(LIMITS[size], 10**7), None, None)["name"]
    assert chosen == ("31M" if size == "83M" else size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("smal", 100, None, None), "did you mean 'small'"),
        (("tiny", 100, None, -4), "batch_size=-4 must be a whole number"),
        (("tiny", 100, None, "four"), "batch_size=four must be a whole number"),
        (("tiny", 100, None, 128), "more than the 100 training frames"),
    ],
)
def test_sizes_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        size_options(*arguments)
