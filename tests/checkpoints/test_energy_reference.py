"""What a checkpoint's energies are, and when its parts contradict each other."""

from __future__ import annotations

import pytest
import torch
import yaml
from checkpoint_inputs import DENS, OC22, PLAIN, edited, taken_apart

from eqv2_plugin.checkpoints.reading import read_checkpoint
from eqv2_plugin.checkpoints.v1.energy_reference import (
    OC20,
    OMAT,
    PUBLISHED,
    energy_reference,
    find_data_set,
)
from eqv2_plugin.checkpoints.v1.energy_reference import OC22 as OC22_DATA

OC20_NUMBERS = (-0.7554450631141663, 2.887317180633545)


@pytest.mark.parametrize("word", ["oc22", "odac", "omat", "mptrj", "oc20"])
def test_the_path_of_the_training_data_tells_the_data_set(word):
    data, basis = find_data_set({"dataset": {"src": f"/data/{word}/train"}}, None, "a.pt", None)
    assert data.task == word
    assert "config" in basis


def test_the_published_normaliser_and_file_name_tell_the_data_set():
    assert find_data_set({}, OC20_NUMBERS, "a.pt", None)[0] is OC20
    assert find_data_set({}, (0.0, 25.119809935106424), "a.pt", None)[0] is OC22_DATA
    assert find_data_set({}, (0.0, 2.887317180633545), "a.pt", None)[0] is None
    for name, data in PUBLISHED.items():
        assert find_data_set({}, None, name, None)[0] is data


def test_normaliser_and_config_in_conflict_are_refused_until_settled():
    config = {"dataset": {"src": "/data/oc22"}}
    with pytest.raises(ValueError, match=r"in conflict.*OC20.*OC22.*--energy-reference"):
        find_data_set(config, OC20_NUMBERS, "a.pt", None)
    assert find_data_set(config, OC20_NUMBERS, "a.pt", "adsorption")[0] is OC20
    assert find_data_set(config, OC20_NUMBERS, "a.pt", "total")[0] is OC22_DATA


def test_nothing_known_is_unknown_until_the_user_says():
    nothing = (None, "nothing in the file tells")
    assert energy_reference(nothing, None, None).energy_kind == "unknown"
    assert energy_reference(nothing, None, "adsorption").energy_kind == "adsorption"
    assert energy_reference(nothing, "total_linear", None).energy_kind == "total_linear"


@pytest.mark.parametrize(
    ("data", "structure", "wanted"),
    [
        (None, "total_linear", "adsorption"),
        (None, "linear_residual", "total"),
        (None, None, "total_linear"),
        (OC20, None, "total"),
        (OC22_DATA, None, "adsorption"),
        (OC20, "total_linear", None),
        (OMAT, None, None),
    ],
)
def test_contradictions_are_refused(data, structure, wanted):
    with pytest.raises(ValueError, match="in conflict"):
        energy_reference((data, "basis"), structure, wanted)


def test_references_are_added_in_units_of_the_normaliser():
    checkpoint = read_checkpoint(OC22)
    held = checkpoint["state_dict"]["module.module.energy_lin_ref"].double()
    scale = float(checkpoint["normalizers"]["target"]["std"])
    values = taken_apart(OC22).content.references["energy"].tolist()
    assert values == pytest.approx((held * scale).tolist(), rel=1e-12)
    assert max(map(abs, values)) > 0.1


def test_references_that_v1_held_and_did_not_add_are_left_out_or_added_on_request(tmp_path):
    def unused(checkpoint):
        checkpoint["config"]["model_attributes"]["use_energy_lin_ref"] = False

    path = edited(OC22, tmp_path / "a.pt", unused)
    parts = taken_apart(path)
    assert parts.metadata.energy_kind == "linear_residual"
    assert parts.content.references == {}
    assert "left out" in parts.notes[0]
    added = taken_apart(path, wanted_reference="total_linear")
    assert added.content.references.keys() == {"energy"}
    assert added.metadata.energy_kind == "total_linear"


def test_a_hydra_file_that_asks_for_references_which_v1_never_added_needs_a_decision(tmp_path):
    def with_references(checkpoint):
        state = checkpoint["state_dict"]
        state["module.backbone.energy_lin_ref"] = torch.full((96,), 0.5)
        checkpoint["elementrefs"] = {}
        checkpoint["config"]["model"]["backbone"].update(
            use_energy_lin_ref=True, load_energy_lin_ref=True
        )

    path = edited(DENS, tmp_path / "a.pt", with_references)
    with pytest.raises(ValueError, match="never did"):
        taken_apart(path)
    assert taken_apart(path, wanted_reference="linear_residual").content.references == {}
    added = taken_apart(path, wanted_reference="total_linear").content.references["energy"]
    assert added.tolist() == [0.5] * 96


def test_element_references_and_linear_references_at_once_are_refused(tmp_path):
    references = {"energy": {"element_references": torch.zeros(119)}}
    path = edited(OC22, tmp_path / "a.pt", lambda c: c.update(elementrefs=references))
    with pytest.raises(ValueError, match="both"):
        taken_apart(path)


def test_a_config_file_replaces_the_one_in_the_checkpoint(tmp_path):
    path = edited(PLAIN, tmp_path / "a.pt", lambda c: c.update(config=None))
    config = yaml.safe_load(yaml.safe_dump(read_checkpoint(PLAIN)["config"]))
    ours, theirs = taken_apart(path, config=config).content, taken_apart(PLAIN).content
    for part in ("backbone", "heads"):
        assert ours.header.model[part] == theirs.header.model[part]
    assert ours.header.tasks == theirs.header.tasks


def test_what_a_config_does_not_name_is_what_v1_took(tmp_path):
    def silent(checkpoint):
        for key in ("max_radius", "max_neighbors", "norm_type", "enforce_max_neighbors_strictly"):
            del checkpoint["config"]["model"][key]

    backbone = taken_apart(edited(PLAIN, tmp_path / "a.pt", silent)).content.header.model[
        "backbone"
    ]
    assert backbone["cutoff"] == 5.0
    assert backbone["max_neighbors"] == 500
    assert backbone["norm_type"] == "rms_norm_sh"
    assert backbone["enforce_max_neighbors_strictly"] is True
