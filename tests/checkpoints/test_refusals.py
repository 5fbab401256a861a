"""What cannot be converted is refused with one error, and nothing is written."""

from __future__ import annotations

import pytest
import torch
import yaml
from checkpoint_inputs import DENS, OC22, PLAIN, edited

from eqv2_plugin.checkpoints.families import family_of
from eqv2_plugin.checkpoints.v1.convert import convert_file


def refused(source, tmp_path, match, error=ValueError, **options):
    with pytest.raises(error, match=match):
        convert_file(source, tmp_path / "new.pt", **options)
    assert not list(tmp_path.glob("new.pt*"))


def key_with(checkpoint, part):
    return next(key for key in checkpoint["state_dict"] if part in key)


def in_model(**options):
    """A change of the config's model."""
    return lambda c: c["config"]["model"].update(options)


def in_part(part, **options):
    """A change of a hydra model's backbone or energy head."""

    def change(checkpoint):
        model = checkpoint["config"]["model"]
        (model["heads"]["energy"] if part == "head" else model["backbone"]).update(options)

    return change


def without(part):
    return lambda c: c["state_dict"].pop(key_with(c, part))


def scaled_by(**numbers):
    return lambda c: c["normalizers"].update(target=numbers)


def family(name):
    return lambda c: c["config"].update(model={"name": name})


def other_parameters(checkpoint):
    checkpoint["config"] = None
    checkpoint["state_dict"] = {"module.mlp_rbf_qint.linear.weight": torch.ones(2)}


def another_block(checkpoint):
    state = checkpoint["state_dict"]
    for key in [key for key in state if key.startswith("blocks.0.")]:
        state[key.replace("blocks.0.", "blocks.1.")] = state[key]


def no_numbers(checkpoint):
    checkpoint["state_dict"][key_with(checkpoint, "norm.affine_weight")][:] = torch.nan


def unmentioned_references(checkpoint):
    for key in ("use_energy_lin_ref", "load_energy_lin_ref"):
        del checkpoint["config"]["model_attributes"][key]


ONE, TWO = torch.tensor(1.0), torch.ones(2)
CHANGES = {
    "GemNet-OC": (PLAIN, family("gemnet_oc"), "of GemNet-OC"),
    "GemNet-dT": (PLAIN, family("gemnet_t"), "of GemNet-dT"),
    "eSCN": (PLAIN, family("escn"), "of eSCN"),
    "SCN": (PLAIN, family("scn"), "of SCN"),
    "unknown family": (PLAIN, family("something_new"), "not known here.*something_new"),
    "other backbone": (DENS, in_part("backbone", model="escn_backbone"), "checkpoint of eSCN"),
    "other parameters": (PLAIN, other_parameters, "GemNet-OC"),
    "no config": (PLAIN, lambda c: c.pop("config"), "--config"),
    "smaller lmax": (PLAIN, in_model(lmax_list=[2]), "lmax=2, .*weights are of lmax=3"),
    "larger lmax": (PLAIN, in_model(lmax_list=[4], mmax_list=[2]), "lmax=4, .*are of lmax=3"),
    "missing weight": (PLAIN, without("alpha_dot"), r"missing \(1\): .*alpha_dot"),
    "unknown weight": (
        PLAIN,
        lambda c: c["state_dict"].update({"surprise.weight": torch.ones(1)}),
        "unknown parameter.*surprise",
    ),
    "unused weights": (PLAIN, another_block, r"not used \(\d+\): backbone\.blocks\.1\."),
    "other shape": (PLAIN, in_model(ffn_hidden_channels=16), "other shape.*in the file"),
    "unused normaliser": (
        PLAIN,
        lambda c: c["normalizers"].update(band_gap={"mean": ONE, "std": ONE}),
        "band_gap.*no head uses",
    ),
    "two numbers": (PLAIN, scaled_by(mean=TWO, std=TWO), "one finite number"),
    "scale of zero": (PLAIN, scaled_by(mean=ONE, std=ONE * 0), "not positive"),
    "no scale": (PLAIN, scaled_by(mean=ONE), "one finite number"),
    "no mean": (PLAIN, scaled_by(std=ONE), "no mean and rmsd"),
    "references of forces": (
        PLAIN,
        lambda c: c.update(elementrefs={"forces": {"element_references": torch.zeros(119)}}),
        "no scalar head",
    ),
    "unknown head": (DENS, in_part("head", module="my_head"), "my_head"),
    "option of a head": (DENS, in_part("head", sparkle=1), "unknown option.*sparkle"),
    "option of the backbone": (DENS, in_part("backbone", sparkle=1), "unknown option.*sparkle"),
    "option of the model": (DENS, in_model(sparkle=1), "unknown option.*sparkle"),
    "weights that are not finite": (PLAIN, no_numbers, "are not finite for a small structure"),
    "references not there": (OC22, without("energy_lin_ref"), "energy reference in conflict"),
    "references not mentioned": (OC22, unmentioned_references, "energy reference in conflict"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_does_not_fit_is_named(name, tmp_path):
    source, change, match = CHANGES[name]
    refused(edited(source, tmp_path / "old.pt", change), tmp_path, match)


@pytest.mark.parametrize(
    ("parameter", "family"),
    [
        ("module.mlp_rbf_qint.linear.weight", "GemNet-OC"),
        ("layer_blocks.0.message_block.so2_block_source.fc1", "eSCN"),
        ("blocks.0.ffn.so3_linear_1.weight", "EquiformerV2"),
        ("linear.weight", None),
    ],
)
def test_a_family_is_known_by_its_parameters_where_there_is_no_config(parameter, family):
    assert family_of(None, [parameter]) == family


def test_a_file_that_exists_is_not_overwritten_and_a_missing_folder_is_named(tmp_path):
    target = tmp_path / "new.pt"
    target.write_text("mine")
    with pytest.raises(FileExistsError, match="remove it"):
        convert_file(PLAIN, target)
    assert target.read_text() == "mine"
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
    for text, match in (
        (yaml.safe_dump(config), "in conflict.*energy"),
        ("model: [unclosed", "cannot be read"),
        ("a: 1", "has no 'model'"),
    ):
        (tmp_path / "v1.yml").write_text(text)
        refused(PLAIN, tmp_path, match, config=tmp_path / "v1.yml")
