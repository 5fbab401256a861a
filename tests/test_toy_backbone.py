"""Any backbone trains, predicts, relaxes, takes DeNS and is exported: here, a toy one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import toy_backbone  # noqa: F401  # registers itself
from ase import Atoms
from ase.build import fcc111
from fairchem.core import FAIRChemCalculator
from helpers import TOY
from launches import launch
from training_runs import history

from eqv2_plugin.checkpoints.door import export_native
from eqv2_plugin.inference.batch_size import BatchLimit
from eqv2_plugin.inference.lockstep import relax_many
from eqv2_plugin.inference.predictor import BatchPredictor, choose_task, open_unit
from eqv2_plugin.inference.settings import RelaxationSettings

pytestmark = pytest.mark.slow
OPTIONS = (
    "{model: %s, cutoff: 5.0, channels: 8, force_encoding: true, direct_forces: %s, "
    "force_scale: '${force_scale}'}"
)


@pytest.fixture(scope="module", params=["direct", "conservative"])
def trained(request, tmp_path_factory) -> Path:
    """The inference checkpoint of a run with DeNS."""
    folder = tmp_path_factory.mktemp("toy")
    direct = str(request.param == "direct").lower()
    settings = [
        f"run_dir={folder}", "run_name=toy", "job.device_type=CPU", f"heads={request.param}",
        "~model.backbone", f"+model.backbone={OPTIONS % (TOY, direct)}", "epochs=2",
        "+data.train_splits.train.first_n=24", "+data.val_splits.val_id.first_n=8",
        "+data.val_splits.val_ood.first_n=8", "data.train_repeats=1",
    ]  # fmt: skip
    done = launch("eqv2_dens_oc20", settings, EQV2_CACHE=tmp_path_factory.mktemp("cache"))
    assert done.returncode == 0, done.stderr[-4000:]
    losses = history(folder / "toy")[-1]["losses"]
    assert set(losses) == {"energy", "forces", "noise_forces"}
    assert all(value > 0 for value in losses.values())
    return folder / "toy" / "results" / "inference_ckpt.pt"


def surfaces() -> list[Atoms]:
    found = [
        fcc111("Cu", size, a=3.7, vacuum=6.0, periodic=True) for size in ((2, 2, 2), (3, 2, 1))
    ]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.1, seed=seed)
    return found


def predictor(path: Path) -> BatchPredictor:
    unit = open_unit(path, "cpu", torch.float32)
    return BatchPredictor(unit, choose_task(unit, None))


def test_it_predicts_in_batches_what_the_calculator_says(trained):
    predict = predictor(trained)
    calculator = FAIRChemCalculator(predict.unit, task_name=predict.task_name)
    for atoms, found in zip(surfaces(), predict(surfaces()), strict=True):
        atoms.calc = calculator
        assert found.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-5)
        np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-4)
        assert np.abs(found.forces).max() > 0


def test_its_native_file_predicts_the_same_bits(trained, tmp_path):
    native = tmp_path / "toy.safetensors"
    export_native(trained, native)
    for ours, reference in zip(
        predictor(native)(surfaces()), predictor(trained)(surfaces()), strict=True
    ):
        assert ours.energy == reference.energy
        assert np.array_equal(ours.forces, reference.forces)


def test_it_relaxes_structures_side_by_side(trained):
    settings = RelaxationSettings(fmax=1e-6, steps=3)
    cases = [(str(i), atoms) for i, atoms in enumerate(surfaces())]
    relaxed = list(relax_many(cases, predictor(trained), settings, batch=BatchLimit(structures=2)))
    assert [one.error for one in relaxed] == ["", ""]
    assert all(one.steps == 3 for one in relaxed)
