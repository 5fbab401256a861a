"""The batched runner: as fairchem's own, and able to go on."""

from __future__ import annotations

import itertools
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from adsorbml_inputs import (
    RANDOM,
    make_runner,
    run,
    table,
    write_changed_input,
    write_model,
    write_slab_input,
)
from ase.optimize import LBFGS
from fairchem.core import FAIRChemCalculator
from fairchem.core.components.calculate import AdsorbMLRunner
from fairchem.core.components.calculate.recipes.adsorbml import run_adsorbml
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings
from kill_at_call import kill_at_call
from relaxation_inputs import emt

from eqv2_plugin.inference.batch_size import BatchLimit
from eqv2_plugin.inference.predictor import BatchPredictor
from eqv2_plugin.inference.settings import RelaxationSettings
from eqv2_plugin.tasks.adsorbml.input import read_input
from eqv2_plugin.tasks.adsorbml.placements import Protocol, placement_seed
from eqv2_plugin.tasks.adsorbml.relaxing import relax_systems
from eqv2_plugin.tasks.adsorbml.results import load_results


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_slab_input(tmp_path_factory.mktemp("input") / "in.pkl", Pt111_CO=-1.25)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.pt")


@pytest.fixture(scope="module")
def done(tmp_path_factory, model, data) -> Path:
    return run(tmp_path_factory.mktemp("done"), model, data)


def calculator(model: Path) -> FAIRChemCalculator:
    settings = InferenceSettings(activation_checkpointing=False, base_precision_dtype=torch.float64)
    return FAIRChemCalculator.from_model_checkpoint(
        str(model), inference_settings=settings, device="cpu"
    )


def numbers(results) -> list:
    """All that is in results but ids of files, for comparisons."""
    return [
        (r.system, r.target, [(c.id, c.energy, c.anomalies, c.steps) for c in r.candidates])
        for r in sorted(results, key=lambda r: r.system)
    ]


@pytest.mark.parametrize(
    ("energy", "options"),
    [
        ("adsorption", {}),
        ("total", {"adsorption_energy_model": False}),
        ("total", {"adsorption_energy_model": False, "place_on_relaxed_slab": True}),
    ],
)
def test_placements_energies_and_anomalies_are_fairchems(tmp_path, energy, options):
    model, data = write_model(tmp_path / "tiny.pt", energy), tmp_path / "in.pkl"
    results = load_results(run(tmp_path, model, write_slab_input(data, ["*CO"]), **options))
    own_energies = options.get("adsorption_energy_model", True)
    for system, result in zip(read_input(data), results, strict=True):
        entry = pickle.loads(data.read_bytes())[system.id]
        theirs_calculator = calculator(model)  # which seeds numpy
        np.random.seed(placement_seed(0, system.id, RANDOM))
        theirs = run_adsorbml(
            entry["slab_initial"],
            entry["adsorbate"],
            theirs_calculator,
            LBFGS,
            fmax=0.02,
            steps=4,
            num_placements=3,
            reference_ml_energies=not own_energies,
            relaxed_slab_atoms=entry["slab_relax"].atoms if own_energies else None,
            place_on_relaxed_slab=options.get("place_on_relaxed_slab", False),
        )
        assert [list(c.anomalies) for c in result.candidates] == theirs["adslab_anomalies"]
        assert len(result.ranked()) == len(theirs["adslabs"])
        for ours, their in zip(result.ranked(), theirs["adslabs"], strict=True):
            np.testing.assert_allclose(
                ours.initial.positions, their["input_atoms"]["atoms"].positions, atol=1e-8
            )
            np.testing.assert_allclose(ours.relaxed.positions, their["atoms"].positions, atol=1e-6)
            found = their["results"]
            if not own_energies:
                found = {"energy": found["referenced_adsorption_energy"]["adsorption_energy"]}
            assert ours.energy == pytest.approx(found["energy"], abs=1e-6)


def test_the_table_is_fairchems(tmp_path, model, done):
    """One system only: fairchem draws all systems from one stream of random numbers."""
    data = write_slab_input(tmp_path / "in.pkl", ["*CO"], Pt111_CO=-1.25)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner = AdsorbMLRunner(
            calculator(model), str(data), adsorption_energy_model=True, num_placements=3, steps=4
        )
    np.random.seed(placement_seed(0, "Pt111_CO", RANDOM))
    theirs = runner.calculate()[0]
    ours = table(done)
    assert sorted(ours) == sorted(theirs)
    assert ours["sid"] == {"0": "Pt111_CO", "1": "Pt111_O"}
    assert ours["energy_target"] == {"0": -1.25, "1": None}
    assert ours["anomaly_count"]["0"] == theirs["anomaly_count"]
    assert ours["energy"]["0"] == pytest.approx(theirs["energy"], abs=1e-6)


def test_the_same_command_again_calculates_nothing(done, model, data, monkeypatch):
    before = numbers(load_results(done))
    monkeypatch.setattr(BatchPredictor, "__call__", lambda *_: pytest.fail("again"))
    assert numbers(load_results(run(done.parents[1], model, data))) == before


def test_array_jobs_share_the_systems_and_change_nothing(tmp_path, done, model, data):
    first = run(tmp_path, model, data, job=0, jobs=2)
    assert [r.system for r in load_results(first)] == ["Pt111_CO"]
    assert not (first / "report.html").exists()
    run(tmp_path, model, data, job=1, jobs=2)
    for (name, _, ours), (_, _, whole) in zip(
        numbers(load_results(first)), numbers(load_results(done)), strict=True
    ):
        assert [c[0] for c in ours] == [c[0] for c in whole], name
        np.testing.assert_allclose([c[1] for c in ours], [c[1] for c in whole], atol=1e-9)
    assert (first / "report.html").exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"placements": {RANDOM: 2}}, "placements"),
        ({"relaxation": {"steps": 5}}, "relaxation"),
        ({"seed": 1}, "seed"),
        ({"precision": "float32"}, "precision"),
    ],
)
def test_results_of_another_run_are_refused(done, model, data, change, what):
    with pytest.raises(ValueError, match=f"something else.*{what}.*run_name=NAME"):
        run(done.parents[1], model, data, **change)


def test_results_of_another_checkpoint_are_refused(tmp_path, done, data):
    other = write_model(tmp_path / "other.pt", seed=1)
    with pytest.raises(ValueError, match="checkpoint_sha256: "):
        run(done.parents[1], other, data)


@pytest.mark.parametrize(
    ("energy", "said", "message"),
    [
        ("total", True, "DFT total energy.*set adsorption_energy_model=false"),
        ("total_linear", True, "linear references.*set adsorption_energy_model=false"),
        ("adsorption", False, "adsorption energy.*leave adsorption_energy_model at true"),
        ("linear_residual", False, "not added back.*needs adsorption energies"),
    ],
)
def test_a_model_of_other_energies_is_refused(tmp_path, data, energy, said, message):
    model = write_model(tmp_path / "tiny.pt", energy)
    with pytest.raises(ValueError, match=message):
        run(tmp_path, model, data, adsorption_energy_model=said)


@pytest.mark.parametrize("energy", [None, "unknown"])
def test_a_checkpoint_that_says_nothing_is_taken_at_its_users_word(tmp_path, data, energy, capsys):
    run(tmp_path, write_model(tmp_path / "tiny.pt", energy), data, placements={RANDOM: 1})
    assert "does not say what its energies are; taken as adsorption" in capsys.readouterr().out


def test_dft_energies_of_another_kind_are_said_once_and_in_the_report(tmp_path, model, capsys):
    data = write_slab_input(tmp_path / "in.pkl", ["*O"], Pt111_O=-120.0)
    results = run(tmp_path, model, data, placements={RANDOM: 1}, relaxation={"steps": 1})
    out = capsys.readouterr().out
    assert "NOTE: predicted energies differ from the labels of DFT (min_dft_ads_energy" in out
    assert "different kinds of energy" in (results / "report.html").read_text()


@pytest.mark.parametrize(("force", "reason"), [(np.nan, "not finite"), (1e200, "too large")])
def test_a_structure_that_explodes_leaves_the_others_alone(
    tmp_path, done, model, data, force, reason, monkeypatch
):
    predicted, calls = BatchPredictor.__call__, itertools.count(1)

    def exploding(self, structures):
        found = predicted(self, structures)
        if next(calls) == 2:
            found[0].forces[-1] = force
        return found

    monkeypatch.setattr(BatchPredictor, "__call__", exploding)
    results = load_results(run(tmp_path, model, data))
    failed = [c for r in results for c in r.candidates if c.error]
    assert [c.id for c in failed] == [f"{RANDOM}-0000"]
    assert reason in failed[0].error
    assert failed[0].energy is None
    assert failed[0] not in results[0].ranked()
    whole = {c.id: c.energy for c in load_results(done)[0].candidates}
    for one in results[0].candidates[1:]:
        assert one.energy == pytest.approx(whole[one.id], abs=1e-9)


def test_a_system_that_cannot_be_placed_leaves_the_others_alone(tmp_path, model):
    path = write_changed_input(
        tmp_path / "in.pkl", lambda c: c["Pt111_CO"]["slab_initial"].atoms.set_constraint()
    )
    results = {r.system: r for r in load_results(run(tmp_path, model, path))}
    assert "Sub-surface atoms not constrained" in results["Pt111_CO"].error
    assert results["Pt111_CO"].candidates == ()
    assert len(results["Pt111_O"].candidates) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_data_path": None}, "set input=FILE.json"),
        ({"precision": "half"}, "float32 or float64"),
        ({"placements": {"random": 0}}, "no placements"),
        ({"relaxation": {"stps": 3}}, "did you mean 'steps'"),
        ({"batch": {"structures": 0, "atoms": None}}, "at least 1 of structures"),
    ],
)
def test_bad_options_are_refused_at_once(model, data, change, message):
    with pytest.raises(ValueError, match=message):
        make_runner(model, data, **change)


def relaxed_with(predict, folder: Path, systems) -> list:
    """Results of all systems, with clean slabs relaxed too."""
    protocol = Protocol({RANDOM: 3}, place_on_relaxed_slab=True)
    settings = RelaxationSettings(fmax=0.05, steps=6)
    batch = BatchLimit(structures=2)
    return list(
        relax_systems(systems, protocol, predict, settings, batch, folder, (0, 1), {"a": 1})
    )


class Counting:
    """EMT that counts calls and structures."""

    def __init__(self) -> None:
        self.calls = self.structures = 0

    def __call__(self, batch):
        return self.predict(batch)

    def predict(self, batch):
        self.calls += 1
        self.structures += len(batch)
        return emt(batch)


@pytest.mark.parametrize("last", [3, 12, 20])
def test_a_killed_run_goes_on(tmp_path, data, last):
    """Within clean slabs, within the first system, within the last one."""
    systems = read_input(data)
    whole = Counting()
    expected = numbers(relaxed_with(whole, tmp_path / "whole", systems))
    assert whole.calls > 20
    folder = tmp_path / "killed"
    # EMT runs no threads, so that a fork is safe.
    kill_at_call(Counting, "predict", last, relaxed_with, Counting(), folder, systems)
    store = folder / "relaxed.0-of-1.jsonl"
    finished = len(store.read_bytes().splitlines()) - 1
    assert (finished > 0) == (last > 6)
    rest = Counting()
    assert numbers(relaxed_with(rest, folder, systems)) == expected
    # Two clean slabs and six placements: none was relaxed twice.
    assert len(store.read_bytes().splitlines()) - 1 == 8
    assert rest.structures < whole.structures or not finished


def test_of_placements_that_were_relaxed_twice_the_first_count(tmp_path, data, capsys):
    systems = read_input(data)
    expected = numbers(relaxed_with(emt, tmp_path, systems))
    store = tmp_path / "relaxed.0-of-1.jsonl"
    lines = store.read_text().splitlines(keepends=True)
    other = {**json.loads(lines[-1]), "energies": [0.0]}
    (tmp_path / "relaxed.1-of-2.jsonl").write_text(lines[0] + json.dumps(other) + "\n")
    assert numbers(relaxed_with(None, tmp_path, systems)) == expected
    assert "1 structure(s) were relaxed twice, by jobs with different" in capsys.readouterr().out
