"""`eqv2 data fit-references`, `fit-normalizer` and `check` from the command line."""

from __future__ import annotations

import argparse

import hydra
import numpy as np
import pytest
import torch
import yaml
from inspection_inputs import molecule_frames, oc20_frames, relabelled, write_dataset
from matplotlib import image
from omegaconf import OmegaConf

from eqv2_plugin.cli.data import check, references
from eqv2_plugin.data.references.coefficients import load_coefficients

TRAIN, VAL = "embedded:oc20_sample/train", "embedded:oc20_sample/val_ood"


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    references.add_parsers(commands)
    check.add_parsers(commands)
    options = parser.parse_args([str(argument) for argument in arguments])
    return options.run(options)


def test_fitted_references_go_into_a_file_and_a_table(tmp_path, capsys):
    out = tmp_path / "mine.npz"
    assert run("fit-references", TRAIN, VAL, "--out", out) == 0
    printed = capsys.readouterr().out
    coefficients = load_coefficients(out)
    assert f"{'Mo':<8} {coefficients[42]:>14.6f}" in printed
    assert "444 frames" in printed
    assert "minimum norm" in printed  # thirteen systems, 25 elements
    assert np.isnan(coefficients[9])
    assert_config_holds(printed.partition("For a config:")[2], coefficients)


def assert_config_holds(text: str, coefficients: np.ndarray) -> None:
    """The config lines make references with these values, through a checkpoint's plain data."""
    config = OmegaConf.to_container(OmegaConf.create(text))
    made = hydra.utils.instantiate(config["energy_element_references"]).element_references
    expected = torch.tensor(coefficients, dtype=torch.float32)
    torch.testing.assert_close(made, expected, rtol=0, atol=0, equal_nan=True)


def test_symbols_that_yaml_takes_for_truth_values_survive():
    coefficients = np.full(119, np.nan)
    coefficients[[7, 39, 102]] = -8.0, -6.5, -1.0  # N, Y, No
    assert_config_holds(references.written_out_block(coefficients), coefficients)


def test_separable_elements_are_not_said_to_be_open(tmp_path, capsys):
    frames = []
    for index, symbols in enumerate(("H2O", "HO", "H2", "O2", "H2O2")):
        atoms = molecule_frames(1)[0][:0]
        for symbol in type(atoms)(symbols):
            atoms.append(symbol)
        atoms.info = {"sid": str(index)}
        frames.append(relabelled(atoms, float(index)))
    folder = write_dataset(tmp_path / "data", frames)
    assert run("fit-references", folder, "--out", tmp_path / "out.npz") == 0
    assert "minimum norm" not in capsys.readouterr().out


def test_the_printed_normalisers_are_a_config(tmp_path, capsys):
    file, out = tmp_path / "mine.npz", tmp_path / "normalizers.yaml"
    run("fit-references", TRAIN, "--out", file)
    capsys.readouterr()
    assert run("fit-normalizer", TRAIN, "--references", file, "--out", out) == 0
    text = out.read_text()
    assert capsys.readouterr().out == text
    config = yaml.safe_load(text)
    energy = hydra.utils.instantiate(config["energy_normalizer"])
    forces = hydra.utils.instantiate(config["force_normalizer"])
    assert float(energy.mean) == pytest.approx(0.0, abs=1e-6)
    assert 0.5 < float(energy.rmsd) < 2.4695  # without references: 2.4696
    assert float(forces.rmsd) == pytest.approx(0.789138, abs=1e-6)
    assert_config_holds(text, load_coefficients(file))


def test_published_references_keep_their_name_in_the_config(tmp_path, capsys):
    run("fit-normalizer", VAL, "--references", "oc20_linear")
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["energy_element_references"]["name"] == "oc20_linear"
    run("fit-normalizer", VAL)
    assert "energy_element_references" not in yaml.safe_load(capsys.readouterr().out)


WRONG = {
    "no npz": (("fit-references", VAL, "--out", "a.txt"), ValueError, r"as \.npz"),
    "no folder": (("fit-references", VAL, "--out", "no/a.npz"), FileNotFoundError, "no folder no"),
    "a folder": (("fit-normalizer", VAL, "--out", "."), IsADirectoryError, "is a folder"),
    "no references": (
        ("fit-normalizer", VAL, "--references", "oc23"),
        ValueError,
        "unknown element references 'oc23'",
    ),
    "no source": (("check", "nowhere"), FileNotFoundError, "nowhere does not exist"),
    "twice": (("check", VAL, VAL), ValueError, "named twice"),
    "no sample": (("check", VAL, "--sample", "0"), ValueError, "positive number"),
    "no property": (
        ("fit-references", VAL, "--out", "a.npz", "--property", "gap"),
        ValueError,
        "no label 'gap'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_refused(case, tmp_path, monkeypatch):
    arguments, kind, message = WRONG[case]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message):
        run(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_check_prints_a_table_and_draws_histograms(tmp_path, capsys):
    assert run("check", TRAIN, VAL, "--out", tmp_path / "plots") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == TRAIN
    assert "verdict: ok" in lines[-1]
    assert sum(line.startswith("shared systems") for line in lines) == 1
    files = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert files == ["energy_per_atom.png", "force_norms.png", "natoms.png"]
    for name in files:
        pixels = image.imread(tmp_path / "plots" / name)
        assert pixels.shape[0] > 300
        assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 20


def test_check_exits_with_1_on_bad_data_only(tmp_path, capsys):
    frames = oc20_frames(5)
    good = write_dataset(tmp_path / "good", frames)
    bad = write_dataset(tmp_path / "bad", [*frames, frames[0]])
    (good / "metadata.npz").unlink()
    assert run("check", good) == 0
    assert "verdict: look" in capsys.readouterr().out
    assert run("check", bad) == 1
    assert "verdict: bad" in capsys.readouterr().out


def test_unlabelled_data_is_drawn_without_labels(tmp_path):
    folder = write_dataset(tmp_path / "data", [relabelled(atoms) for atoms in oc20_frames(3)])
    run("check", folder, "--out", tmp_path / "plots")
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["natoms.png"]
