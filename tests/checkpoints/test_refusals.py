"""What cannot be converted is refused with one error, and nothing is written."""

from __future__ import annotations

import pytest
import torch
import yaml
from checkpoint_inputs import DENS, OC22, PLAIN, edited

from eqv2_plugin.checkpoints.families import family_of
from eqv2_plugin.checkpoints.v1.convert import convert_file


def refused(source, tmp_path, match, error=ValueError, **options):
    target = tmp_path / "new.pt"
    with pytest.raises(error, match=match):
        convert_file(source, target, **options)
    assert not list(tmp_path.glob("new.pt*"))


def refused_after(change, tmp_path, match, source=PLAIN, **options):
    refused(edited(source, tmp_path / "old.pt", change), tmp_path, match, **options)


def key_with(checkpoint, part):
    return next(key for key in checkpoint["state_dict"] if part in key)


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gemnet_oc", "GemNet-OC"),
        ("gemnet_t", "GemNet-dT"),
        ("escn", "eSCN"),
        ("scn", "SCN"),
        ("schnet", "SchNet"),
        ("painn", "PaiNN"),
        ("dimenetplusplus", r"DimeNet\+\+"),
        ("something_new", "not known here.*something_new"),
    ],
)
def test_a_checkpoint_of_another_family_is_named(tmp_path, model, family):
    def other(checkpoint):
        checkpoint["config"]["model"] = {"name": model}

    refused_after(other, tmp_path, f"of {family}|of a model {family}")


def test_a_hydra_model_with_another_backbone_is_named(tmp_path):
    def other(checkpoint):
        checkpoint["config"]["model"]["backbone"]["model"] = "escn_backbone"

    refused_after(other, tmp_path, "checkpoint of eSCN", source=DENS)


@pytest.mark.parametrize(
    ("parameter", "family"),
    [
        ("module.mlp_rbf_qint.linear.weight", "GemNet-OC"),
        ("layer_blocks.0.message_block.so2_block_source.fc1", "eSCN"),
        ("blocks.0.ffn.so3_linear_1.weight", "EquiformerV2"),
    ],
)
def test_a_family_is_known_by_its_parameters_where_there_is_no_config(parameter, family):
    assert family_of(None, [parameter]) == family
    assert family_of(None, ["linear.weight"]) is None


def test_another_family_without_config_is_named(tmp_path):
    def other(checkpoint):
        checkpoint["config"] = None
        checkpoint["state_dict"] = {"module.mlp_rbf_qint.linear.weight": torch.ones(2)}

    refused_after(other, tmp_path, "GemNet-OC")


def test_a_file_without_config_asks_for_one(tmp_path):
    refused_after(lambda c: c.pop("config"), tmp_path, "--config")


@pytest.mark.parametrize(("lmax", "mmax"), [(2, 2), (4, 2)])
def test_a_wrong_lmax_is_named(tmp_path, lmax, mmax):
    def changed(checkpoint):
        checkpoint["config"]["model"].update(lmax_list=[lmax], mmax_list=[mmax])

    refused_after(changed, tmp_path, f"lmax={lmax} .*weights are of lmax=3")


def test_a_missing_parameter_is_listed(tmp_path):
    def without(checkpoint):
        del checkpoint["state_dict"][key_with(checkpoint, "alpha_dot")]

    refused_after(without, tmp_path, r"missing \(1\): .*alpha_dot")


def test_an_unknown_parameter_is_named(tmp_path):
    refused_after(
        lambda c: c["state_dict"].update({"surprise.weight": torch.ones(1)}),
        tmp_path,
        "unknown parameter.*surprise",
    )


def test_a_parameter_that_the_model_does_not_use_is_listed(tmp_path):
    def another_block(checkpoint):
        state = checkpoint["state_dict"]
        for key in [key for key in state if key.startswith("blocks.0.")]:
            state[key.replace("blocks.0.", "blocks.1.")] = state[key]

    refused_after(another_block, tmp_path, r"not used \(\d+\): backbone\.blocks\.1\.")


def test_a_parameter_of_another_shape_is_listed(tmp_path):
    def wider(checkpoint):
        checkpoint["config"]["model"]["ffn_hidden_channels"] = 16

    refused_after(wider, tmp_path, "other shape.*in the file")


def test_a_normaliser_that_nothing_uses_is_named(tmp_path):
    numbers = {"mean": torch.tensor(0.0), "std": torch.tensor(1.0)}
    refused_after(
        lambda c: c["normalizers"].update(band_gap=numbers), tmp_path, "band_gap.*no head uses"
    )


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ({"mean": torch.zeros(2), "std": torch.ones(2)}, "one finite number"),
        ({"mean": torch.tensor(0.0), "std": torch.tensor(0.0)}, "not positive"),
        ({"mean": torch.tensor(0.0)}, "one finite number"),
        ({"std": torch.tensor(1.0)}, "no mean and rmsd"),
    ],
)
def test_a_normaliser_that_is_none_is_refused(tmp_path, numbers, match):
    refused_after(lambda c: c["normalizers"].update(target=numbers), tmp_path, match)


def test_references_for_another_target_are_refused(tmp_path):
    references = {"forces": {"element_references": torch.zeros(119)}}
    refused_after(lambda c: c.update(elementrefs=references), tmp_path, "no scalar head")


def test_a_head_or_option_that_is_not_known_is_named(tmp_path):
    def head(checkpoint):
        checkpoint["config"]["model"]["heads"]["energy"]["module"] = "my_head"

    def option(checkpoint):
        checkpoint["config"]["model"]["heads"]["energy"]["sparkle"] = 1

    def backbone(checkpoint):
        checkpoint["config"]["model"]["backbone"]["sparkle"] = 1

    def hydra(checkpoint):
        checkpoint["config"]["model"]["sparkle"] = 1

    refused_after(head, tmp_path, "my_head", source=DENS)
    for change in (option, backbone, hydra):
        refused_after(change, tmp_path, "unknown option.*sparkle", source=DENS)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    def spoilt(checkpoint):
        checkpoint["state_dict"][key_with(checkpoint, "norm.affine_weight")][:] = torch.nan

    refused_after(spoilt, tmp_path, "are not finite for a small structure")


def test_a_file_that_exists_is_not_overwritten(tmp_path):
    target = tmp_path / "new.pt"
    target.write_text("mine")
    with pytest.raises(FileExistsError, match="remove it"):
        convert_file(PLAIN, target)
    assert target.read_text() == "mine"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        convert_file(PLAIN, tmp_path / "none" / "new.pt")


def test_a_converted_file_is_not_converted_again(tmp_path):
    convert_file(PLAIN, tmp_path / "once.pt")
    refused(tmp_path / "once.pt", tmp_path, "an inference checkpoint of fairchem 2 already")
    refused(tmp_path / "once.pt", tmp_path, "fairchem 2 already", unsafe=True)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"state_dict": {"a": "text"}}])
def test_other_content_is_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "old.pt")
    refused(tmp_path / "old.pt", tmp_path, "no checkpoint|must hold tensors")


def test_a_config_of_another_model_is_in_conflict(tmp_path):
    config = {
        "model": {"name": "equiformer_v2"},
        "dataset": {"normalize_labels": True, "target_mean": 0.0, "target_std": 1.0},
    }
    (tmp_path / "v1.yml").write_text(yaml.safe_dump(config))
    refused(PLAIN, tmp_path, "in conflict.*energy", config=tmp_path / "v1.yml")
    (tmp_path / "bad.yml").write_text("model: [unclosed")
    refused(PLAIN, tmp_path, "cannot be read", config=tmp_path / "bad.yml")
    (tmp_path / "other.yml").write_text("a: 1")
    refused(PLAIN, tmp_path, "has no 'model'", config=tmp_path / "other.yml")


def test_references_that_the_config_mentions_must_be_there_and_the_reverse(tmp_path):
    def removed(checkpoint):
        del checkpoint["state_dict"][key_with(checkpoint, "energy_lin_ref")]

    def unmentioned(checkpoint):
        for key in ("use_energy_lin_ref", "load_energy_lin_ref"):
            del checkpoint["config"]["model_attributes"][key]

    for change in (removed, unmentioned):
        refused_after(change, tmp_path, "energy reference in conflict", source=OC22)
