"""Every layout of fairchem-core 1 gives the numbers of its calculator, through fairchem 2's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkpoint_inputs import Expected, checkpoint_cases
from fairchem.core import FAIRChemCalculator

from eqv2_plugin.checkpoints.describe import describe_file
from eqv2_plugin.checkpoints.v1.convert import Conversion, convert_file

CASES = checkpoint_cases()
# A training checkpoint and what the same run wrote as its best one, from the same step.
PAIRS = [
    (folder, best)
    for folder in CASES
    for best in CASES
    if best.name == f"{folder.name}_best" and "dens" not in best.name
]


@pytest.fixture(scope="module", params=CASES, ids=lambda folder: folder.name)
def converted(request, tmp_path_factory) -> tuple[Path, Path, Conversion]:
    folder = request.param
    target = tmp_path_factory.mktemp(folder.name) / "new.pt"
    return folder, target, convert_file(folder / "checkpoint.pt", target)


def calculator(path: Path) -> FAIRChemCalculator:
    return FAIRChemCalculator.from_model_checkpoint(
        str(path), device="cpu", inference_settings="traineval"
    )


def check(folder: Path, target: Path) -> set[str]:
    expected, calc, compared = Expected(folder), calculator(target), set()
    for index, atoms in expected.structures().items():
        atoms.calc = calc
        compared |= set(expected.compare(index, atoms))
    return compared


def test_energies_forces_and_stress_are_those_of_fairchem_1(converted):
    folder, target, _ = converted
    compared = check(folder, target)
    assert compared >= {"energy", "forces"}
    assert ("stress" in compared) == ("omat" in folder.name or "mptrj" in folder.name)


def test_old_and_new_file_have_the_same_weights_and_tasks(converted):
    folder, target, done = converted
    old, new = describe_file(folder / "checkpoint.pt"), describe_file(target)
    for key in ("weights_sha256", "parameters", "architecture", "tasks"):
        assert old[key] == new[key]
    assert new["weights_sha256"] == done.metadata.weights_sha256
    assert new["facts"]["source_sha256"] == old["file_sha256"] == done.metadata.source_sha256
    assert new["facts"]["energy_reference"] == old["facts"]["energy_reference"]


def test_both_state_dicts_of_the_new_file_share_their_memory(converted):
    _, target, _ = converted
    checkpoint = torch.load(target, weights_only=False)
    for name, value in checkpoint.model_state_dict.items():
        assert checkpoint.ema_state_dict[f"module.{name}"].data_ptr() == value.data_ptr()
    assert target.stat().st_size < 1.5 * sum(
        value.nbytes for value in checkpoint.model_state_dict.values()
    )


@pytest.mark.skipif(not PAIRS, reason="such pairs are in EQV2_FIXTURES only")
@pytest.mark.parametrize(("training", "best"), PAIRS, ids=lambda folder: folder.name)
def test_averaged_weights_of_a_training_checkpoint_are_those_of_the_best_one(
    training, best, tmp_path
):
    convert_file(training / "checkpoint.pt", tmp_path / "ema.pt", weights="ema")
    assert check(best, tmp_path / "ema.pt")
