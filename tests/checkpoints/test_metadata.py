"""Metadata travels in the checkpoint and is said once; which energy is read in one place."""

from __future__ import annotations

import logging
from pathlib import Path

import native_checkpoints as inputs
import pytest
import torch
import yaml
from checkpoint_inputs import DENS, OC22, PLAIN
from fairchem.core.units.mlip_unit.predict import MLIPPredictUnit

from eqv2_plugin import cli
from eqv2_plugin.checkpoints.door import export_native, open_model, read_inference_checkpoint
from eqv2_plugin.checkpoints.v1.convert import convert_file
from eqv2_plugin.common.text import warn_once
from eqv2_plugin.models.metadata import (
    ENERGY_REFERENCES,
    EnergyKind,
    ModelMetadata,
    energy_kind_of,
    metadata_of,
    same_energies,
)
from eqv2_plugin.tasks.adsorbml.analysis import check_energy_kind
from eqv2_plugin.tasks.relaxation.notes import energy_note
from eqv2_plugin.training.runner import check_same_model
from eqv2_plugin.version import __version__

ROOT = Path(__file__).parents[2]
DATA = sorted((ROOT / "src/eqv2_plugin/configs/data").glob("*.yaml"))
COPPER = (
    "DFT total energy minus clean slab minus gas-phase CO, CHO or COH, eV (functional not stated)"
)


@pytest.fixture(autouse=True)
def _nothing_said_before():
    warn_once.cache_clear()


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    path = tmp_path_factory.mktemp("metadata") / "new.pt"
    convert_file(PLAIN, path)
    return path


def said(caplog) -> list[str]:
    return [r.message for r in caplog.records if r.message.startswith("energies of this model")]


@pytest.mark.parametrize("kind", EnergyKind)
def test_it_survives_the_plain_data_that_a_checkpoint_holds(kind):
    made = ModelMetadata("x", "PBE", "y", {"energy": "eV"}, "a guess", energy_kind=kind)
    plain = made.to_dict()
    # A class of ours in a pickle would have to be on every list of allowed classes; keys stay.
    assert type(plain["energy_kind"]) is str
    assert plain["basis"] == "a guess"
    assert ModelMetadata.from_mapping(plain) == made


@pytest.mark.parametrize(
    ("stored", "match"),
    [
        ({"functionnal": "PBE"}, "did you mean 'functional'"),
        ({"weights": 3}, "must be text"),
        ({"energy_kind": "totl"}, r"energy_kind.*adsorption, total, .*not 'totl'"),
    ],
)
def test_what_is_none_is_refused(stored, match):
    with pytest.raises(ValueError, match=match):
        ModelMetadata.from_mapping(stored)


def test_a_calculators_model_knows_and_says_it_once_and_that_of_another_file_too(
    converted, caplog, tmp_path
):
    convert_file(PLAIN, tmp_path / "other.pt", wanted_reference="unknown")
    with caplog.at_level(logging.WARNING):
        units = [MLIPPredictUnit(str(converted), device="cpu") for _ in range(2)]
    metadata = metadata_of(units[0].model.module)
    assert metadata.energy_reference == ENERGY_REFERENCES["adsorption"]
    assert (metadata.functional, metadata.training_data) == ("RPBE", "OC20")
    assert metadata.units == {"energy": "eV", "forces": "eV/Å"}
    assert metadata.converter_version == __version__
    assert len(metadata.source_sha256) == 64
    (line,) = said(caplog)
    for text in ("adsorption energy", "RPBE", "OC20", metadata.source_file, metadata.weights):
        assert text in line
    with caplog.at_level(logging.WARNING):
        MLIPPredictUnit(str(tmp_path / "other.pt"), device="cpu")
    assert len(said(caplog)) == 2


def test_a_checkpoint_without_metadata_loads_and_says_nothing(tmp_path, caplog):
    path = inputs.write_checkpoint(tmp_path / "old.pt", "direct")
    with caplog.at_level(logging.WARNING):
        unit = MLIPPredictUnit(str(path), device="cpu")
    assert metadata_of(unit.model.module) is None
    assert energy_kind_of(None) is EnergyKind.UNKNOWN
    assert said(caplog) == []


def test_a_kind_alone_words_the_reference():
    assert "DFT total energy" in ModelMetadata.from_mapping({"energy_kind": "total"}).sentence()


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.stem)
def test_files_of_before_the_kind_mean_what_their_recipe_says_now(path):
    config = yaml.safe_load(path.read_text())
    words = ModelMetadata.from_mapping({"energy_reference": config["energy_reference"]})
    assert energy_kind_of(words) is EnergyKind(config["energy_kind"])


FOREIGN = dict.fromkeys(["my own adsorption energy", "total energy, but shifted", ""], "unknown")


@pytest.mark.parametrize(
    ("words", "kind"), [*FOREIGN.items(), *((ENERGY_REFERENCES[kind], kind) for kind in EnergyKind)]
)
def test_words_that_conversion_wrote_keep_their_meaning_and_others_are_not_guessed_at(words, kind):
    assert energy_kind_of(ModelMetadata(words)) == kind


def test_what_the_file_states_counts_whatever_its_words():
    stated = ModelMetadata("no adsorption energy", energy_kind=EnergyKind.TOTAL)
    assert energy_kind_of(stated) is EnergyKind.TOTAL
    assert "kind: total" in stated.sentence()


def test_total_energies_compare_however_they_were_learned_and_unknown_ones_with_none():
    assert same_energies(EnergyKind.TOTAL, EnergyKind.TOTAL_LINEAR) is True
    assert same_energies(EnergyKind.ADSORPTION, EnergyKind.TOTAL) is False
    assert same_energies(EnergyKind.LINEAR_RESIDUAL, EnergyKind.TOTAL) is False
    for kind in EnergyKind:
        assert same_energies(kind, EnergyKind.UNKNOWN) is None
        assert same_energies(kind, kind) in (True, None)


@pytest.mark.parametrize("words", [COPPER, ENERGY_REFERENCES[EnergyKind.ADSORPTION]])
def test_relaxations_and_adsorbml_read_the_same_words_alike(words):
    metadata = ModelMetadata(words)
    kind = energy_kind_of(metadata)
    assert energy_note(kind, metadata.sentence(), EnergyKind.UNKNOWN) == ""
    assert words in check_energy_kind(metadata, adsorption_energy_model=True)


def test_the_mean_of_a_training_set_makes_no_total_energy():
    config = yaml.safe_load((ROOT / "src/eqv2_plugin/configs/data/md17.yaml").read_text())
    for adsorption in (True, False):
        with pytest.raises(ValueError, match="AdsorbML needs adsorption energies"):
            check_energy_kind(ModelMetadata(config["energy_reference"]), adsorption)


@pytest.mark.parametrize(
    ("source", "kind"),
    [(PLAIN, "adsorption"), (OC22, "total_linear"), (DENS, "total_linear")],
    ids=lambda value: value if isinstance(value, str) else value.parent.name,
)
def test_conversion_export_and_info_carry_the_kind(source, kind, tmp_path, capsys):
    convert_file(source, tmp_path / "new.pt")
    stored = read_inference_checkpoint(tmp_path / "new.pt").model_config["facts"]
    assert (stored["energy_kind"], type(stored["energy_kind"])) == (kind, str)
    export_native(tmp_path / "new.pt", tmp_path / "new.safetensors")
    unit = open_model(tmp_path / "new.safetensors", device="cpu")
    assert energy_kind_of(metadata_of(unit.model.module)) == kind
    for path in (source, tmp_path / "new.pt", tmp_path / "new.safetensors"):
        assert cli.main(["info", str(path)]) == 0
        assert f"energy kind: {kind}\n" in capsys.readouterr().out


def test_info_reads_the_kind_of_a_file_of_before(tmp_path, capsys):
    made = inputs.checkpoint("direct")
    made.model_config["facts"] = {"energy_reference": COPPER}
    torch.save(made, tmp_path / "old.pt")
    assert cli.main(["info", str(tmp_path / "old.pt")]) == 0
    assert "energy kind: adsorption\n" in capsys.readouterr().out


def test_a_run_of_before_the_kind_goes_on(tmp_path):
    """Resuming compares the models' options, but metadata is words about them."""
    now = {"lmax": 2, "facts": {"energy_reference": COPPER, "energy_kind": "adsorption"}}
    before = {"lmax": 2, "facts": {"energy_reference": COPPER}}
    content = {"runner": {"train_eval_unit": {"model": before}}}
    (tmp_path / "resume.yaml").write_text(yaml.safe_dump(content))
    check_same_model(tmp_path, now)
    with pytest.raises(ValueError, match="lmax: 2 -> 3"):
        check_same_model(tmp_path, {**now, "lmax": 3})
