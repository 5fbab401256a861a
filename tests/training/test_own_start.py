"""What a run on one's own data takes from its data, and what from its checkpoint."""

from __future__ import annotations

import pytest
import torch
from finetuning_inputs import write_start
from helpers import CONSERVATIVE, DIRECT_HEADS, ENERGY

from eqv2_plugin.training.finetuning import starting_model
from eqv2_plugin.training.heads import heads_for
from eqv2_plugin.training.own import own_labels, own_references, own_scale, start_direct_forces
from eqv2_plugin.training.tasks import trained_tasks

NOISE = {"module": "eqv2_plugin.heads.forces.NoiseHead"}
FITTED = {"energy_rmsd": 3.0, "force_rms": 2.5, "stress_rms": 0.1}
ENERGIES = {"energy_rmsd": 3.0, "force_rms": None, "stress_rms": None}


@pytest.fixture(scope="module")
def gradient(tmp_path_factory):
    path = tmp_path_factory.mktemp("gradient") / "gradient.pt"
    write_start(path, {"gradient": CONSERVATIVE}, direct_forces=False)
    return str(path)


@pytest.mark.parametrize(
    ("fitted", "direct", "expected"),
    [
        (FITTED, False, (2.5, 2.5, 2.5)),
        (FITTED, True, (3.0, 2.5, 0.1)),
        (ENERGIES, False, (3.0, 3.0, 3.0)),
        (ENERGIES, True, (3.0, 1.0, 1.0)),
    ],
)
def test_scales_of_a_new_model_are_those_of_its_data(fitted, direct, expected):
    for label, rmsd in zip(("energy", "forces", "stress"), expected, strict=True):
        assert own_scale(label, "rmsd", None, None, False, direct, fitted) == rmsd
        assert own_scale(label, "mean", None, None, False, direct, fitted) == 0.0


def test_scales_of_a_checkpoint_are_its_own(start, gradient):
    path = str(start[0])
    assert own_scale("energy", "mean", None, path, False, True, FITTED) == -0.5
    assert own_scale("forces", "rmsd", None, path, False, True, FITTED) == 2.0
    # It has no stress: a new head learns on the data's scale.
    assert own_scale("stress", "rmsd", None, path, False, True, FITTED) == 0.1
    assert own_scale("stress", "rmsd", None, gradient, False, False, FITTED) == 2.0
    assert own_scale("energy", "rmsd", "fit", path, False, True, FITTED) == 3.0
    for option in (own_scale, own_references):
        arguments = ("energy", "rmsd") if option is own_scale else ()
        with pytest.raises(ValueError, match="needs a checkpoint"):
            option(*arguments, "checkpoint", None, False, *([True, FITTED] if arguments else [{}]))


def test_forces_are_those_of_the_checkpoint(start, gradient):
    assert start_direct_forces(str(start[0]))
    assert not start_direct_forces(gradient)
    assert not start_direct_forces(None)


ALL = "energy_forces_stress"


@pytest.mark.parametrize(
    ("given", "stored", "training", "direct", "which", "expected"),
    [
        (None, ALL, "plain", False, None, ALL),
        (None, ALL, "plain", True, None, ALL),
        (None, ALL, "plain", True, "direct", "energy_forces"),
        (ALL, ALL, "plain", True, "direct", ALL),
        (None, ALL, "plain", False, "gradient", ALL),
        (None, ALL, "dens", False, None, "energy_forces"),
        (None, "energy", "plain", False, None, "energy"),
        (None, "energy", "dens", False, None, "encodes forces, and there are none"),
        (ALL, ALL, "dens", False, None, "trains no stress"),
    ],
)
def test_labels_that_can_be_are_trained(
    start, gradient, given, stored, training, direct, which, expected
):
    path = {None: None, "direct": str(start[0]), "gradient": gradient}[which]
    if " " in expected:
        with pytest.raises(ValueError, match=expected):
            own_labels(given, stored, training, direct, path)
    else:
        assert own_labels(given, stored, training, direct, path) == expected


@pytest.mark.parametrize(
    ("labels", "direct", "heads", "names"),
    [
        ("energy", True, DIRECT_HEADS, {"energy"}),
        ("energy_forces", True, {}, {"energy", "forces"}),
        (ALL, True, {**DIRECT_HEADS, "noise_forces": NOISE}, {"energy", "forces", "stress",
                                                              "noise_forces"}),
        ("energy", False, {}, {"gradient"}),
        (ALL, False, {"mine": CONSERVATIVE, "noise_forces": NOISE}, {"mine", "noise_forces"}),
    ],
)  # fmt: skip
def test_heads_follow_from_the_labels(labels, direct, heads, names):
    found, options = heads_for(labels, heads, {"direct_forces": direct, "lmax": 2})
    assert set(found) == names
    assert options.get("regress_stress", False) == (labels == ALL and not direct)


def task(name):
    return {"name": name, "normalizer": {"mean": -1.0, "rmsd": 2.0}, "metrics": ["mae"],
            "loss_fn": {"_target_": "loss", "loss_fn": None}}  # fmt: skip


OPTIONS = {name: task(name) for name in ("energy", "forces", "stress", "noise_forces")}


@pytest.mark.parametrize(
    ("labels", "direct", "names"),
    [
        ("energy", True, ["energy", "noise_forces"]),
        ("energy_forces", False, ["energy", "forces", "noise_forces"]),
        (ALL, False, ["energy", "forces", "stress", "noise_forces"]),
    ],
)
def test_tasks_are_those_of_the_labels(labels, direct, names):
    found = trained_tasks(OPTIONS, labels, direct)
    assert [one["name"] for one in found] == names
    assert not any("loss_fn" in one["loss_fn"] or one.get("inference_only") for one in found)
    assert "loss_fn" in OPTIONS["energy"]["loss_fn"]


def test_gradients_that_are_not_trained_are_predicted_on_the_energys_scale():
    _, forces, _ = trained_tasks(OPTIONS, "energy", False)
    assert forces["inference_only"]
    assert forces["loss_fn"] is None
    assert forces["normalizer"] == {"mean": 0.0, "rmsd": 2.0}


def test_a_checkpoint_of_energies_and_gradients_can_learn_stress(gradient):
    options = {"direct_forces": False, "lmax": None}
    model = starting_model(gradient, options, {}, labels=ALL)
    assert model.output_names == {"energy", "forces", "stress"}
    assert model.gradient_names == {"forces", "stress"}


def test_a_new_model_is_as_its_class_would_make_it(start):
    backbone = {"model": "eqv2_plugin.backbones.equiformer_v2.backbone.EquiformerV2Backbone",
                "lmax": 2, "mmax": 1, "num_layers": 1, "grid_resolution": None,
                "direct_forces": True}  # fmt: skip
    torch.manual_seed(0)
    model = starting_model(None, backbone, {"energy": ENERGY}, labels="energy_forces")
    config = model.finetune_model_full_config
    assert set(config["heads"]) == {"energy", "forces"}
    assert config["_target_"] == "eqv2_plugin.models.hydra.EquiformerV2"
    assert model.backbone.config.grid_resolution == 18  # a null is the default


@pytest.mark.parametrize("option", ["freeze_backbone", "from_scratch", "new_heads"])
def test_what_is_for_checkpoints_needs_one(option):
    with pytest.raises(ValueError, match=f"{option} is for a run from a checkpoint"):
        starting_model(None, {"direct_forces": True}, {}, **{option: ["energy"]})
