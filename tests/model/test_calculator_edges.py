"""What fairchem's calculator makes of an inference checkpoint of ours where most users never go."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.build import molecule as ase_molecule
from fairchem.core import FAIRChemCalculator
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings
from helpers import hessian_by_differences
from native_checkpoints import checkpoint

from eqv2_plugin.common.text import warn_once
from eqv2_plugin.inference.predictor import BatchPredictor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


def calculator(folder, kind: str, cutoff: float | None = None, **settings) -> FAIRChemCalculator:
    made = checkpoint(kind)
    if cutoff is not None:
        made.model_config["backbone"]["cutoff"] = cutoff
    path = folder / f"{kind}{cutoff}.pt"
    torch.save(made, path)
    return FAIRChemCalculator.from_model_checkpoint(
        str(path),
        device="cpu",
        inference_settings=InferenceSettings(
            activation_checkpointing=False, base_precision_dtype=torch.float64, **settings
        ),
    )


def test_an_external_graph_shorter_than_the_models_is_refused_when_the_calculator_is_made(folder):
    with pytest.raises(ValueError, match=r"within 6 Å, but this model .* cutoff of 8 Å"):
        calculator(folder, "direct", cutoff=8.0, external_graph_gen=True)
    calculator(folder, "direct", cutoff=6.0, external_graph_gen=True)


def test_a_hessian_on_request_is_the_derivative_of_the_forces(folder):
    calc = calculator(folder, "conservative", predict_untrained_hessian={"oc20"})
    atoms = ase_molecule("H2O")
    atoms.rattle(0.05, seed=1)
    calc.calculate(atoms, ["hessian"], [])
    found = calc.results["hessian"].reshape(9, 9)
    without = calculator(folder, "conservative")
    wanted = hessian_by_differences(without.get_forces, atoms)
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_a_hessian_of_direct_forces_is_refused_when_the_calculator_is_made(folder):
    with pytest.raises(ValueError, match="hessian"):
        calculator(folder, "direct", predict_untrained_hessian={"oc20"})


def test_the_stress_of_a_molecule_is_nan_and_this_is_said_once(folder, caplog):
    calc = calculator(folder, "conservative")
    crystal = bulk("Cu", cubic=True)
    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            for name in ("H2O", "CO"):
                atoms = ase_molecule(name)
                atoms.calc = calc
                assert np.isnan(atoms.get_stress()).all()
                assert np.isfinite(atoms.get_forces()).all()
    said = [record for record in caplog.records if "its stress is NaN" in record.message]
    assert len(said) == 1
    crystal.calc = calc
    assert np.isfinite(crystal.get_stress()).all()


def test_our_predictor_gives_a_stress_to_those_that_have_a_volume(folder):
    calc = calculator(folder, "conservative")
    crystal, layer = bulk("Cu", cubic=True), bulk("Cu", cubic=True)
    crystal.rattle(0.1, seed=1)
    layer.pbc = [True, True, False]
    found = BatchPredictor(calc.predictor, "oc20")([ase_molecule("CO"), crystal, layer])
    assert found[0].stress is None
    assert found[2].stress is None
    crystal.calc = calc
    wanted = crystal.get_stress(voigt=False)
    assert np.abs(found[1].stress - wanted).max() < 1e-10 * np.abs(wanted).max()


def test_our_predictor_refuses_to_predict_nothing(folder):
    with pytest.raises(ValueError, match="there are no structures to predict"):
        BatchPredictor(calculator(folder, "direct").predictor, "oc20")([])


def test_a_singular_cell_is_named_before_positions_are_wrapped_into_it(folder):
    calc = calculator(folder, "direct")
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell([[3, 0, 0], [6, 0, 0], [0, 0, 3]])
    atoms.calc = calc
    with pytest.raises(ValueError, match="zero or parallel"):
        atoms.get_potential_energy()
