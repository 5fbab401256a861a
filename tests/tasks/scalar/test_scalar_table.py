"""`eqv2 predict`: a table of one number per structure, beside what is stored."""

from __future__ import annotations

import csv
import logging
import math
from pathlib import Path

import native_checkpoints as inputs
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import write
from fairchem.core import FAIRChemCalculator
from helpers import BACKBONE

import eqv2_plugin
from eqv2_plugin.cli import main
from eqv2_plugin.common.text import warn_once

FACTS = {"target": "band_gap", "target_kind": "intensive"}


def write_scalar_model(path: Path, kind: str = "intensive") -> Path:
    """A tiny model of a band gap, with random weights."""
    head = {"module": "eqv2_plugin.heads.scalar.ScalarHead", "kind": kind}
    tasks = [inputs.task("scalar", "system", [1], inputs.MEAN)]
    made, _ = inputs.assemble({"model": BACKBONE, **inputs.OPTIONS}, {"scalar": head}, tasks)
    made.model_config["facts"] = FACTS
    torch.save(made, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model as ``gap.pt``, and six structures, the last of which has no label."""
    found = tmp_path_factory.mktemp("scalar")
    write_scalar_model(found / "gap.pt")
    rng = np.random.default_rng(0)
    frames = []
    for i in range(6):
        atoms = Atoms("H2OC" if i % 2 else "H2O")
        atoms.positions = 1.3 * np.arange(len(atoms))[:, None] + rng.normal(0, 0.1, (len(atoms), 3))
        atoms.info = {"sid": f"s{i // 2}", "fid": i % 2, "band_gap": 0.5 * i, "other": -1.0}
        frames.append(atoms)
    del frames[-1].info["band_gap"]
    write(found / "mine.extxyz", frames)
    return found


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("form", ["checkpoint", "native"])
def test_rows_hold_prediction_label_and_error(folder, capsys, form, tmp_path):
    model = folder / "gap.pt"
    if form == "native":
        model = tmp_path / "gap.safetensors"
        assert main(["export", str(folder / "gap.pt"), str(model)]) == 0
    out = tmp_path / "gaps.csv"
    assert main(["predict", str(model), str(folder / "mine.extxyz"), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    rows = table(out)
    assert [row["id"] for row in rows] == ["s0_0", "s0_1", "s1_0", "s1_1", "s2_0", "s2_1"]
    assert [row["label"] for row in rows] == ["0.0", "0.5", "1.0", "1.5", "2.0", ""]
    errors = [float(row["error"]) for row in rows[:5]]
    numbers = [float(row["prediction"]) for row in rows]
    assert errors == pytest.approx([n - 0.5 * i for i, n in enumerate(numbers[:5])])
    assert len(set(numbers)) == 6
    assert f"of 5 with a label: MAE {np.abs(errors).mean():.4g}" in said
    assert "band_gap" in said


def test_an_intensive_number_of_two_copies_is_that_of_one(tmp_path):
    """Of an extensive one it is twice as large; far apart, neither copy sees the other."""
    from eqv2_plugin.inference.predictor import open_unit
    from eqv2_plugin.inference.scalars import ScalarPredictor

    one = Atoms("H2O", [[0, 0, 0], [0, 0, 1.0], [0, 0.9, 1.5]])
    two = one.copy()
    two.positions += [20, 0, 0]
    for kind, factor in (("intensive", 1), ("extensive", 2)):
        path = write_scalar_model(tmp_path / f"{kind}.pt", kind)
        predict = ScalarPredictor(open_unit(path, "cpu", torch.float64), None)
        single, double = (n - inputs.MEAN for n in predict.numbers([one, one + two]))
        assert abs(single) > 1e-6
        assert double == pytest.approx(factor * single, rel=1e-9)


def test_another_label_may_be_named_and_a_structure_fails_alone(folder, tmp_path, capsys):
    atoms = Atoms("OX", [[0, 0, 0], [0, 0, 1.5]], info={"sid": "ghost", "other": 2.0})
    atoms.numbers[1] = 90  # beyond the embedding
    write(tmp_path / "bad.extxyz", atoms)
    sources = [str(folder / "mine.extxyz"), str(tmp_path / "bad.extxyz")]
    out = tmp_path / "t.csv"
    assert main(["predict", str(folder / "gap.pt"), *sources, "--out", str(out),
                 "--label", "other"]) == 1  # fmt: skip
    rows = table(out)
    assert [row["label"] for row in rows] == ["-1.0"] * 6 + ["2.0"]
    assert (rows[-1]["prediction"], rows[-1]["error"]) == ("", "")
    assert "Th" in rows[-1]["failed"]
    assert all(math.isfinite(float(row["error"])) for row in rows[:-1])
    assert "1 failed, the first ghost" in capsys.readouterr().out
    assert main(["predict", str(folder / "gap.pt"), *sources, "--out", str(out)]) == 1
    assert "exists: give another --out" in capsys.readouterr().err
    assert main(["predict", str(folder / "gap.pt"), *sources, "--out", str(tmp_path / "u.csv"),
                 "--label", "gap"]) == 1  # fmt: skip
    assert "--label gap: no structure stores such a number" in capsys.readouterr().err


def test_whoever_needs_an_energy_is_told_in_a_sentence(folder, capsys, caplog):
    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, logger="eqv2_plugin"):
        calculator = FAIRChemCalculator(eqv2_plugin.load(folder / "gap.pt", "cpu"))
    assert "predicts 'band_gap' (intensive), one number per structure, and no energy" in caplog.text
    atoms = Atoms("H2O", [[0, 0, 0], [0, 0, 1.0], [0, 0.9, 1.5]])
    atoms.calc = calculator
    with pytest.raises(PropertyNotImplementedError, match="energy"):
        atoms.get_potential_energy()
    assert main(["doctor", str(folder / "gap.pt"), "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert "predicts no energy and no forces for oc20, but only scalar" in said
    assert "`eqv2 predict` writes a table" in said


def test_info_names_the_property(folder, capsys):
    assert main(["info", str(folder / "gap.pt")]) == 0
    said = capsys.readouterr().out
    assert "target: band_gap" in said
    assert "target kind: intensive" in said
    assert "unknown, mean" in said.split("task scalar:")[1]  # its unit is that of the data
