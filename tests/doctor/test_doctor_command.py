"""`eqv2 export` and `eqv2 doctor` from file to table, numbers and picture."""

from __future__ import annotations

import json

import ase.io
import native_checkpoints as inputs
import numpy as np
import pytest
import torch
from ase.build import bulk
from helpers import molecule, predict, slab

from eqv2_plugin.cli import main
from eqv2_plugin.doctor.subject import UnitPredictor
from eqv2_plugin.inference.predictor import choose_task, known_elements, open_unit
from eqv2_plugin.models.hydra import EquiformerV2


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctor")
    for kind in inputs.KINDS:
        inputs.write_checkpoint(folder / f"{kind}.pt", kind, inputs.number_references())
        assert main(["export", f"{folder / kind}.pt", f"{folder / kind}.safetensors"]) == 0
    ase.io.write(folder / "some.extxyz", [molecule(), slab()])
    return folder


@pytest.mark.parametrize("name", ["direct.pt", "conservative.safetensors", "equiformer_v1.pt"])
def test_a_table_numbers_and_a_picture_are_made(files, capsys, name):
    report, picture = files / f"{name}.json", files / f"{name}.png"
    arguments = ["doctor", str(files / name), "--structures", str(files / "some.extxyz")]
    arguments += ["--device", "cpu", "--seconds", "2", "--json", str(report), "--plot"]
    status = main([*arguments, str(picture)])
    text = capsys.readouterr().out
    found = json.loads(report.read_text())
    assert found["direct_forces"] == name.startswith("direct")
    # Conservative models predict stress, too.
    assert len(found["checks"]) == 11 + (not name.startswith("direct"))
    for check in found["checks"]:
        assert f"{check['check']} " in text
        assert check["text"] in text
    verdicts = {check["verdict"] for check in found["checks"]}
    assert status == (1 if "bad" in verdicts else 0)
    assert f"verdict: {'bad' if status else ''}" in text
    speed = found["checks"][-1]["numbers"]
    assert 0 < speed["seconds_best"] <= speed["seconds_alone"]
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.pt"], "none.pt"),
        (["none.safetensors"], "there is no file"),
        (["some.extxyz"], "some.extxyz"),
        (["weights.pt"], "no inference checkpoint of fairchem 2"),
        (["direct.pt", "--task", "omat"], "no task 'omat'; it has oc20"),
        (["direct.pt", "--structures", "astatine.traj"], "holds At"),
        (["direct.pt", "--plot", "curves.pdf"], r"--plot writes .png"),
        (["direct.pt", "--json", "nowhere/found.json"], "does not exist"),
    ],
)
def test_what_cannot_be_examined_is_one_line(files, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    torch.save({"state_dict": {}}, "weights.pt")
    ase.io.write("astatine.traj", bulk("At", "fcc", a=4.0))
    assert main(["doctor", *arguments, "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("eqv2: ")
    assert captured.err.count("\n") == 1
    assert "rotation" not in captured.out


def test_structures_are_predicted_as_they_are_alone_and_in_a_batch(files):
    unit = open_unit(files / "direct.pt", "cpu", torch.float64)
    outside = slab()
    outside.positions[0] += 3 * outside.cell[0]
    found = UnitPredictor(unit, "oc20")([molecule(), outside])
    content = inputs.checkpoint("direct")
    config = {key: v for key, v in content.model_config.items() if key != "_target_"}
    model = EquiformerV2(**config).double().eval()
    averaged = content.ema_state_dict
    model.load_state_dict({n: averaged[f"module.{n}"] for n in content.model_state_dict})
    for atoms, prediction in zip((molecule(), outside), found, strict=True):
        expected = predict(model, atoms)
        references = sum(0.01 * z + 1e-9 for z in atoms.numbers)
        energy = float(expected["energy"]) * inputs.SCALE + inputs.MEAN + references
        assert prediction.energy == pytest.approx(energy, rel=1e-10)
        forces = expected["forces"].numpy() * inputs.SCALE
        assert np.abs(prediction.forces - forces).max() < 1e-9 * np.abs(forces).max()


def test_elements_without_reference_are_not_known(tmp_path):
    path = inputs.write_checkpoint(tmp_path / "a.pt", "direct", inputs.written_references())
    unit = open_unit(path, "cpu", torch.float32)
    assert known_elements(unit, "oc20") == {1, 6, 8, 11, 17, 19, 29}


def test_one_of_several_tasks_must_be_chosen_and_needs_forces(tmp_path):
    content = inputs.checkpoint("direct")
    content.tasks_config[0]["datasets"] = ["oc20", "omat"]
    torch.save(content, tmp_path / "two.pt")
    unit = open_unit(tmp_path / "two.pt", "cpu", torch.float32)
    with pytest.raises(ValueError, match="oc20, omat: choose one with --task"):
        choose_task(unit, None)
    assert choose_task(unit, "oc20") == "oc20"
    with pytest.raises(ValueError, match="no forces for omat, but only energy"):
        choose_task(unit, "omat")
