"""``eqv2 convert`` on files of the Equiformer authors' code for MD17."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.units import kcal, mol
from e3nn import o3
from equiformer_v1_case import EquiformerCase
from fairchem.core import FAIRChemCalculator

import eqv2_plugin
from eqv2_plugin import cli
from eqv2_plugin.checkpoints.door import read_model
from eqv2_plugin.checkpoints.equiformer_v1.convert import PUBLISHED

CASE = EquiformerCase(Path(__file__).parents[1] / "fixtures" / "eqf1_dens_l2")
STD = 5.0  # kcal/mol
TABLE = "blocks.0.ga.sep_act.dtp.tp._compiled_main_left_right._w3j_1_2_2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Files as the authors' script writes them, wrapped or not, with and without tables."""
    found = tmp_path_factory.mktemp("authors")
    wrapped = {f"module.{name}": value for name, value in CASE.state.items()}
    table = o3.wigner_3j(1, 2, 2)
    torch.save({"state_dict": wrapped}, found / "old.pth.tar")
    torch.save({"state_dict": {**CASE.state, TABLE: table}}, found / "new_table.pth.tar")
    torch.save({"state_dict": {**CASE.state, TABLE: -table}}, found / "old_table.pth.tar")
    keywords = {"model": CASE.config["model"]["kwargs"]}
    (found / "model.yml").write_text(yaml.safe_dump(keywords))
    return found


def convert(folder: Path, old: str, new: str, *options: str) -> int:
    given = ["--energy-std", str(STD), "--config", str(folder / "model.yml"), *options]
    return cli.main(["convert", str(folder / old), str(folder / new), *given])


def test_a_converted_file_predicts_as_the_authors_code_in_ev(folder, capsys):
    assert convert(folder, "old.pth.tar", "a.pt", "--wigner-3j", "e3nn_0.5") == 0
    out = capsys.readouterr().out
    assert "e3nn_0.5, as given" in out
    assert "parameters: 13,113, all of them fit" in out
    predictor = eqv2_plugin.load(folder / "a.pt", "cpu", "batch")
    assert predictor.model.module.backbone.config.force_scale == pytest.approx(kcal / mol)
    calculator = FAIRChemCalculator(predictor, task_name="md17")
    count = int(CASE.inputs["natoms"][0])
    numbers = CASE.inputs["atomic_numbers"][:count]
    atoms = Atoms(numbers, CASE.inputs["pos"][:count], calculator=calculator)
    scale = STD * kcal / mol
    wanted = CASE.outputs["plain__energy"].ravel()[0] * scale
    assert atoms.get_potential_energy() == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    forces = CASE.outputs["plain__forces"][:count] * scale
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=2e-5 * np.abs(forces).max())


def test_signs_come_from_the_tables_in_the_file_or_from_the_user(folder, capsys):
    assert convert(folder, "old.pth.tar", "said.pt", "--wigner-3j", "e3nn_0.4") == 0
    assert convert(folder, "old_table.pth.tar", "told.pt") == 0
    assert "e3nn_0.4, of the tables in the file" in capsys.readouterr().out
    assert convert(folder, "new_table.pth.tar", "other.pt") == 0
    said, told, other = (read_model(folder / f"{n}.pt").weights for n in ("said", "told", "other"))
    assert all(torch.equal(said[key], told[key]) for key in said)
    turned = {key.rpartition(".")[2] for key in said if not torch.equal(said[key], other[key])}
    # Rows of the last radial layers, their offsets and the shared weights of second products.
    assert turned == {"weight", "offset", "scales_2"}


@pytest.mark.parametrize(
    ("old", "options", "message"),
    [
        ("old.pth.tar", [], "Say which: e3nn_0.4"),
        ("old_table.pth.tar", ["--wigner-3j", "e3nn_0.5"], "are those of e3nn_0.4, but e3nn_0.5"),
        ("new_table.pth.tar", ["--weights", "ema"], "--weights is for files of fairchem-core 1"),
        ("new_table.pth.tar", ["--energy-std", "-1"], "must be a positive number of kcal/mol"),
    ],
)
def test_what_cannot_be_converted_is_said_in_a_line(folder, capsys, old, options, message):
    assert convert(folder, old, "none.pt", *options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "none.pt").exists()


def test_a_file_says_neither_its_scale_nor_an_unpublished_size(folder, capsys):
    old, new = str(folder / "new_table.pth.tar"), str(folder / "none.pt")
    assert cli.main(["convert", old, new]) == 1
    assert "give --energy-std" in capsys.readouterr().err
    assert cli.main(["convert", old, new, "--energy-std", "5"]) == 1
    error = capsys.readouterr().err
    assert "13,113 parameters are of none of the published models" in error
    assert all(f"{count:,}" in error for count in PUBLISHED)


def test_info_of_the_authors_file_says_how_to_convert_it(folder, capsys):
    assert cli.main(["info", str(folder / "old.pth.tar")]) == 1
    assert "eqv2 convert OLD NEW.pt --energy-std KCAL" in capsys.readouterr().err


def test_the_options_for_equiformer_are_for_its_files_alone(folder, capsys):
    old = Path(__file__).parents[1] / "fixtures" / "ckpt_hydra_dens_mptrj_best" / "checkpoint.pt"
    assert cli.main(["convert", str(old), str(folder / "none.pt"), "--energy-std", "5"]) == 1
    assert "are for weights of Equiformer's code" in capsys.readouterr().err
