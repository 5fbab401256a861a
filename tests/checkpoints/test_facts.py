"""Facts travel in the checkpoint and are said once."""

from __future__ import annotations

import logging

import pytest
import torch
from checkpoint_inputs import PLAIN
from fairchem.core.units.mlip_unit.predict import MLIPPredictUnit
from helpers import BACKBONE, DIRECT_HEADS, TINY

from eqv2_plugin.checkpoints import facts as facts_module
from eqv2_plugin.checkpoints.v1.convert import convert_file, write
from eqv2_plugin.models.hydra import EquiformerV2
from eqv2_plugin.models.metadata import ENERGY_REFERENCES, ModelMetadata
from eqv2_plugin.version import __version__


@pytest.fixture(autouse=True)
def _nothing_said_before(monkeypatch):
    monkeypatch.setattr(facts_module, "_ANNOUNCED", set())


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    path = tmp_path_factory.mktemp("facts") / "new.pt"
    convert_file(PLAIN, path)
    return path


def said(caplog) -> list[str]:
    return [r.message for r in caplog.records if r.message.startswith("energies of this model")]


def test_facts_survive_the_plain_data_that_a_checkpoint_holds():
    facts = ModelMetadata(ENERGY_REFERENCES["total"], "PBE", "x", {"energy": "eV"}, weights="raw")
    assert ModelMetadata.from_mapping(facts.to_dict()) == facts


@pytest.mark.parametrize(
    ("facts", "match"),
    [({"functionnal": "PBE"}, "did you mean 'functional'"), ({"weights": 3}, "must be text")],
)
def test_facts_that_are_none_are_refused(facts, match):
    with pytest.raises(ValueError, match=match):
        ModelMetadata.from_mapping(facts)


def test_a_calculators_model_knows_and_says_them_once(converted, caplog):
    with caplog.at_level(logging.WARNING):
        units = [MLIPPredictUnit(str(converted), device="cpu") for _ in range(2)]
    facts = units[0].model.module.metadata
    assert facts.energy_reference == ENERGY_REFERENCES["adsorption"]
    assert (facts.functional, facts.training_data) == ("RPBE", "OC20")
    assert facts.units == {"energy": "eV", "forces": "eV/Å"}
    assert facts.converter_version == __version__
    assert len(facts.source_sha256) == 64
    (line,) = said(caplog)
    for text in ("adsorption energy", "RPBE", "OC20", facts.source_file, facts.weights):
        assert text in line


def test_another_checkpoint_in_the_same_process_is_said_too(converted, caplog, tmp_path):
    convert_file(PLAIN, tmp_path / "raw.pt", wanted_reference="unknown")
    with caplog.at_level(logging.WARNING):
        for path in (converted, tmp_path / "raw.pt", converted):
            MLIPPredictUnit(str(path), device="cpu")
    assert len(said(caplog)) == 2


def test_a_checkpoint_without_facts_loads_and_says_nothing(tmp_path, caplog):
    config = {"backbone": {"model": BACKBONE, **TINY}, "heads": DIRECT_HEADS}
    model = EquiformerV2(**config)
    target = {"_target_": "eqv2_plugin.models.hydra.EquiformerV2", **config}
    write(tmp_path / "old.pt", target, model.state_dict(), [])
    with caplog.at_level(logging.WARNING):
        unit = MLIPPredictUnit(str(tmp_path / "old.pt"), device="cpu")
    assert unit.model.module.metadata is None
    assert said(caplog) == []
    assert torch.equal(
        unit.model.module.state_dict()["backbone.norm.weight"],
        model.state_dict()["backbone.norm.weight"],
    )
