"""What a fine-tuning run starts from, and the errors before its first step."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from finetuning_inputs import REFERENCES, write_start
from helpers import CONSERVATIVE, DIRECT_HEADS, ENERGY
from recipes import composed

from eqv2_plugin.models.hydra import EquiformerV2
from eqv2_plugin.training.finetuning import starting_model
from eqv2_plugin.training.start import start_normalizer, start_references
from eqv2_plugin.training.summary import improvements

NOISE = {"module": "eqv2_plugin.heads.forces.NoiseHead"}
STRESS = {"module": "eqv2_plugin.heads.stress.StressHead"}


def begin(path: Path, heads=DIRECT_HEADS, seed: int = 0, backbone=None, **options) -> EquiformerV2:
    torch.manual_seed(seed)
    return starting_model(str(path), backbone or {}, heads, **options)


def changed(model: EquiformerV2, ema: dict[str, torch.Tensor]) -> set[str]:
    """First two parts of the names whose values are not the checkpoint's ema ones."""
    return {
        ".".join(name.split(".")[:2])
        for name, value in model.state_dict().items()
        if not torch.equal(value, ema[name])
    }


def test_everything_starts_from_the_ema_weights(start):
    path, ema = start
    model = begin(path)
    assert changed(model, ema) == set()
    assert all(parameter.requires_grad for parameter in model.backbone.parameters())


def test_a_new_head_differs_and_the_kept_one_does_not(start):
    path, ema = start
    assert changed(begin(path, new_heads=["energy"]), ema) == {"output_heads.energy"}


def test_new_heads_follow_the_seed(start):
    path, _ = start
    first, again, other = (begin(path, seed=s, new_heads=["energy"]) for s in (3, 3, 4))
    states = [m.output_heads.energy.energy_block.state_dict() for m in (first, again, other)]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert any(not torch.equal(states[0][k], states[2][k]) for k in states[0])


def test_a_head_that_is_not_wanted_is_dropped(start):
    path, ema = start
    model = begin(path, heads={"energy": ENERGY})
    assert set(model.output_heads) == {"energy"}
    assert set(model.finetune_model_full_config["heads"]) == {"energy"}
    assert changed(model, ema) == set()


def test_a_kept_head_keeps_its_options(tmp_path):
    write_start(tmp_path / "mean.pt", {**DIRECT_HEADS, "energy": {**ENERGY, "reduce": "mean"}})
    model = begin(tmp_path / "mean.pt")
    assert model.output_heads.energy.reduce == "mean"
    assert model.finetune_model_full_config["heads"]["energy"]["reduce"] == "mean"


def test_a_frozen_backbone_leaves_the_heads_to_train(start):
    model = begin(start[0], freeze_backbone=True)
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"output_heads"}


def test_dens_adds_what_the_checkpoint_lacks_and_its_predictions_stay(start):
    path, ema = start
    heads = {**DIRECT_HEADS, "noise_forces": NOISE}
    encoding = {"force_encoding": True}
    model = begin(path, heads=heads, backbone=encoding, freeze_backbone=True)
    added = {k for k in model.state_dict() if k not in ema}
    assert {".".join(k.split(".")[:2]) for k in added} == {
        "backbone.force_embedding",
        "output_heads.noise_forces",
    }
    assert all(torch.equal(model.state_dict()[k], ema[k]) for k in ema)
    # What is added to plain structures is the embedding's bias.
    assert not model.backbone.force_embedding.linear.bias.any()
    assert all(p.requires_grad for p in model.backbone.force_embedding.parameters())


def test_dens_weights_of_the_checkpoint_are_kept(tmp_path):
    heads = {**DIRECT_HEADS, "noise_forces": NOISE}
    ema = write_start(tmp_path / "dens.pt", heads, force_encoding=True)
    encoding = {"force_encoding": True}
    assert changed(begin(tmp_path / "dens.pt", heads=heads, backbone=encoding), ema) == set()
    # Without DeNS the embedding stays: its bias is part of every prediction.
    assert changed(begin(tmp_path / "dens.pt"), ema) == set()


def test_from_scratch_shares_the_architecture_alone(start):
    path, ema = start
    model = begin(path, from_scratch=True)
    state = model.state_dict()
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in ema.items()}
    name = "backbone.atom_embedding.weight"
    assert not torch.equal(state[name], ema[name])
    assert model.finetune_model_full_config["facts"]["basis"] == "trained from scratch"


def test_facts_are_those_of_the_new_data(start):
    model = begin(start[0], facts={"energy_reference": "total energy"})
    assert model.metadata.energy_reference == "total energy"
    assert model.metadata.provenance == "fine-tuned from start.pt"


@pytest.mark.parametrize(("kind", "said"), [("total", True), ("adsorption", False)])
def test_data_with_another_kind_of_energy_are_said(tmp_path, caplog, kind, said):
    path = tmp_path / "start.pt"
    write_start(path)
    content = torch.load(path, weights_only=False)
    content.model_config["facts"] = {"energy_kind": "adsorption"}
    torch.save(content, path)
    with caplog.at_level(logging.WARNING):
        begin(path, facts={"energy_kind": kind})
    notes = [r.message for r in caplog.records if "Fit references and a normaliser" in r.message]
    assert bool(notes) is said
    assert all("holds total energies, but the model predicts adsorption" in note for note in notes)


def test_dropout_may_change_and_the_architecture_may_not(start):
    path, ema = start
    model = begin(path, backbone={"alpha_drop": 0.3, "lmax": 2})
    assert model.backbone.config.alpha_drop == 0.3
    assert changed(model, ema) == set()
    with pytest.raises(ValueError, match=r"lmax=3 is not what the weights.*\(2\)"):
        begin(path, backbone={"lmax": 3})
    with pytest.raises(ValueError, match="did you mean 'lmax'"):
        begin(path, backbone={"lmx": 3})


def test_forces_of_the_other_kind_are_refused(start, tmp_path):
    path, _ = start
    with pytest.raises(ValueError, match=r"has direct forces.*heads=direct"):
        begin(path, backbone={"direct_forces": False})
    write_start(tmp_path / "c.pt", {"gradient": CONSERVATIVE}, direct_forces=False)
    with pytest.raises(ValueError, match=r"has conservative forces.*heads=conservative"):
        begin(tmp_path / "c.pt", heads={"gradient": CONSERVATIVE}, backbone={"direct_forces": True})


def test_conservative_forces_start_from_their_head(tmp_path):
    ema = write_start(tmp_path / "c.pt", {"energy": CONSERVATIVE}, direct_forces=False)
    model = begin(tmp_path / "c.pt", heads={"gradient": CONSERVATIVE}, freeze_backbone=True)
    old, new = "output_heads.energy.", "output_heads.gradient."
    found = {k.replace(new, old): v for k, v in model.state_dict().items()}
    assert all(torch.equal(found[k], ema[k]) for k in ema)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"new_heads": ["stress"]}, r"new_heads names \['stress'\]"),
        (
            {"heads": {**DIRECT_HEADS, "stress": STRESS}},
            r"no head to start 'stress' \(StressHead\).*energy \(EnergyHead\).*=\[stress\]",
        ),
        ({"from_scratch": True, "freeze_backbone": True}, "would freeze random weights"),
    ],
    ids=["unknown new head", "missing head", "frozen random weights"],
)
def test_options_that_do_not_fit_are_refused(start, options, message):
    with pytest.raises(ValueError, match=message):
        begin(start[0], **options)


def test_a_missing_checkpoint_says_where_the_default_comes_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nix\.pt is no file.*make train"):
        begin(tmp_path / "nix.pt")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "old.pt")
    with pytest.raises(ValueError, match="eqv2 convert"):
        begin(tmp_path / "old.pt")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04" + b"0" * 100)
    with pytest.raises(ValueError, match="truncated"):
        begin(tmp_path / "cut.pt")


def test_weights_that_do_not_fit_the_config_are_refused(start, tmp_path):
    checkpoint = torch.load(start[0], weights_only=False)  # written above
    del checkpoint.ema_state_dict["module.backbone.atom_embedding.weight"]
    torch.save(checkpoint, tmp_path / "hole.pt")
    with pytest.raises(ValueError, match=r"do not fit.*atom_embedding"):
        begin(tmp_path / "hole.pt")
    checkpoint.ema_state_dict = {}
    torch.save(checkpoint, tmp_path / "raw.pt")
    with pytest.raises(ValueError, match="no EMA weights"):
        begin(tmp_path / "raw.pt")


def compose(path: Path, *overrides: str):
    return composed("eqv2_finetune", f"checkpoint={path}", *overrides).runner


def test_normalisers_and_references_come_from_the_checkpoint(tmp_path):
    write_start(tmp_path / "start.pt", references=REFERENCES)
    energy, forces = compose(tmp_path / "start.pt").train_eval_unit.tasks
    assert (energy.normalizer.mean, energy.normalizer.rmsd) == (-0.5, 2.0)
    assert (forces.normalizer.mean, forces.normalizer.rmsd) == (0.0, 2.0)
    assert energy.element_references == REFERENCES
    none = compose(tmp_path / "start.pt", "references=none").train_eval_unit.tasks[0]
    assert none.element_references is None


def test_fitted_values_are_written_out(start, tmp_path):
    coefficients = np.full(100, np.nan)
    coefficients[[6, 29]] = -7.25, -3.5
    np.savez(tmp_path / "refs.npz", coeff=coefficients, atoms=np.ones(100))
    blocks = {"energy_normalizer": {"mean": 0.25, "rmsd": 1.5}, "force_normalizer": {"mean": 0.0}}
    (tmp_path / "norm.yaml").write_text(yaml.safe_dump(blocks))
    assert start_references(str(tmp_path / "refs.npz"), str(start[0])) == {
        "_target_": "eqv2_plugin.data.references.written_out_references",
        "values": {"C": -7.25, "Cu": -3.5},
    }
    fitted = str(tmp_path / "norm.yaml")
    assert start_normalizer(fitted, str(start[0]), "energy", "rmsd") == 1.5
    with pytest.raises(ValueError, match="no number 'rmsd'"):
        start_normalizer(fitted, str(start[0]), "forces", "rmsd")
    with pytest.raises(ValueError, match="has no stress_normalizer"):
        start_normalizer(fitted, str(start[0]), "stress", "rmsd")
    with pytest.raises(ValueError, match="predicts no stress"):
        start_normalizer("checkpoint", str(start[0]), "stress", "rmsd")
    with pytest.raises(FileNotFoundError, match="fit-normalizer"):
        start_normalizer("nix.yaml", str(start[0]), "energy", "rmsd")


def test_labels_choose_tasks_and_heads(start):
    scale = ("stress_normalizer.mean=0", "stress_normalizer.rmsd=0.1")
    both, stress, dens = (["energy", "forces", *m] for m in ([], ["stress"], ["noise_forces"]))
    cases = {
        (): (both, both),
        ("finetune/labels=energy",): (["energy"], ["energy"]),
        ("finetune/labels=energy_forces_stress", *scale): (stress, stress),
        ("finetune/training=dens",): (dens, dens),
        ("heads=conservative", "energy_normalizer.rmsd=2.0"): (both, ["gradient"]),
    }
    for overrides, expected in cases.items():
        unit = compose(start[0], *overrides).train_eval_unit
        found = [task.name for task in unit.tasks], sorted(unit.model.heads)
        assert found == expected, overrides


def test_the_improvement_is_printed_as_a_factor():
    before = {"val": {"forces_mae_meV_per_A": 210.0, "energy_mae_meV": 50.0}}
    after = {"val": {"forces_mae_meV_per_A": 95.0, "energy_mae_meV": 100.0}, "test": {}}
    assert improvements(before, after) == [
        "val: force MAE 210.0 -> 95.0 meV/Å: 2.21 times lower",
        "val: energy MAE 50.0 -> 100.0 meV: 2.00 times higher",
    ]
