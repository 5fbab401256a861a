"""``eqv2 convert`` and ``eqv2 info FILE`` as a user calls them."""

from __future__ import annotations

import json

import pytest
from checkpoint_inputs import DENS, OC22, PLAIN, edited, with_training_state

from eqv2_plugin import cli
from eqv2_plugin.common.hashing import file_sha256


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_convert_says_what_it_took_and_why(tmp_path, capsys):
    old = edited(DENS, tmp_path / "old.pt", with_training_state)
    status, out, _ = run(capsys, "convert", old, tmp_path / "new.pt")
    assert status == 0
    assert "non-EMA (a training checkpoint" in out
    assert file_sha256(old) in out
    assert "stress up to" in out
    assert "linear references per element, which the calculator adds back" in out
    status, out, _ = run(capsys, "convert", old, tmp_path / "ema.pt", "--weights", "ema")
    assert status == 0
    assert "EMA (asked for" in out


def test_convert_fails_with_one_line(tmp_path, capsys):
    status, out, err = run(capsys, "convert", PLAIN, tmp_path / "new.pt", "--weights", "non-ema")
    assert (status, out) == (1, "")
    assert err.startswith("eqv2: non-EMA weights asked for")
    assert err.count("\n") == 1


def test_an_unknown_reference_asks_the_user(tmp_path, capsys):
    def anonymous(checkpoint):
        for values in checkpoint["normalizers"].values():
            values["std"] *= 2
        config = checkpoint["config"]
        config["dataset"], config["task"] = {"src": "mine"}, {}

    old = edited(PLAIN, tmp_path / "old.pt", anonymous)
    _, out, _ = run(capsys, "convert", old, tmp_path / "a.pt")
    assert "say so with --energy-reference" in out
    _, out, _ = run(capsys, "convert", old, tmp_path / "b.pt", "--energy-reference", "total")
    assert "DFT total energy (stated by the user)" in out
    _, out, _ = run(capsys, "info", tmp_path / "b.pt")
    assert "energy reference: DFT total energy\n" in out


@pytest.mark.parametrize("path", [OC22, DENS, PLAIN], ids=lambda path: path.parent.name)
def test_info_of_an_old_file_tells_what_convert_would_do(path, capsys):
    status, out, _ = run(capsys, "info", path)
    assert status == 0
    for text in ("form: fairchem-core 1", "energy reference:", "NEW.pt takes the", "eV/Å"):
        assert text in out


def test_info_as_json_has_every_fact(tmp_path, capsys):
    run(capsys, "convert", OC22, tmp_path / "new.pt")
    status, out, _ = run(capsys, "info", tmp_path / "new.pt", "--json")
    described = json.loads(out)
    assert status == 0
    assert described["form"] == "inference checkpoint of fairchem 2"
    assert described["facts"]["training_data"] == "OC22"
    assert described["architecture"]["backbone"]["lmax"] == 3
    energy, forces = described["tasks"]
    assert (energy["unit"], forces["unit"]) == ("eV", "eV/Å")
    assert energy["rmsd"] == pytest.approx(25.1198, abs=1e-4)
    assert energy["datasets"] == ["oc22"]
    assert all(1 <= int(z) < 90 for z in energy["element_references"])


def test_info_needs_one_file_or_a_config(capsys):
    for arguments in (["info"], ["info", PLAIN, OC22]):
        status, _, err = run(capsys, *arguments)
        assert status == 1
        assert "one checkpoint file" in err
    status, _, err = run(capsys, "info", "--config", "x.yml", "--json")
    assert status == 1
    assert "not for --config" in err
