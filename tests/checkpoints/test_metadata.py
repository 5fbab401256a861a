"""Metadata travels in the checkpoint and is said once."""

from __future__ import annotations

import logging

import pytest
import torch
from checkpoint_inputs import PLAIN
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint
from fairchem.core.units.mlip_unit.predict import MLIPPredictUnit
from helpers import BACKBONE, DIRECT_HEADS, TINY

from eqv2_plugin.checkpoints.v1.convert import convert_file
from eqv2_plugin.models import metadata as module
from eqv2_plugin.models.hydra import EquiformerV2
from eqv2_plugin.models.metadata import ENERGY_REFERENCES, ModelMetadata, metadata_of
from eqv2_plugin.version import __version__


@pytest.fixture(autouse=True)
def _nothing_said_before(monkeypatch):
    monkeypatch.setattr(module, "_ANNOUNCED", set())


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    path = tmp_path_factory.mktemp("metadata") / "new.pt"
    convert_file(PLAIN, path)
    return path


def said(caplog) -> list[str]:
    return [r.message for r in caplog.records if r.message.startswith("energies of this model")]


def test_it_survives_the_plain_data_that_a_checkpoint_holds():
    units = {"energy": "eV"}
    made = ModelMetadata(ENERGY_REFERENCES["total"], "PBE", "x", units, "a guess", weights="raw")
    # Keys of files do not change.
    assert made.to_dict()["basis"] == "a guess"
    assert ModelMetadata.from_mapping(made.to_dict()) == made


@pytest.mark.parametrize(
    ("stored", "match"),
    [({"functionnal": "PBE"}, "did you mean 'functional'"), ({"weights": 3}, "must be text")],
)
def test_what_is_none_is_refused(stored, match):
    with pytest.raises(ValueError, match=match):
        ModelMetadata.from_mapping(stored)


def test_a_calculators_model_knows_and_says_it_once(converted, caplog):
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


def test_another_checkpoint_in_the_same_process_is_said_too(converted, caplog, tmp_path):
    convert_file(PLAIN, tmp_path / "raw.pt", wanted_reference="unknown")
    with caplog.at_level(logging.WARNING):
        for path in (converted, tmp_path / "raw.pt", converted):
            MLIPPredictUnit(str(path), device="cpu")
    assert len(said(caplog)) == 2


def test_a_checkpoint_without_metadata_loads_and_says_nothing(tmp_path, caplog):
    config = {"backbone": {"model": BACKBONE, **TINY}, "heads": DIRECT_HEADS}
    model = EquiformerV2(**config)
    target = {"_target_": "eqv2_plugin.models.hydra.EquiformerV2", **config}
    state = model.state_dict()
    averaged = {"n_averaged": torch.tensor(0), **{f"module.{k}": v for k, v in state.items()}}
    torch.save(MLIPInferenceCheckpoint(target, state, averaged, []), tmp_path / "old.pt")
    with caplog.at_level(logging.WARNING):
        unit = MLIPPredictUnit(str(tmp_path / "old.pt"), device="cpu")
    assert unit.model.module.metadata is None
    assert said(caplog) == []
    assert torch.equal(
        unit.model.module.state_dict()["backbone.norm.weight"],
        model.state_dict()["backbone.norm.weight"],
    )
