"""An element that the fit of references lacked has no energy, whichever way a model is called."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import native_checkpoints as inputs
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, chemical_symbols
from checkpoint_inputs import DENS, edited
from fairchem.core import FAIRChemCalculator
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch

from eqv2_plugin.checkpoints.door import export_native
from eqv2_plugin.checkpoints.v1.convert import convert_file
from eqv2_plugin.common.text import warn_once
from eqv2_plugin.inference.predictor import BatchPredictor, known_elements, open_unit
from eqv2_plugin.inference.resilient import SafePredictor
from eqv2_plugin.models.known_elements import references_or_nan

FITTED = ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")
PATTERN = r"no element reference for Li, which the structure contains.*Al, Ni, Cu, Pd, Ag, Pt, Au"
LITHIUM, GOLD = bulk("Li"), bulk("Au", cubic=True)


def zeros(path: Path) -> Path:
    """A checkpoint as conversion wrote it before: 0.0 for 111 elements."""
    values = [0.0] * 119
    for symbol in FITTED:
        values[atomic_numbers[symbol]] = -3.0
    references = inputs.number_references()
    references["element_references"]["data"] = values
    return inputs.write_checkpoint(path, "direct", references)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("references")
    convert_file(DENS, folder / "converted.pt")
    found = {"converted": folder / "converted.pt", "of before": zeros(folder / "before.pt")}
    for name, path in list(found.items()):
        found[f"{name}, exported"] = path.with_suffix(".safetensors")
        export_native(path, path.with_suffix(".safetensors"))
    return found


FORMS = ("converted", "of before", "converted, exported", "of before, exported")


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [0.0, 1.0, -2.0], [7.0, 1e-9, 0.0]])
def test_references_that_are_all_nothing_or_all_there_stay(values):
    values = torch.tensor(values)
    values[0] = 0.0
    assert references_or_nan(values) is values


@pytest.mark.parametrize("nothing", [0.0, -0.0, 1e-9])
def test_nothing_beside_something_is_no_reference(nothing):
    found = references_or_nan(torch.tensor([0.0, -3.4, nothing, math.nan]))
    assert torch.isnan(found).tolist() == [False, False, True, True]
    assert float(found[1]) == pytest.approx(-3.4)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_file_knows_the_fitted_elements_alone(files, form):
    unit = open_unit(files[form], "cpu", torch.float32)
    (task,) = unit.dataset_to_tasks
    assert {chemical_symbols[z] for z in known_elements(unit, task)} == set(FITTED)


@pytest.mark.parametrize("form", FORMS)
def test_predictors_refuse_by_name_and_go_on_with_the_others(files, form):
    unit = open_unit(files[form], "cpu", torch.float32)
    predict = BatchPredictor(unit, next(iter(unit.dataset_to_tasks)))
    with pytest.raises(ValueError, match=PATTERN):
        predict([GOLD, LITHIUM])
    refused, good = SafePredictor(predict)([LITHIUM, GOLD])
    assert "no element reference for Li" in refused
    assert math.isfinite(good.energy)


@pytest.mark.parametrize("form", ["converted", "of before"])
def test_fairchems_own_calculator_refuses_by_name(files, form):
    calculator = FAIRChemCalculator.from_model_checkpoint(
        str(files[form]), device="cpu", inference_settings="batch"
    )
    atoms, gold = LITHIUM.copy(), GOLD.copy()
    atoms.calc = gold.calc = calculator
    with pytest.raises(ValueError, match=PATTERN):
        atoms.get_potential_energy()
    assert math.isfinite(gold.get_potential_energy())


def test_a_batch_that_nobody_checked_has_no_plausible_energy(files):
    unit = open_unit(files["of before"], "cpu", torch.float32)
    batch = [AtomicData.from_ase(atoms, task_name="oc20") for atoms in (GOLD, LITHIUM)]
    energies = unit.predict(atomicdata_list_to_batch(batch))["energy"]
    assert torch.isfinite(energies).tolist() == [True, False]


def test_a_file_of_before_is_read_so_aloud_and_once(files, caplog):
    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            open_unit(files["of before"], "cpu", torch.float32)
        open_unit(files["of before, exported"], "cpu", torch.float32)
    said = [r.message for r in caplog.records if "hold 0.0 for 111 elements" in r.message]
    assert len(said) == 1
    assert "Al, Ni, Cu, Pd, Ag, Pt, Au" in said[0]


def test_references_for_hydrogen_alone_predict_hydrogen_alone(tmp_path):
    def hydrogen(checkpoint):
        values = checkpoint["elementrefs"]["energy"]["element_references"]
        values[:] = 0.0
        values[1] = -3.4

    convert_file(edited(DENS, tmp_path / "old.pt", hydrogen), tmp_path / "new.pt")
    unit = open_unit(tmp_path / "new.pt", "cpu", torch.float32)
    (task,) = unit.dataset_to_tasks
    assert known_elements(unit, task) == {1}
    assert math.isfinite(
        BatchPredictor(unit, task)([Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])])[0].energy
    )


def test_references_that_are_all_nothing_refuse_no_element(tmp_path):
    references = inputs.number_references()
    references["element_references"]["data"] = [0.0] * 100
    path = inputs.write_checkpoint(tmp_path / "zero.pt", "direct", references)
    unit = open_unit(path, "cpu", torch.float32)
    most = unit.model.module.backbone.config.max_num_elements
    assert known_elements(unit, "oc20") == set(range(1, most))


def test_references_that_end_early_know_no_element_beyond(tmp_path):
    references = inputs.number_references()
    references["element_references"]["data"] = list(np.linspace(-1, -9, 30))
    path = inputs.write_checkpoint(tmp_path / "short.pt", "direct", references)
    predict = BatchPredictor(open_unit(path, "cpu", torch.float32), "oc20")
    assert math.isfinite(predict([bulk("Cu", cubic=True)])[0].energy)
    with pytest.raises(ValueError, match="no element reference for Au"):
        predict([GOLD])
