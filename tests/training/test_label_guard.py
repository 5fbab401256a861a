"""Labels that are not what the starting checkpoint predicts stop a fine-tuning run."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings
from finetuning_inputs import write_start

from eqv2_plugin.data.datasets import create_datasets
from eqv2_plugin.data.sample import write_ase_db
from eqv2_plugin.inference.predictor import open_predictor
from eqv2_plugin.training import start as start_module
from eqv2_plugin.training.label_guard import LabelGuard, work_note
from eqv2_plugin.training.refit import FILE
from eqv2_plugin.training.start import start_references

KCAL, HARTREE = units.kcal / units.mol, units.Hartree
READER = {"format": "ase_db", "key_mapping": {"energy": "energy", "forces": "forces"}}
REFERENCES = {"Cu": -1.0, "C": -2.0, "O": 3.0}
OF_ELEMENTS = {29: -3.0, 6: -7.0, 8: -5.0}


@pytest.fixture(scope="module")
def predicted(start):
    """Clusters, and what the checkpoint says of them."""
    settings = InferenceSettings(activation_checkpointing=False)
    predict = open_predictor(str(start[0]), "cpu", settings, None)
    rng = np.random.default_rng(0)
    clusters = []
    for i in range(24):
        atoms = Atoms(f"Cu{1 + i % 4}C{1 + i % 3}O{1 + i // 6}")
        atoms.positions = 2.2 * np.stack(np.unravel_index(np.arange(len(atoms)), (3, 3, 3)), 1)
        atoms.positions += 0.2 * rng.normal(size=(len(atoms), 3))
        clusters.append(atoms)
    return clusters, predict(clusters)


def datasets(folder, predicted, energy=1.0, force=1.0, of_element=None):
    """Labels: predictions with some error, times factors, relative to something else."""
    rng, frames = np.random.default_rng(1), []
    error = 0.3 * np.concatenate([one.forces for one in predicted[1]]).std()
    for number, (atoms, one) in enumerate(zip(*predicted, strict=True)):
        labelled = atoms.copy()
        labelled.info["sid"] = str(number)
        shift = sum((of_element or {}).get(z, 0.0) for z in atoms.numbers)
        labels = {
            "energy": energy * (one.energy + 0.05 * rng.normal()) + shift,
            "forces": force * (one.forces + error * rng.normal(size=one.forces.shape)),
        }
        labelled.calc = SinglePointCalculator(labelled, **labels)
        frames.append(labelled)
    (folder / "train").mkdir()
    write_ase_db(frames, folder / "train")
    return create_datasets("mine", str(folder), {"train": {"src": "train"}}, READER, "")


MISMATCHES = {
    "kcal/mol": ({"energy": 1 / KCAL, "force": 1 / KCAL}, "kcal/mol/Å"),
    "atomic units": (
        {"energy": 1 / units.Hartree, "force": units.Bohr / units.Hartree},
        "Hartree/Bohr",
    ),
    "gradients": ({"force": -1.0}, "gradients"),
    "references": ({"of_element": OF_ELEMENTS}, "different kinds of energy"),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_a_mismatch_stops_the_run_and_can_be_ignored(start, predicted, tmp_path, capsys, case):
    change, message = MISMATCHES[case]
    frames = datasets(tmp_path, predicted, **change)
    with pytest.raises(ValueError, match=rf"{message}.*references=refit.*energy=ignore_mismatch"):
        LabelGuard(str(start[0]), "checkpoint").check(frames)
    LabelGuard(str(start[0]), "checkpoint", "ignore_mismatch").check(frames)
    assert message in capsys.readouterr().out


def test_labels_of_the_same_kind_pass(start, predicted, tmp_path):
    LabelGuard(str(start[0]), "checkpoint").check(datasets(tmp_path, predicted))


def test_other_references_pass_where_the_run_has_its_own(start, predicted, tmp_path):
    frames = datasets(tmp_path, predicted, of_element=OF_ELEMENTS)
    LabelGuard(str(start[0]), "refit").check(frames)


def test_refitted_references_turn_predictions_into_labels(start, predicted, tmp_path):
    """As the checkpoint's own, plus what the labels are shifted by; kept for other machines."""
    datasets(tmp_path, predicted, of_element=OF_ELEMENTS)
    data = {"name": "mine", "root": str(tmp_path), "reader": READER, "how_to_get": ""}
    data["train_splits"] = {"train": {"src": "train"}}
    references = {"_target_": "eqv2_plugin.data.references.written_out_references"}
    write_start(tmp_path / "start.pt", references=references | {"values": REFERENCES})
    wanted = {"C": -7.0, "O": -5.0, "Cu": -3.0}
    for checkpoint, folder in ((start[0], "a"), (tmp_path / "start.pt", "b")):
        arguments = (str(checkpoint), False, data, str(tmp_path / folder))
        found = start_references("refit", *arguments)["values"]
        assert found == pytest.approx(wanted, abs=0.05)
        kept = json.loads((tmp_path / folder / FILE).read_text())
        assert kept["references"] == found
    kept["references"]["O"] = -4.9
    (tmp_path / "b" / FILE).write_text(json.dumps(kept))
    start_module._refitted.cache_clear()
    assert start_references("refit", *arguments)["values"]["O"] == -4.9


def test_another_word_for_the_check_is_refused(start):
    with pytest.raises(ValueError, match="energy must be check or ignore_mismatch"):
        LabelGuard(str(start[0]), "checkpoint", "ignore")


def relaxing(energy: float, force: float, noise: float = 0.0) -> list[Atoms]:
    """Frames along a valley, E = k x^2 / 2, labels times factors."""
    rng, frames = np.random.default_rng(0), []
    for x in 0.3 - 0.02 * np.arange(12):
        atoms = Atoms("CuO", positions=[[0, 0, 0], [2 + x, 0, 0]], info={"sid": "a"})
        forces = np.zeros((2, 3))
        forces[:, 0] = 8 * x, -8 * x
        labels = {"energy": energy * (4 * x**2) + noise * rng.normal(), "forces": force * forces}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


@pytest.mark.parametrize(
    ("energy", "force", "said"),
    [
        (1 / HARTREE, 1.0, "energies in Hartree"),
        (-1.0, 1.0, "gradients in place of forces"),
        (1 / KCAL, 1 / KCAL, ""),
        (2.0, 1.0, ""),
    ],
)
def test_energies_that_change_otherwise_than_forces_say_are_told(energy, force, said):
    note = work_note(relaxing(energy, force))
    assert said in note
    assert bool(note) == bool(said)


def test_energies_with_large_errors_are_no_mismatch():
    assert work_note(relaxing(1.0, 1.0, noise=3.0)) == ""
    assert work_note(relaxing(1.0, 1.0)[:3]) == ""
