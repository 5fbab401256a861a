"""Whole simulations: what they leave, and how they go on."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.constraints import FixAtoms
from helpers import BACKBONE, job_config
from kill_at_call import kill_at_call
from native_checkpoints import OPTIONS, assemble, task, write_checkpoint

from eqv2_plugin.cli import main
from eqv2_plugin.data.sample import load_sample, write_ase_db
from eqv2_plugin.inference.replicas import ReplicaPredictor
from eqv2_plugin.tasks.simulation.molecule import open_molecule
from eqv2_plugin.tasks.simulation.runner import SimulationRunner
from eqv2_plugin.tasks.simulation.settings import SimulationSettings

SPLITS = {split: {"src": split} for split in ("train", "val", "test")}
DATA = {
    "molecule": "ethanol", "atoms": 9, "start": "test", "root": "embedded:rmd17_ethanol",
    "reader": {"format": "ase_db", "first_n": 50}, "splits": SPLITS,
    "how_to_get": "Ethanol is embedded",
}  # fmt: skip
SHORT = {"picoseconds": 0.004, "save_every": 2, "replicas": 3, "timestep": 0.5, "seed": 1}
FRAMES = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "tiny.pt", "direct")


def runner(
    model, folder, data=None, share=0, processes=1, precision="float32", compiled=False, **settings
):
    given = {**DATA, **(data or {})}
    made = SimulationRunner(
        str(model), given, {**SHORT, **settings}, {"data": "here"},
        precision=precision, compile_steps=compiled,
    )  # fmt: skip
    made.job_config = job_config(folder, share, processes)
    return made


def results(folder: Path) -> Path:
    return folder / "run" / "results"


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    runner(model, folder).run()
    return results(folder)


def test_a_simulation_leaves_trajectories_numbers_and_a_report(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["formula"] == "C2H6O"
    assert metrics["reference"]["frames"] == 150
    assert metrics["made with"]["settings"]["thermostat"] == "chain"
    assert [one["replica"] for one in metrics["replicas"]] == [0, 1, 2]
    found = metrics["summary"]
    for name in ("stability_ps", "hr_error", "mean_temperature_K", "drift_meV_per_atom_ps"):
        values = [one[name] for one in metrics["replicas"]]
        assert found[name]["mean"] == pytest.approx(np.mean(values))
        assert found[name]["std"] == pytest.approx(np.std(values, ddof=1))
    assert found["stability_ps"]["mean"] == pytest.approx(0.004)
    with (finished / "replicas.csv").open() as file:
        assert [row["frames"] for row in csv.DictReader(file)] == [str(FRAMES)] * 3
    page = (finished / "report.html").read_text()
    assert page.count("data:image/png;base64") == 2
    for said in ("SHA-256", "stability, ps", "here", "h(r) error of"):
        assert said in page
    starts = []
    sample = load_sample("rmd17_ethanol", "test")
    for number in range(3):
        frames = ase.io.read(finished / "trajectories" / f"replica_{number:03d}.traj", ":")
        assert len(frames) == FRAMES
        (start,) = [
            i for i, a in enumerate(sample) if np.allclose(a.positions, frames[0].positions)
        ]
        starts.append(start)
        row = metrics["replicas"][number]
        assert row["mean_temperature_K"] == pytest.approx(
            np.mean([atoms.get_temperature() for atoms in frames])
        )
        assert np.isfinite(frames[-1].get_forces()).all()
        assert frames[-1].get_potential_energy() != frames[0].get_potential_energy()
    assert len(set(starts)) == 3


def test_a_killed_simulation_goes_on_with_the_same_bits(finished, model, tmp_path):
    whole = (finished / "frames.000.jsonl").read_bytes()
    kill_at_call(ReplicaPredictor, "__call__", 6, lambda: runner(model, tmp_path).run())
    store = results(tmp_path) / "frames.000.jsonl"
    assert 0 < len(store.read_bytes()) < len(whole)
    assert not (results(tmp_path) / "metrics.json").exists()
    with store.open("ab") as file:  # a frame that was cut off
        file.write(b'{"step": 4, "ended"')
    runner(model, tmp_path).run()
    assert store.read_bytes() == whole
    for name in ("metrics.json", "report.html", "trajectories/replica_001.traj"):
        assert (results(tmp_path) / name).read_bytes() == (finished / name).read_bytes()


def test_a_finished_simulation_can_become_longer_and_not_shorter(finished, model, tmp_path):
    runner(model, tmp_path, picoseconds=0.002).run()
    runner(model, tmp_path).run()
    store = results(tmp_path) / "frames.000.jsonl"
    assert store.read_bytes() == (finished / "frames.000.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"5 frames, and picoseconds=0\.002 asks for 3"):
        runner(model, tmp_path, picoseconds=0.002).run()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"temperature": 300.0}, "settings.temperature: 500.0 -> 300.0"),
        ({"replicas": 4}, "settings.replicas: 3 -> 4"),
        ({"seed": 2}, "settings.seed"),
        ({"thermostat": "published"}, "settings.thermostat: chain -> published"),
        ({"save_every": 4}, "settings.save_every"),
        ({"precision": "float64"}, "precision: float32 -> float64"),
        ({"data": {"splits": {"test": {"src": "val"}}}}, "data.test"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_setting_is_refused(finished, model, changes, named):
    before = (finished / "frames.000.jsonl").read_bytes()
    with pytest.raises(ValueError, match=rf"holds frames made with something else \(.*{named}"):
        runner(model, finished.parents[1], **changes).run()
    assert (finished / "frames.000.jsonl").read_bytes() == before


def test_processes_share_batches_of_replicas(model, tmp_path, capsys):
    options = {"replicas_per_batch": 2, "picoseconds": 0.001}
    runner(model, tmp_path, share=0, processes=2, **options).run()
    assert "1 batch(es) of other processes are left" in capsys.readouterr().out
    runner(model, tmp_path, share=1, processes=2, **options).run()
    folder = results(tmp_path)
    assert sorted(path.name for path in folder.glob("frames.*")) == [
        "frames.000.jsonl", "frames.002.jsonl",
    ]  # fmt: skip
    assert len(list((folder / "trajectories").iterdir())) == 3
    assert "ethanol" in capsys.readouterr().out


def test_a_replica_that_explodes_is_marked_and_the_others_finish(model, tmp_path, monkeypatch):
    calls, real = itertools.count(), ReplicaPredictor.__call__

    def exploding(self, positions):
        energies, forces = real(self, positions)
        if next(calls) == 4:
            forces[1] = np.nan
        return energies, forces

    monkeypatch.setattr(ReplicaPredictor, "__call__", exploding)
    runner(model, tmp_path).run()
    metrics = json.loads((results(tmp_path) / "metrics.json").read_text())
    assert [one["frames"] for one in metrics["replicas"]] == [FRAMES, 2, FRAMES]
    ended = metrics["replicas"][1]
    assert (ended["ended_at_step"], ended["stability_ps"]) == (4, pytest.approx(0.001))
    assert "not finite" in ended["ended_because"]
    assert metrics["notes"][0].startswith("1 of 3 replica(s) ended early; replica 1 at step 4")
    assert metrics["summary"]["ended_early"] == 1


def test_native_files_and_conservative_models_are_simulated(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "tiny.pt", "conservative")
    native = tmp_path / "tiny.safetensors"
    assert main(["export", str(checkpoint), str(native)]) == 0
    energies = []
    for path in (checkpoint, native):
        runner(path, tmp_path / path.suffix[1:], picoseconds=0.001, thermostat="published").run()
        file = results(tmp_path / path.suffix[1:]) / "trajectories" / "replica_000.traj"
        energies.append([atoms.get_potential_energy() for atoms in ase.io.read(file, ":")])
    assert energies[0] == energies[1]


@pytest.mark.slow
def test_compiled_simulations_have_the_same_numbers_and_bits_after_a_kill(
    model, tmp_path, monkeypatch
):
    # What is recorded runs as it is.
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    last, bits = {}, {}
    for name in ("plain", "compiled", "killed"):
        options = {"compiled": name != "plain", "precision": "float64"}
        if name == "killed":
            job = runner(model, tmp_path / name, **options).run
            kill_at_call(ReplicaPredictor, "__call__", 6, job)
        runner(model, tmp_path / name, **options).run()
        folder = results(tmp_path / name)
        bits[name] = (folder / "frames.000.jsonl").read_bytes()
        last[name] = ase.io.read(folder / "trajectories" / "replica_001.traj", -1)
    assert bits["killed"] == bits["compiled"] != bits["plain"]
    plain, compiled = last["plain"], last["compiled"]
    energy = plain.get_potential_energy()
    assert compiled.get_potential_energy() == pytest.approx(energy, rel=1e-12)
    forces = plain.get_forces()
    np.testing.assert_allclose(compiled.get_forces(), forces, 0, 1e-11 * abs(forces).max())


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ({"root": "embedded:rmd17_uracil"}, {}, r"unknown sample 'rmd17_uracil'.*Ethanol is embed"),
        ({"root": None}, {}, r"no data: set data_root=FOLDER"),
        ({"root": "/none"}, {}, r"/none/train does not exist.*Ethanol is embedded"),
        ({"root": "embedded:rmd17_aspirin"}, {}, r"C9H8O4 with 21 atoms, but ethanol has 9"),
        ({"root": "embedded:oc20_sample", "splits": {"test": {"src": "val_id"}}}, {},
         "is periodic: simulations are for molecules"),
        ({"start": "tests"}, {}, "start=tests is none of the splits train, val, test"),
        ({}, {"replicas": 51}, "replicas=51 need as many frames .* test has 50"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_simulated_are_one_clear_error(
    model, tmp_path, data, settings, message
):
    with pytest.raises((FileNotFoundError, ValueError), match=f"(?s){message}"):
        runner(model, tmp_path, data, **settings).run()
    assert not results(tmp_path).exists()


def test_molecules_with_fixed_atoms_or_others_among_them_are_refused(model, tmp_path):
    frames = load_sample("rmd17_ethanol", "test")[:6]
    other, held = [[atoms.copy() for atoms in frames] for _ in range(2)]
    other[5] = other[5][::-1]
    held[0].set_constraint(FixAtoms([0]))
    for name, some, message in (
        ("other", other, r"test: structure 5 is C2H6O, or has its atoms in another order"),
        ("held", held, "test has fixed atoms"),
    ):
        for atoms, frame in zip(some, frames, strict=True):
            atoms.info = dict(frame.info)
        (tmp_path / name / "test").mkdir(parents=True)
        write_ase_db(some, tmp_path / name / "test")
        splits = {"test": {"src": "test", "first_n": None}}
        data = {"root": str(tmp_path / name), "splits": splits}
        with pytest.raises(ValueError, match=message):
            runner(model, tmp_path, data).run()


def test_models_that_cannot_simulate_are_one_clear_error(tmp_path):
    few, energy = tmp_path / "few.pt", tmp_path / "energy.pt"
    tasks = [task("energy", "system", [1]), task("forces", "atom", [3])]
    heads = {"energy": {"module": "eqv2_plugin.heads.energy.EnergyHead"}}
    both = {**heads, "forces": {"module": "eqv2_plugin.heads.forces.ForceHead"}}
    options = {"model": BACKBONE, **OPTIONS}
    torch.save(assemble({**options, "max_num_elements": 8}, both, tasks)[0], few)
    torch.save(assemble(options, heads, tasks[:1])[0], energy)
    for path, message in {
        few: r"the model knows atomic numbers 1\.\.7, but the structure contains O",
        energy: "the model predicts no forces for oc20",
        tmp_path / "none.pt": "there is no such file",
    }.items():
        with pytest.raises((FileNotFoundError, ValueError), match=message):
            runner(path, tmp_path / path.stem).run()
        assert not results(tmp_path / path.stem).exists()


def test_starts_and_velocities_come_from_the_seed():
    settings = SimulationSettings.from_options(SHORT)
    found = open_molecule({**DATA, "reader": {"format": "ase_db"}}, settings)
    first = [found.start(settings, r) for r in range(3)]
    again = [found.start(settings, r) for r in range(3)]
    momenta = [atoms.get_momenta() for atoms in first]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.get_momenta(), other.get_momenta())
    assert not np.allclose(momenta[0], momenta[1])
    many = SimulationSettings.from_options({**SHORT, "replicas": 400})
    kelvin = [found.start(many, r).get_temperature() for r in range(400)]
    assert np.mean(kelvin) == pytest.approx(500, rel=0.02)
