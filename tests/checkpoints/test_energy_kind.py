"""Which energy: one enum, set by recipes and conversion, read in one place."""

from __future__ import annotations

from pathlib import Path

import native_checkpoints as inputs
import pytest
import torch
import yaml
from checkpoint_inputs import DENS, OC22, PLAIN

from eqv2_plugin import cli
from eqv2_plugin.checkpoints.door import export_native, open_model, read_inference_checkpoint
from eqv2_plugin.checkpoints.v1.convert import convert_file
from eqv2_plugin.models.energy_kind import (
    ENERGY_REFERENCES,
    EnergyKind,
    energy_kind_of,
    same_energies,
)
from eqv2_plugin.models.metadata import ModelMetadata
from eqv2_plugin.tasks.adsorbml.analysis import check_energy_kind
from eqv2_plugin.tasks.relaxation.report import energy_notes
from eqv2_plugin.training.runner import check_same_model

ROOT = Path(__file__).parents[2]
DATA = sorted((ROOT / "src/eqv2_plugin/configs/data").glob("*.yaml"))
COPPER = (
    "DFT total energy minus clean slab minus gas-phase CO, CHO or COH, eV (functional not stated)"
)


@pytest.mark.parametrize("kind", EnergyKind)
def test_a_kind_survives_the_plain_data_that_a_checkpoint_holds(kind):
    plain = ModelMetadata(energy_kind=kind).to_dict()
    # A class of ours in a pickle would have to be on every list of allowed classes.
    assert type(plain["energy_kind"]) is str
    assert energy_kind_of(ModelMetadata.from_mapping(plain)) is kind


def test_a_wrong_kind_is_refused_with_the_list_of_kinds():
    with pytest.raises(ValueError, match=r"energy_kind.*adsorption, total, .*not 'totl'"):
        ModelMetadata.from_mapping({"energy_kind": "totl"})


def test_a_kind_alone_words_the_reference():
    facts = ModelMetadata.from_mapping({"energy_kind": "total"})
    assert "DFT total energy" in facts.sentence()


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.stem)
def test_files_of_before_the_kind_mean_what_their_recipe_says_now(path):
    config = yaml.safe_load(path.read_text())
    words = ModelMetadata.from_mapping({"energy_reference": config["energy_reference"]})
    assert energy_kind_of(words) is EnergyKind(config["energy_kind"])


@pytest.mark.parametrize("kind", EnergyKind)
def test_files_that_were_converted_before_keep_their_meaning(kind):
    assert energy_kind_of(ModelMetadata(ENERGY_REFERENCES[kind])) is kind


@pytest.mark.parametrize("words", ["my own adsorption energy", "total energy, but shifted", ""])
def test_words_that_this_package_never_wrote_are_not_guessed_at(words):
    assert energy_kind_of(ModelMetadata(words)) is EnergyKind.UNKNOWN


def test_what_the_file_states_counts_whatever_its_words():
    stated = ModelMetadata("no adsorption energy", energy_kind=EnergyKind.TOTAL)
    assert energy_kind_of(stated) is EnergyKind.TOTAL
    assert "kind: total" in stated.sentence()


def test_without_facts_nothing_is_known():
    assert energy_kind_of(None) is EnergyKind.UNKNOWN


def test_total_energies_compare_however_they_were_learned_and_unknown_ones_with_none():
    assert same_energies(EnergyKind.TOTAL, EnergyKind.TOTAL_LINEAR) is True
    assert same_energies(EnergyKind.ADSORPTION, EnergyKind.TOTAL) is False
    assert same_energies(EnergyKind.LINEAR_RESIDUAL, EnergyKind.TOTAL) is False
    for kind in EnergyKind:
        assert same_energies(kind, EnergyKind.UNKNOWN) is None
        assert same_energies(kind, kind) in (True, None)


@pytest.mark.parametrize("words", [COPPER, ENERGY_REFERENCES[EnergyKind.ADSORPTION]])
def test_relaxations_and_adsorbml_read_the_same_words_alike(words):
    facts = ModelMetadata(words)
    assert energy_notes(energy_kind_of(facts), facts.sentence()) == []
    assert words in check_energy_kind(facts, adsorption_energy_model=True)


def test_the_mean_of_a_training_set_makes_no_total_energy():
    config = yaml.safe_load((ROOT / "src/eqv2_plugin/configs/data/md17.yaml").read_text())
    facts = ModelMetadata(config["energy_reference"])
    for said in (True, False):
        with pytest.raises(ValueError, match="AdsorbML needs adsorption energies"):
            check_energy_kind(facts, adsorption_energy_model=said)


@pytest.mark.parametrize(
    ("source", "kind"),
    [(PLAIN, "adsorption"), (OC22, "total_linear"), (DENS, "total_linear")],
    ids=lambda value: value if isinstance(value, str) else value.parent.name,
)
def test_conversion_export_and_info_carry_the_kind(source, kind, tmp_path, capsys):
    convert_file(source, tmp_path / "new.pt")
    facts = read_inference_checkpoint(tmp_path / "new.pt").model_config["facts"]
    assert (facts["energy_kind"], type(facts["energy_kind"])) == (kind, str)
    export_native(tmp_path / "new.pt", tmp_path / "new.safetensors")
    unit = open_model(tmp_path / "new.safetensors", device="cpu")
    assert energy_kind_of(unit.model.module.metadata) == kind
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
    """Resuming compares the models' options, but facts are words about them."""
    now = {"lmax": 2, "facts": {"energy_reference": COPPER, "energy_kind": "adsorption"}}
    before = {"lmax": 2, "facts": {"energy_reference": COPPER}}
    content = {"runner": {"train_eval_unit": {"model": before}}}
    (tmp_path / "resume.yaml").write_text(yaml.safe_dump(content))
    check_same_model(tmp_path, now)
    with pytest.raises(ValueError, match="lmax: 2 -> 3"):
        check_same_model(tmp_path, {**now, "lmax": 3})
