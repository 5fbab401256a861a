"""A file of frames becomes a model by one command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from ase.optimize import LBFGS
from fairchem.core import FAIRChemCalculator
from fairchem.core.units.mlip_unit.utils import load_tasks
from launches import launch

from eqv2_plugin.training.sizes import LIMITS, size_options

TINY = [
    "size=tiny", "epochs=1", "model.backbone.sphere_channels=8",
    "model.backbone.num_layers=1", "model.backbone.edge_channels=8",
]  # fmt: skip


def clusters() -> list[Atoms]:
    """Dimers and trimers of EMT's metals."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(40):
        atoms = Atoms(["Cu2", "CuAg", "Ag2", "Cu2Ag", "CuAu", "Au2"][i % 6])
        atoms.positions = 2.6 * np.arange(len(atoms))[:, None] * np.eye(3)[i % 3]
        atoms.positions += 0.2 * rng.normal(size=(len(atoms), 3))
        made.append(atoms)
    return made


def crystals() -> list[Atoms]:
    """Strained cells of EMT's metals."""
    rng = np.random.default_rng(1)
    made = []
    for i in range(24):
        atoms = bulk(["Cu", "Ag", "Au"][i % 3], cubic=True)
        strain = np.eye(3) + 0.03 * rng.normal(size=(3, 3))
        atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
        atoms.positions += 0.1 * rng.normal(size=(4, 3))
        made.append(atoms)
    return made


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Clusters and crystals, labels under names of their own."""
    folder = tmp_path_factory.mktemp("own")
    for name, made in (("clusters", clusters()), ("crystals", crystals())):
        for atoms in made:
            atoms.calc = EMT()
            atoms.info["REF_energy"] = atoms.get_potential_energy()
            atoms.arrays["REF_forces"] = atoms.get_forces()
            if atoms.pbc.all():
                atoms.info["REF_stress"] = atoms.get_stress(voigt=False)
            atoms.calc = None
        write(folder / f"{name}.extxyz", made)
    return folder


def train(folder: Path, *options: str) -> tuple[Path, str]:
    """Run to a good end; the results, and what was printed."""
    done = launch("eqv2_train", [f"run_dir={folder}", "job.device_type=CPU", *options])
    assert done.returncode == 0, done.stderr[-4000:]
    (run,) = folder.iterdir()
    return run / "results", done.stdout


def calculator(results: Path) -> FAIRChemCalculator:
    return FAIRChemCalculator.from_model_checkpoint(
        str(results / "inference_ckpt.pt"), inference_settings="batch"
    )


def errors(results: Path, part: str = "splits") -> dict:
    return json.loads((results / "metrics.json").read_text())[part]["val"]


@pytest.fixture(scope="module")
def conservative(frames, tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs"), f"train={frames / 'clusters.extxyz'}", *TINY)


@pytest.mark.slow
def test_frames_become_a_model_that_relaxes(conservative):
    results, said = conservative
    assert "energy from 'REF_energy' (eV), forces from 'REF_forces'" in said
    assert np.isfinite(errors(results)["forces_mae_meV_per_A"])
    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0.1, 2.7]])
    atoms.calc = calculator(results)
    LBFGS(atoms, logfile=None).run(fmax=0.05, steps=2)
    # References were fitted: energies are those of the frames, not what is left of them.
    assert abs(atoms.get_potential_energy() / 2 - 2.0) < 3.0


@pytest.mark.slow
def test_the_model_relaxes_files_of_structures(frames, conservative, tmp_path):
    start = clusters()[0]
    write(tmp_path / "dimer.cif", Atoms("Cu2", start.positions, cell=[9, 9, 9], pbc=True))
    files = f"structures=[{frames / 'clusters.extxyz'},{tmp_path / 'dimer.cif'}]"
    model = conservative[0] / "inference_ckpt.pt"
    given = [f"run_dir={tmp_path / 'runs'}", f"checkpoint={model}", files, "settings.steps=2"]
    done = launch("relax", [*given, "job.device_type=CPU"])
    assert done.returncode == 0, done.stderr[-4000:]
    (results,) = (tmp_path / "runs").glob("*/results")
    relaxed = read(results / "relaxed.extxyz", ":")
    assert [a.info["sid"] for a in relaxed] == [*(f"clusters-{i}" for i in range(40)), "dimer-0"]
    assert len(set(a.get_potential_energy() for a in relaxed)) > 30
    assert (results / "report.html").is_file()


@pytest.mark.slow
def test_a_checkpoint_is_gone_on_from(frames, conservative, tmp_path):
    start = conservative[0] / "inference_ckpt.pt"
    data = f"train={frames / 'clusters.extxyz'}"
    results, said = train(tmp_path, data, f"checkpoint={start}", "epochs=1")
    # The same frames are held out, and predicted by the same weights with the same references.
    before, first = errors(conservative[0]), errors(results, "at_start")
    assert first == pytest.approx(before, rel=1e-4)
    assert "val: force MAE" in said
    tasks = [load_tasks(str(path / "inference_ckpt.pt")) for path in (conservative[0], results)]
    for old, new in zip(*tasks, strict=True):
        assert float(old.normalizer.rmsd) == float(new.normalizer.rmsd)
        if old.element_references is not None:
            old, new = (one.element_references.element_references for one in (old, new))
            np.testing.assert_array_equal(old, new)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "said", "metric"),
    [
        ("clusters", ["heads=direct", "training=dens"], "REF_forces", "forces_mae_meV_per_A"),
        ("clusters", ["labels=energy"], "energies alone", "energy_mae_meV"),
        ("crystals", [], "stress from 'REF_stress'", "stress_mae_meV_per_A3"),
        ("crystals", ["heads=direct"], "stress from 'REF_stress'", "stress_mae_meV_per_A3"),
    ],
    ids=["direct with DeNS", "energies alone", "stress", "direct stress"],
)
def test_labels_and_heads_go_together(frames, tmp_path, name, options, said, metric):
    results, out = train(tmp_path, f"train={frames / name}.extxyz", *TINY, *options)
    assert said in out
    assert np.isfinite(errors(results)[metric])
    atoms = (clusters if name == "clusters" else crystals)()[0]
    atoms.calc = calculator(results)
    assert np.isfinite(atoms.get_potential_energy())
    if "stress" in metric:
        assert np.abs(atoms.get_stress()).max() > 0
    if "labels=energy" in options:
        # Forces that were never trained are the gradient.
        step = np.zeros((2, 3))
        step[0, 0] = 1e-2
        forces = atoms.get_forces()
        energies = []
        for sign in (-1, 1):
            atoms.positions += sign * step
            energies.append(atoms.get_potential_energy())
            atoms.positions -= sign * step
        slope = (energies[1] - energies[0]) / 2e-2
        np.testing.assert_allclose(-forces[0, 0], slope, atol=0.02 * np.abs(forces).max() + 1e-3)


@pytest.mark.parametrize("size", LIMITS)
def test_a_size_suits_its_number_of_frames(size):
    options = size_options(size, 100, None, None)
    assert options["name"] == size
    chosen = size_options("auto", min(LIMITS[size], 10**7), None, None)["name"]
    assert chosen == ("31M" if size == "83M" else size)


@pytest.mark.parametrize(
    ("frames", "epochs", "decay"), [(400, None, 0.99), (400, 1, 0.9), (8, 1, 0)]
)
def test_averages_of_short_runs_forget_the_first_weights(frames, epochs, decay):
    options = size_options("tiny", frames, epochs, None)
    assert options["ema_decay"] == pytest.approx(decay)
    steps = options["epochs"] * frames // options["batch_size"]
    assert options["ema_decay"] ** steps < 1e-4


@pytest.mark.parametrize(
    ("frames", "epochs", "steps"), [(400, None, 100), (3500, None, 100), (40, 5, 5), (8, 1, 0.2)]
)
def test_a_warm_up_takes_a_hundred_steps_or_a_tenth_of_the_run(frames, epochs, steps):
    options = size_options("tiny", frames, epochs, None)
    per_epoch = frames // options["batch_size"]
    assert options["warmup_epochs"] * per_epoch == pytest.approx(steps)


@pytest.mark.parametrize(("frames", "epochs"), [(400, 10), (4000, 3), (40, 30)])
def test_a_checkpoint_brings_its_size_and_few_epochs(start, frames, epochs):
    options = size_options("auto", frames, None, None, str(start[0]))
    new = size_options("tiny", frames, None, None)
    assert options["name"] == "checkpoint"
    assert set(options["backbone"].values()) == {None}
    assert options["learning_rate"] == new["learning_rate"] / 2
    assert options["epochs"] == epochs
    with pytest.raises(ValueError, match="size=small is of a new model"):
        size_options("small", frames, None, None, str(start[0]))


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
